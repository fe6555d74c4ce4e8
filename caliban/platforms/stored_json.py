"""Read values of stored JSON (``jobs.details``). Nothing raises: what is missing or malformed is None.

Imports only records and the standard library: listings read the details of thousands of jobs.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timezone

from caliban.records import FailureCause, JsonObject

REMOVE_KEY = "remove_when_ended"
"""True where what a job leaves on its platform is to be removed once its end is recorded; the same on every platform.
It is taken out when that is done."""

_MAX_LINE = 300
# Python does not read the nanoseconds that some services write.
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,6})?\d*(Z|[+-]\d\d:\d\d)")


def text(raw: JsonObject, key: str) -> str | None:
    """Return the text stored under ``key``; None for anything else, and for an empty text."""
    value = raw.get(key)
    return value if isinstance(value, str) and value else None


def integer(raw: JsonObject, key: str) -> int | None:
    """Return the integer stored under ``key``; None for anything else."""
    value = raw.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def timestamp(raw: JsonObject, key: str) -> datetime | None:
    """Return the time stored under ``key``, in UTC, or None."""
    return parse_time(raw.get(key))


def parse_time(value: object) -> datetime | None:
    """Return a time (RFC 3339, with any number of digits after the second) in UTC; None for anything else."""
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    seconds, fraction, zone = found.groups()
    with suppress(ValueError, OverflowError):  # no such day, or a time before year 1 in UTC
        text = f"{seconds}{(fraction or '.').ljust(7, '0')}{zone.replace('Z', '+00:00')}"
        return datetime.fromisoformat(text).astimezone(timezone.utc)
    return None


def utc_text(value: object) -> str | None:
    """Return a time as it is stored: ISO 8601, in UTC; None for anything that is not a time."""
    time = parse_time(value)
    return time.isoformat() if time else None


def failure_cause(raw: JsonObject) -> FailureCause | None:
    """Return the failure cause stored under ``cause``, or None."""
    try:
        return FailureCause(text(raw, "cause"))
    except ValueError:
        return None


def one_line(words: str | None) -> str | None:
    """Return ``words`` in one line of bounded length; None where nothing is left."""
    line = " ".join((words or "").split())
    return (line if len(line) <= _MAX_LINE else f"{line[: _MAX_LINE - 3]}...") or None
