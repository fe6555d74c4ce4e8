"""Ctrl-C that waits until what must not be cut in two is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupts_held(when_one_comes: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block is done, then raise KeyboardInterrupt if one came.

    In any thread but the main one, which Python never interrupts, it does nothing.

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

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt
