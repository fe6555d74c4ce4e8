"""How long was waited, and when to look again."""

from __future__ import annotations

from caliban.clock import Clock

SHORTEST = 5.0
"""Seconds to the next look after something has changed."""

LONGEST = 60.0
_GROWTH = 1.5


class Pauses:
    """The times between two looks: short after a change, growing while nothing changes."""

    def __init__(self) -> None:
        self._next = SHORTEST

    def changed(self) -> None:
        """Look again soon: where one job has ended, others may end too."""
        self._next = SHORTEST

    def next(self) -> float:
        """Return the seconds to the next look."""
        seconds, self._next = self._next, min(LONGEST, self._next * _GROWTH)
        return seconds


class Elapsed:
    """The time since this was created, by the clock on the wall: that in which a laptop slept counts.

    A clock that is set back does not make it longer: it is at least the time in which the machine was awake.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._awake, self._wall = clock.monotonic(), clock.utc_now()

    @property
    def seconds(self) -> float:
        """How long it is."""
        wall = (self._clock.utc_now() - self._wall).total_seconds()
        return max(wall, self._clock.monotonic() - self._awake)
