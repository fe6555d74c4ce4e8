"""Look at the sizes of a project's files, without reading any: for ``--dry_run``."""

from __future__ import annotations

from caliban.errors import CalibanError
from caliban.images.context import collect
from caliban.images.secret_rules import SecretFiles
from caliban.images.spec import BuildSpec

MAX_ENTRIES = 50_000
"""Files and directories that are looked at, at most: that takes about a second."""


class _TooMany(Exception):
    """There are more than that."""


def context_warnings(spec: BuildSpec) -> list[str]:
    """Return warnings about what is probably in the image by accident, and why it could not be built.

    Args:
        spec: what would be built.
    """
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen > MAX_ENTRIES:
            raise _TooMany

    try:
        context = collect(spec, "", {}, SecretFiles(), count)
    except _TooMany:
        return [f"the build context has more than {MAX_ENTRIES:,} files; their sizes are not looked at in a dry run"]
    except CalibanError as error:
        return [error.message]
    return context.size_warnings()
