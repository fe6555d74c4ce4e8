"""Read several iterators on threads, each kept from being far ahead of the reader.

A thread that has :data:`MAX_AHEAD` bytes more than the reader took waits. So memory is bounded however much there is,
and a job that writes without end does not hold up the others.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from caliban.clock import Clock

_T = TypeVar("_T")
_E = TypeVar("_E")

MAX_AHEAD = 256 << 10
"""Bytes of each iterator that are kept for the reader."""

_OVERHEAD = 64
"""Bytes that an item counts beside its size: empty lines need memory too."""

SILENCE = 2.0
"""Seconds without an item after which the reader is told."""

TURN = 100
"""Items of one iterator that are taken before it is the next one's turn."""


class AbandonedError(Exception):
    """Nobody reads any more."""


@dataclass(frozen=True)
class End(Generic[_E]):
    """The end of an iterator, with what it returned."""

    result: _E


class Feed(Generic[_T, _E]):
    """What one iterator has yielded and the reader has not taken."""

    def __init__(self, changed: threading.Condition, ready: threading.Event, size: Callable[[_T], int]) -> None:
        self._changed = changed
        self._ready = ready
        self._size_of = size
        self._items: deque[_T] = deque()
        self._size = 0
        self._end: End[_E] | None = None
        self.is_abandoned = False

    def put(self, item: _T) -> None:
        """Add an item; wait while the reader is far behind.

        Raises:
            AbandonedError: nobody reads any more.
        """
        size = self._size_of(item) + _OVERHEAD
        with self._changed:
            self._changed.wait_for(lambda: self.is_abandoned or self._size == 0 or self._size + size <= MAX_AHEAD)
            if self.is_abandoned:
                raise AbandonedError
            self._items.append(item)
            self._size += size
            self._ready.set()

    def end(self, result: _E) -> None:
        """Add the end."""
        with self._changed:
            self._end = End(result)
            self._ready.set()

    def take(self, limit: int) -> tuple[list[_T], End[_E] | None]:
        """Return the next items, up to ``limit``, and the end where it follows them."""
        with self._changed:
            items = [self._items.popleft() for _ in range(min(limit, len(self._items)))]
            self._size -= sum(self._size_of(item) + _OVERHEAD for item in items)
            self._changed.notify_all()
            return items, None if self._items else self._end


Reading = Callable[[Callable[[_T], None]], _E]
"""Calls the function with each item, and returns the result that the end has."""


class Feeds(Generic[_T, _E]):
    """Readings on threads, which a single reader takes the items of.

    Args:
        readings: what to read; an exception in one is raised by the reader's thread.
        size: the size of an item, in bytes.
        threads: how many readings run at a time, in this order.
        clock: waiting.
    """

    def __init__(
        self, readings: Sequence[Reading[_T, _E]], size: Callable[[_T], int], threads: int, clock: Clock
    ) -> None:
        self._changed = threading.Condition()
        self._ready = threading.Event()
        self._clock = clock
        self._readings = readings
        self._feeds: list[Feed[_T, _E]] = [Feed(self._changed, self._ready, size) for _ in readings]
        self._failures: list[BaseException] = []
        self._waiting = deque(range(len(readings)))
        self._threads = min(threads, len(readings))

    def start(self) -> None:
        """Start the threads; they do not delay the end of the process."""
        for number in range(self._threads):
            threading.Thread(target=self._work, name=f"reader_{number}", daemon=True).start()

    def abandon(self) -> None:
        """Let every reading end with its next item."""
        with self._changed:
            self._waiting.clear()
            for feed in self._feeds:
                feed.is_abandoned = True
            self._changed.notify_all()

    def in_order(self, on_silence: Callable[[int], bool]) -> Iterator[tuple[int, list[_T], End[_E] | None]]:
        """Yield all items of the first reading, then those of the second one, and so on.

        Args:
            on_silence: called with the index of a reading that yields nothing for a while; False ends the iteration.
        """
        for index, feed in enumerate(self._feeds):
            end = None
            while end is None:
                self._ready.clear()
                items, end = feed.take(TURN)
                if items or end:
                    yield index, items, end
                elif not self._wait(lambda index=index: on_silence(index)):  # type: ignore[misc]  # mypy: defaults
                    return

    def interleaved(self, on_silence: Callable[[], bool]) -> Iterator[tuple[int, list[_T], End[_E] | None]]:
        """Yield the items of all readings as they come; each has its turn, however much the others have."""
        left = dict(enumerate(self._feeds))
        while left:
            self._ready.clear()
            has_any = False
            for index, feed in list(left.items()):
                items, end = feed.take(TURN)
                if end:
                    del left[index]
                if items or end:
                    has_any = True
                    yield index, items, end
            if not has_any and not self._wait(on_silence):
                return

    def _wait(self, on_silence: Callable[[], bool]) -> bool:
        self._raise_failure()
        is_ready = self._clock.wait_in_background(self._ready, SILENCE)
        self._raise_failure()
        return is_ready or on_silence()

    def _raise_failure(self) -> None:
        if self._failures:
            raise self._failures[0]

    def _work(self) -> None:
        while True:
            try:
                index = self._waiting.popleft()
            except IndexError:
                return
            feed = self._feeds[index]
            try:
                feed.end(self._readings[index](feed.put))
            except AbandonedError:
                return
            except BaseException as error:  # noqa: BLE001 - raised again by the reader's thread
                self._failures.append(error)
                self._ready.set()
                return
