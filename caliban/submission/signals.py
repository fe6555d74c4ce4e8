"""Ctrl-C that waits until what must not be cut in two is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def hold_signals(when_one_comes: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block has ended, then raise KeyboardInterrupt if one came.

    An error that the block raised is the KeyboardInterrupt's context then, so the block had better keep what it wants
    told. A signal that this process ignores, as one under nohup does, stays ignored. In any thread but the main one,
    which Python never interrupts, nothing is done.

    Args:
        when_one_comes: called at once for the first, so that a person is not left wondering.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) == 1:
            when_one_comes()

    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            raise KeyboardInterrupt
