"""Call functions on threads that do not outlive an impatient user.

Every wait can be interrupted at any moment by a signal whose handler raises, as Ctrl-C does: the threads are left
behind then, and do not delay the end of the process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from caliban.bounded import DeadlineExceededError
from caliban.clock import Clock
from caliban.errors import CalibanError

_K = TypeVar("_K", bound=Hashable)
_T = TypeVar("_T")

SLOW = 5.0
"""Seconds after which a message says what is waited for."""

_MAX_PLACES = 16
_MAX_UNREAD = 1000
"""Items that are kept for a consumer that is slow."""


def within(
    seconds: float,
    call: Callable[[], _T],
    clock: Clock,
    on_slow: Callable[[], None] = lambda: None,
    *,
    late: str = "no answer",
) -> _T:
    """Return ``call()``, which may never return: it runs on another thread, and is given up at the deadline.

    Args:
        seconds: the deadline.
        call: what to do. It goes on after the deadline, and until the process ends: it may still take effect.
        clock: the time, and waiting.
        on_slow: called once where it takes longer than :data:`SLOW`.
        late: what did not happen in time, for the message.

    Raises:
        DeadlineExceededError: it has not returned after ``seconds``.
    """
    done = threading.Event()
    results: list[_T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            failures.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="within", daemon=True).start()
    first = min(SLOW, seconds)
    if not clock.wait(done, first):
        on_slow()
        if not clock.wait(done, seconds - first):
            raise DeadlineExceededError(f"{late} within {seconds:.0f} s")
    if failures:
        raise failures[0]
    return results[0]


def side_by_side(calls: Mapping[_K, Callable[[], _T]]) -> dict[_K, _T | CalibanError]:
    """Return the result of each call, or the error that it raised. Sixteen calls run at a time.

    Anything but a :class:`~caliban.errors.CalibanError` is raised, at once.
    """
    results: dict[_K, _T | CalibanError] = {}
    for key, result in _as_they_end(calls, _MAX_PLACES):
        if isinstance(result, BaseException) and not isinstance(result, CalibanError):
            raise result
        results[key] = result
    return {key: results[key] for key in calls}


def call_on_threads(calls: Sequence[Callable[[], None]], threads: int) -> None:
    """Make all calls, ``threads`` at a time, and wait for them. An exception is raised again, once all have ended."""
    ended = list(_as_they_end(dict(enumerate(calls)), threads))
    for _, result in ended:
        if result is not None:
            raise result


def _as_they_end(calls: Mapping[_K, Callable[[], _T]], threads: int) -> Iterator[tuple[_K, _T | BaseException]]:
    """Make all calls, and yield what each returned or raised, in the order in which they ended."""
    waiting: queue.SimpleQueue[_K] = queue.SimpleQueue()
    for key in calls:
        waiting.put(key)
    ended: queue.SimpleQueue[tuple[_K, _T | BaseException]] = queue.SimpleQueue()

    def work() -> None:
        while True:
            try:
                key = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                ended.put((key, calls[key]()))
            except BaseException as error:  # noqa: BLE001 - for the caller's thread
                ended.put((key, error))

    for number in range(min(threads, len(calls))):
        threading.Thread(target=work, name=f"worker_{number}", daemon=True).start()
    for _ in calls:
        yield ended.get()


class Watch(Protocol):
    """Decides for how long :func:`watched` waits."""

    def on_silence(self, seconds: float) -> BaseException | None:
        """Do something about a silence that has lasted for ``seconds``; return an error to end the wait with it."""

    def on_progress(self) -> None:
        """Note that the silence is over."""


Producer: TypeAlias = Callable[[Callable[[], None]], Generator[_T, None, None]]


class AbandonedError(Exception):
    """Nobody waits any more for what this thread does."""


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


class _Production(Generic[_T]):
    """What a thread yields, and whether anybody wants it."""

    def __init__(self, produce: Producer[_T]) -> None:
        self.is_ready = threading.Event()
        self._is_abandoned = threading.Event()
        self._items: queue.Queue[_T | _End] = queue.Queue(_MAX_UNREAD)
        self._produce = produce

    def work(self) -> None:
        """Produce everything; run on the thread."""
        try:
            with closing(self._produce(self.go_on)) as items:
                for item in items:
                    self._put(item)
                    self.go_on()
        except BaseException as error:  # noqa: BLE001 - raised again by the consumer's thread
            self._put(_End(error))
        else:
            self._put(_End())

    def go_on(self) -> None:
        """Note progress."""
        if self._is_abandoned.is_set():
            raise AbandonedError
        self.is_ready.set()

    def take(self) -> Iterator[_T | _End]:
        """Yield what is there."""
        self.is_ready.clear()
        while True:
            try:
                yield self._items.get_nowait()
            except queue.Empty:
                return

    def abandon(self) -> None:
        """Let the thread end as soon as it notices."""
        self._is_abandoned.set()
        for _ in self.take():  # it may wait for room
            pass

    def _put(self, item: _T | _End) -> None:
        self._items.put(item)
        self.is_ready.set()


def watched(produce: Producer[_T], clock: Clock, watch: Watch, interval: float) -> Generator[_T, None, None]:
    """Yield what ``produce`` yields on another thread, and ask ``watch`` about each interval in which nothing comes.

    Whoever leaves the iteration early has to close it, so that the thread ends with the next item.

    Args:
        produce: returns what is iterated over. It gets a function to call when something goes on without an item,
            which raises :class:`AbandonedError` when nobody waits any more.
        clock: the time, and waiting.
        watch: decides whether a silence goes on.
        interval: seconds.

    Raises:
        BaseException: what the thread raised, or ``watch`` returned.
    """
    production = _Production(produce)
    threading.Thread(target=production.work, name="watched", daemon=True).start()
    since = clock.monotonic()
    try:
        while True:
            if not clock.wait(production.is_ready, interval):
                error = watch.on_silence(clock.monotonic() - since)
                if error is not None and not production.is_ready.is_set():
                    raise error
                continue
            watch.on_progress()
            for item in production.take():
                if not isinstance(item, _End):
                    yield item
                elif item.error is not None:
                    raise item.error
                else:
                    return
            since = clock.monotonic()
    finally:
        production.abandon()
