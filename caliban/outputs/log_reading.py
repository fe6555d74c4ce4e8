"""Read the log file of a job on this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from pathlib import Path

from caliban.errors import CalibanError
from caliban.outputs.line_choice import MAX_LINE, LastLines
from caliban.records import OutputLine


def read_log_file(path: Path, tail: int | None) -> Generator[OutputLine, None, None]:
    """Yield the lines of a log file, oldest first; only the last ``tail``, where that is not None.

    Raises:
        CalibanError: ``output-unreadable``.
    """
    lines = _lines(path)
    if tail is None:
        yield from lines
        return
    last = LastLines(tail)
    for line in lines:
        last.add(line)
    yield from last.take()


def _lines(path: Path) -> Generator[OutputLine, None, None]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(f"{path.name} is not a regular file")
            while data := file.readline(MAX_LINE):
                yield OutputLine(data)
    except OSError as error:
        raise CalibanError(
            "output-unreadable", f"cannot read the log file {path}", cause=error.strerror or str(error)
        ) from error
