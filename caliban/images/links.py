"""Links of a project that lead out of its directory."""

from __future__ import annotations

from pathlib import Path

from caliban.errors import ImageError


def leads_out(relative: str, root: Path, remedy: str) -> ImageError:
    """Return the error for a link that leads out of the project's directory, with what to do about it."""
    return ImageError(
        "folder-leads-out",
        f"cannot build the image: {relative} is a link to a path outside {root}",
        hint=f"{remedy}: images contain files of the project's directory only",
    )
