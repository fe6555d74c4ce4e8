"""The output of jobs: the file ``output`` in the directory of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from caliban.platforms.base import LogRequest
from caliban.records import OutputLine

_POLL = 0.2
"""Seconds between two looks at the file of a job that runs."""

_MAX_LINE = 1 << 16
"""Bytes of a line that are read at a time."""


def read(
    file: Path, request: LogRequest, is_running: Callable[[], bool], wait: Callable[[float], bool]
) -> Iterator[OutputLine]:
    """Yield the lines of a file; with ``follow``, until the job ends.

    Args:
        file: what the job writes to.
        request: which lines.
        is_running: returns whether the job runs.
        wait: waits for some seconds; returns whether to stop.
    """
    with file.open("rb") as output:
        part = b""
        if request.tail is not None:
            last = deque(iter(lambda: output.readline(_MAX_LINE), b""), maxlen=request.tail)
            yield from map(OutputLine, last)
        while True:
            runs = request.follow and is_running()  # before the file is read: then nothing comes after it
            while line := output.readline(_MAX_LINE):
                part += line
                if part.endswith(b"\n") or len(part) >= _MAX_LINE:
                    yield OutputLine(part)
                    part = b""
            if not runs or wait(_POLL):
                break
        if part:
            yield OutputLine(part)
