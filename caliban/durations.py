"""Durations as people type and read them."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_PART = re.compile(
    r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(weeks?|w|days?|d|hours?|h|min(?:ute)?s?|m|sec(?:ond)?s?|s)", re.IGNORECASE
)
_DURATION = re.compile(rf"(?:{_PART.pattern}\s*)+", re.IGNORECASE)


def parse_duration(text: str) -> timedelta | None:
    """Return the duration that a text says: ``2d``, ``3h``, ``90m``, ``1h30m``, ``1.5 h``, ``2 weeks``.

    Returns:
        None where it is not a duration with units, or one of more than some million years.
    """
    if not _DURATION.fullmatch(text.strip()):
        return None
    seconds = sum(float(number) * _UNITS[unit[0].lower()] for number, unit in _PART.findall(text))
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        return None


def duration_text(seconds: float) -> str:
    """Return a duration in at most two units: ``45s``, ``1m 05s``, ``2h 03m``, ``3d 04h``."""
    total = max(0, int(seconds))
    if total < 60:
        return f"{total}s"
    if total < 3600:
        return f"{total // 60}m {total % 60:02d}s"
    if total < 86_400:
        return f"{total // 3600}h {total % 3600 // 60:02d}m"
    return f"{total // 86_400}d {total % 86_400 // 3600:02d}h"


def ago_text(seconds: float) -> str:
    """Return how long ago something was, in one unit: ``just now``, ``5 min ago``, ``3 hours ago``, ``2 days ago``."""
    total = int(seconds)
    if total < 60:
        return "just now"
    if total < 3600:
        return f"{total // 60} min ago"
    number, unit = (total // 3600, "hour") if total < 86_400 else (total // 86_400, "day")
    return f"{number} {unit}{'' if number == 1 else 's'} ago"
