"""Give a call that may never return a deadline.

A Docker Engine that is stalled accepts connections and answers nothing; one that sends a byte now and then never
exceeds the timeout of a socket. So the call is made on another thread, and given up at its deadline. Ctrl-C interrupts
the wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from caliban.clock import Clock

_T = TypeVar("_T")

SLOW = 5.0
"""Seconds after which the user gets a word."""

_FOREVER = 3600.0


class DeadlineError(Exception):
    """A call did not return in time. It may still do what was requested."""


class _Call(Generic[_T]):
    def __init__(self, call: Callable[[], _T]) -> None:
        self._call = call
        self.done = threading.Event()
        self._results: list[_T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 - raised again by result(), on the caller's thread
            self._error = error
        finally:
            self.done.set()

    def result(self) -> _T:
        if self._error is not None:
            raise self._error
        return self._results[0]


def within(
    seconds: float | None, call: Callable[[], _T], clock: Clock, on_slow: Callable[[], None] = lambda: None
) -> _T:
    """Return ``call()``, which runs on another thread.

    Args:
        seconds: the deadline; None to wait for as long as it takes.
        call: what to do. It goes on after the deadline, and until the process ends.
        clock: the time, and waiting.
        on_slow: called once where it takes longer than :data:`SLOW`.

    Raises:
        DeadlineError: it has not returned after ``seconds``.
    """
    waiting = _Call(call)
    threading.Thread(target=waiting.run, name="within", daemon=True).start()
    first = SLOW if seconds is None else min(SLOW, seconds)
    if not clock.wait(waiting.done, first):
        on_slow()
        if seconds is None:
            while not clock.wait(waiting.done, _FOREVER):
                pass
        elif not clock.wait(waiting.done, seconds - first):
            raise DeadlineError(f"no answer within {seconds:.0f} s")
    return waiting.result()
