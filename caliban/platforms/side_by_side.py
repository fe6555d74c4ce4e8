"""Ask several places at the same time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from caliban.errors import CalibanError

_K = TypeVar("_K", bound=Hashable)
_T = TypeVar("_T")

_MAX_THREADS = 16


def side_by_side(calls: Mapping[_K, Callable[[], _T]]) -> dict[_K, _T | CalibanError]:
    """Return the result of each call, or the error that it raised. The calls run on threads, sixteen at a time.

    The caller can be interrupted at any time, as by Ctrl-C: the threads are left behind, and do not delay the end of
    the process.
    """
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
            except BaseException as error:  # noqa: BLE001 - raised by the caller below
                ended.put((key, error))

    for _ in range(min(len(calls), _MAX_THREADS)):
        threading.Thread(target=work, name="side-by-side", daemon=True).start()
    results: dict[_K, _T | CalibanError] = {}
    for _ in calls:
        key, result = ended.get()
        if isinstance(result, BaseException) and not isinstance(result, CalibanError):
            raise result
        results[key] = result
    return {key: results[key] for key in calls}
