"""Hold Ctrl-C back until a step that must not be interrupted has finished."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def hold_signals(on_first: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block has ended, then raise KeyboardInterrupt if one came.

    An error that the block raised is then the KeyboardInterrupt's context, so the block has to keep what must be
    reported. A signal that this process ignores, as under nohup, stays ignored. In threads other than the main one,
    which Python never interrupts, nothing is done.

    Args:
        on_first: called at once for the first signal, so that the user gets an answer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            on_first()

    handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, receive) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            raise KeyboardInterrupt
