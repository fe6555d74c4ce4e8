"""The time of the process, as one object that tests replace so that no test waits."""

from __future__ import annotations

import time
from datetime import datetime
from threading import Event
from typing import Protocol


class Clock(Protocol):
    """Reads the time, and waits."""

    def now(self) -> datetime:
        """Return the local time, naive, as the store records it."""

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences mean anything."""

    def wait(self, event: Event, seconds: float) -> bool:
        """Wait until ``event`` is set, ``seconds`` at most; return whether it is set."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """See :meth:`Clock.now`."""
        return datetime.now()

    def monotonic(self) -> float:
        """See :meth:`Clock.monotonic`."""
        return time.monotonic()

    def wait(self, event: Event, seconds: float) -> bool:
        """See :meth:`Clock.wait`."""
        return event.wait(seconds)
