"""Take selected jobs over to the platform that was named, without asking anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from caliban.errors import CalibanError, PlatformError
from caliban.platforms.base import MigrationTarget, Platforms
from caliban.records import JobRecord, PlatformName
from caliban.resubmit.selection import Selection


@dataclass(frozen=True)
class Moved:
    """What came of it.

    Attributes:
        selection: the same experiments; the patterns of those that were moved are as if they had run on the platform.
        lost: what is not as it was, a line each, by ``experiments.id``.
        problems: why some experiments cannot be moved, likewise.
    """

    selection: Selection
    lost: Mapping[int, tuple[str, ...]]
    problems: Mapping[int, CalibanError]


def move(selection: Selection, platforms: Platforms, name: PlatformName | None) -> Moved:
    """Say in the terms of the platform ``name`` what the jobs of others ran; None leaves each where it ran."""
    lost: dict[int, tuple[str, ...]] = {}
    problems: dict[int, CalibanError] = {}
    selected = []
    for each in selection.selected:
        pattern = each.pattern
        if name is not None and pattern.platform is not name:
            try:
                pattern, lost[each.experiment.id] = _moved(pattern, platforms, name)
            except CalibanError as error:
                problems[each.experiment.id] = error
        selected.append(replace(each, pattern=pattern))
    return Moved(replace(selection, selected=tuple(selected)), lost, problems)


def _moved(job: JobRecord, platforms: Platforms, name: PlatformName) -> tuple[JobRecord, tuple[str, ...]]:
    platform = platforms.get(name)
    if not isinstance(platform, MigrationTarget):
        raise PlatformError("not-translatable", f"{name} takes no jobs of other platforms over")
    translation = platform.translate(job)
    return replace(job, platform=name, spec=translation.spec, details=translation.details), translation.lost
