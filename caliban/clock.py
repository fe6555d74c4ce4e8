"""The time of the process, as one object that tests replace so that no test waits."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from threading import Event
from typing import Protocol


class Clock(Protocol):
    """Reads the time, and waits."""

    def now(self) -> datetime:
        """Return the local time, naive, as the store records it."""

    def utc_now(self) -> datetime:
        """Return the time with its time zone, UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences mean anything."""

    def wait(self, event: Event, seconds: float) -> bool:
        """Wait until ``event`` is set, ``seconds`` at most; return whether it is set."""

    def wait_in_background(self, event: Event, seconds: float) -> bool:
        """Do the same on a thread that works beside the command; clocks of tests only wait for ``event``."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """See :meth:`Clock.now`."""
        return datetime.now()

    def utc_now(self) -> datetime:
        """See :meth:`Clock.utc_now`."""
        return datetime.now(timezone.utc)

    def monotonic(self) -> float:
        """See :meth:`Clock.monotonic`."""
        return time.monotonic()

    def wait(self, event: Event, seconds: float) -> bool:
        """See :meth:`Clock.wait`."""
        return event.wait(seconds)

    def wait_in_background(self, event: Event, seconds: float) -> bool:
        """See :meth:`Clock.wait_in_background`."""
        return event.wait(seconds)


def local_text(moment: datetime) -> str:
    """Return a time as people read it: in the local time zone, which is named."""
    try:
        return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"
    except (OverflowError, ValueError, OSError):  # a year that no machine has seen
        return str(moment)


def rfc3339(moment: datetime, *, precise: bool = False) -> str:
    """Return a time for programs, in UTC: ``2026-11-25T02:10:13Z``.

    Args:
        moment: with a zone, as platforms report it, or without, as the store has ``jobs.created``: local time of this
            machine.
        precise: with microseconds.
    """
    try:
        moment = moment.astimezone(timezone.utc)
    except (OverflowError, ValueError, OSError):  # a year that no machine has seen
        moment = moment.replace(tzinfo=timezone.utc)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds' if precise else 'seconds')}Z"
