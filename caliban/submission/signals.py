"""Hold Ctrl-C back until a step that must not be interrupted has finished."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType

from caliban.clock import Clock, SystemClock

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

INSIST_AFTER = 0.3
"""Seconds after the first signal from which on another one is not held back: the user does not want to wait any longer.
One that comes earlier is the same key press, or the same process manager, again."""


class HeldSignals:
    """The signals of a block; see :func:`hold_signals`."""

    def __init__(self, on_first: Callable[[], None], clock: Clock) -> None:
        self._on_first = on_first
        self._clock = clock
        self._first: float | None = None
        self._is_released = False
        self._is_raised = False

    @property
    def received(self) -> bool:
        """Whether a signal has come."""
        return self._first is not None

    @contextmanager
    def released(self) -> Iterator[None]:
        """Raise KeyboardInterrupt within this block: for a signal that has come already, or as soon as one comes.

        It is raised once. The handling of it is not interrupted by the next signal, however soon that comes.
        """
        self._is_released = True
        try:
            if self.received:
                self._raise_once()
            yield
        finally:
            self._is_released = False

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        now = self._clock.monotonic()
        if self._first is None:
            self._first = now
            if not self._is_released:
                self._report()
        elif now - self._first >= INSIST_AFTER:
            raise KeyboardInterrupt
        if self._is_released:
            self._raise_once()

    def raise_received(self) -> None:
        """Raise KeyboardInterrupt if a signal has come."""
        if self.received:
            raise KeyboardInterrupt

    def _report(self) -> None:
        # a terminal that is gone, or a line that was just being written, must not interrupt the block
        with suppress(OSError, RuntimeError, ValueError):
            self._on_first()

    def _raise_once(self) -> None:
        if not self._is_raised:
            self._is_raised = True
            self._is_released = False
            raise KeyboardInterrupt


@contextmanager
def hold_signals(on_first: Callable[[], None] = lambda: None, clock: Clock | None = None) -> Iterator[HeldSignals]:
    """Hold SIGINT and SIGTERM back until the block has ended, then raise KeyboardInterrupt if one came.

    Another signal that comes :data:`INSIST_AFTER` seconds after the first one, or later, raises it at once. An error
    that the block raised is the KeyboardInterrupt's context, so the block has to keep what must be reported. A signal
    that this process ignores, as under nohup, stays ignored. In threads other than the main one, which Python never
    interrupts, nothing is done.

    Args:
        on_first: called at once for the first signal, so that the user gets an answer.
        clock: tells how much later the next signal comes; None for that of this machine.
    """
    held = HeldSignals(on_first, clock or SystemClock())
    if threading.current_thread() is not threading.main_thread():
        yield held
        return
    with ExitStack() as at_end:
        at_end.callback(held.raise_received)
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                at_end.callback(signal.signal, number, signal.signal(number, held.receive))
        yield held
