"""Where the output of jobs ends: whether the next line of ours, or a progress bar, would continue a line of theirs."""

from __future__ import annotations

import os
import re
from typing import TextIO

_LOOK_BACK = 4096
_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
"""Sequences that move nothing on: colours, the visibility of the cursor, titles of windows (ECMA-48, CSI and OSC)."""

_STYLE = re.compile(rb"\x1b\[([0-9;:]*)m")
_PLAIN = re.compile(rb"(.*;)?0*", re.DOTALL)
_RESET = "\x1b[0m"


class JobRows:
    """What jobs wrote last, on each stream."""

    def __init__(self) -> None:
        self._unfinished: list[TextIO] = []  # where the last line has no line break yet
        self._styled: list[TextIO] = []  # terminals whose style a job has changed, and not reset

    def written(self, stream: TextIO, data: bytes) -> None:
        """Note what a job has written to a stream."""
        end = data[-_LOOK_BACK:]
        shown = _ESCAPES.sub(b"", end)
        if shown:
            _set(self._unfinished, stream, not shown.rstrip(b"\r").endswith(b"\n"))
        if b"\x1b" in end and _is_terminal(stream) and (styles := _STYLE.findall(end)):
            _set(self._styled, stream, not _PLAIN.fullmatch(styles[-1]))

    def before_theirs(self, stream: TextIO) -> str:
        """Return what has to be written to a terminal first, so that one stream does not overwrite the other's line.

        Docker delivers what has no line break when the job ends, in any order: also a bar that the job drew before.
        """
        others = [each for each in self._unfinished if each is not stream and _are_one(stream, each)]
        if not others or not _is_terminal(stream):
            return ""
        for other in others:
            _set(self._unfinished, other, False)
        return "\n"

    def is_taken(self, stream: TextIO) -> bool:
        """Return whether the row where a stream continues has output of a job."""
        return any(_are_one(stream, each) for each in self._unfinished)

    def before_ours(self, stream: TextIO) -> str:
        """Return what has to be written first, so that text of ours starts on a row of its own, without colours."""
        first = _RESET if any(_are_one(stream, each) for each in self._styled) else ""
        first += "\n" if self.is_taken(stream) else ""
        self._unfinished = [each for each in self._unfinished if not _are_one(stream, each)]
        self._styled = [each for each in self._styled if not _are_one(stream, each)]
        return first


def _set(streams: list[TextIO], stream: TextIO, is_in: bool) -> None:
    if any(each is stream for each in streams) != is_in:
        streams[:] = [*streams, stream] if is_in else [each for each in streams if each is not stream]


def _are_one(one: TextIO, other: TextIO) -> bool:
    """Return whether two streams end up in the same file or terminal: ``2>&1``."""
    if one is other:
        return True
    if _is_terminal(one) and _is_terminal(other):  # a terminal has several names, such as /dev/tty
        return True
    try:
        return os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno()))
    except (OSError, ValueError, AttributeError):  # a stream of tests, or one that is closed
        return False


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # it is closed
        return False
