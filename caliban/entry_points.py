"""Read the entry points of installed packages, also where a package is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib import metadata


def entry_points(group: str) -> tuple[list[metadata.EntryPoint], list[str]]:
    """Return the entry points of a group, none of them imported.

    Returns:
        The entry points; and, for each package whose metadata cannot be read, its directory and why.
    """
    from importlib import metadata  # it takes as long as all of caliban that help needs

    try:
        return list(metadata.entry_points(group=group)), []
    except Exception:  # noqa: BLE001 - one damaged package: find out which, and go on without it
        return _of_each_package(group)


def _of_each_package(group: str) -> tuple[list[metadata.EntryPoint], list[str]]:
    from importlib import metadata

    found: dict[tuple[str, str], metadata.EntryPoint] = {}
    damaged: list[str] = []
    for package in metadata.distributions():
        try:
            for point in package.entry_points:
                if point.group == group:
                    found.setdefault((point.name, point.value), point)
        except Exception as error:  # noqa: BLE001 - as above
            damaged.append(f"{getattr(package, '_path', 'a package')}: {type(error).__name__}: {error}")
    return list(found.values()), damaged
