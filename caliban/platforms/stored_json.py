"""Read values of stored JSON (``jobs.details``). Nothing raises: what is missing or malformed is None.

Imports only records and the standard library: listings read the details of thousands of jobs.
"""

from __future__ import annotations

from datetime import datetime

from caliban.records import FailureCause, JsonObject

_MAX_LINE = 300


def text(raw: JsonObject, key: str) -> str | None:
    """Return the text stored under ``key``; None for anything else, and for an empty text."""
    value = raw.get(key)
    return value if isinstance(value, str) and value else None


def timestamp(raw: JsonObject, key: str) -> datetime | None:
    """Return the time stored under ``key`` (ISO 8601 with an offset from UTC), or None."""
    try:
        time = datetime.fromisoformat(text(raw, key) or "")
    except ValueError:
        return None
    return time if time.tzinfo else None


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
