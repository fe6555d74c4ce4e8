"""Call functions on a few threads, which do not outlive an impatient user."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence


def call_on_threads(calls: Sequence[Callable[[], None]], threads: int) -> None:
    """Make all calls, ``threads`` at a time, and wait for them. An exception is raised again, once all have ended.

    The wait can be interrupted at any moment by a signal whose handler raises: the threads are left behind then, and
    do not delay the end of the process.
    """
    waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    for call in calls:
        waiting.put(call)
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        while True:
            try:
                call = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
                ended.put(error)
            else:
                ended.put(None)

    for number in range(min(threads, len(calls))):
        threading.Thread(target=work, name=f"submit_{number}", daemon=True).start()
    errors = [error for error in (ended.get() for _ in calls) if error is not None]
    if errors:
        raise errors[0]
