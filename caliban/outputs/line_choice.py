r"""Choose lines of a job's output: those that match a regular expression, and the last ones.

A line ends with a line break. A progress bar, which a job draws over itself with ``\r``, is one line.
"""

from __future__ import annotations

import re
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from caliban.errors import UsageError
from caliban.input_files import shortened
from caliban.records import OutputLine

MAX_LINE = 1 << 20
"""Bytes of a line; the rest of a longer one counts as another line."""

MAX_KEPT = 16 << 20
"""Bytes of the last lines that are kept."""

_SECONDS = 2.0
"""Of computing time, for one line: a pattern with nested repetitions may need years."""

_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
"""Colours and the like: ECMA-48, CSI, OSC and two-byte sequences."""


def text_of(data: bytes) -> str:
    r"""Return a line as text, without its line break; bytes that are not UTF-8 as ``\xff``."""
    return data.removesuffix(b"\n").decode("utf-8", "backslashreplace")


def line_break(data: bytes) -> bytes:
    """Return the line break at the end of a line; nothing where it has none."""
    return b"\n" if data.endswith(b"\n") else b""


def updates(data: bytes) -> list[bytes]:
    r"""Return what a line shows one after the other: of ``10 %\r20 %\n``, ``10 %`` and ``20 %``."""
    return [part for part in data.removesuffix(b"\n").split(b"\r") if part] or [b""]


def as_drawn(line: OutputLine) -> OutputLine:
    """Return a line as it is shown in the end: of a progress bar, only its last update."""
    if b"\r" not in line.data:
        return line
    return replace(line, data=updates(line.data)[-1] + line_break(line.data))


class WholeLines:
    """Joins the pieces in which a long line, or one that is being written, comes."""

    def __init__(self) -> None:
        self._begun: dict[tuple[str | None, bool], OutputLine] = {}

    def add(self, line: OutputLine) -> Iterator[OutputLine]:
        """Yield the line that a piece completes."""
        key = (line.source, line.is_stderr)
        begun = self._begun.pop(key, None)
        joined = line if begun is None else replace(begun, data=begun.data + line.data)
        if joined.data.endswith(b"\n") or len(joined.data) >= MAX_LINE:
            yield joined
        else:
            self._begun[key] = joined

    def rest(self) -> Iterator[OutputLine]:
        """Yield the lines that have no line break at the end of the output."""
        yield from self._begun.values()
        self._begun.clear()


class LastLines:
    """The last lines, as many as wanted, as far as they fit in :data:`MAX_KEPT`.

    Attributes:
        is_cut: whether lines were dropped that were wanted.
    """

    def __init__(self, number: int) -> None:
        self._lines: deque[OutputLine] = deque()
        self._number = number
        self._size = 0
        self.is_cut = False

    def add(self, line: OutputLine) -> None:
        """Add a line; drop the first one where there are too many."""
        self._lines.append(line)
        self._size += len(line.data)
        if len(self._lines) > self._number:
            self._drop()
        while self._size > MAX_KEPT and len(self._lines) > 1:
            self._drop()
            self.is_cut = True

    def take(self) -> list[OutputLine]:
        """Return the lines, and forget them."""
        lines = list(self._lines)
        self._lines.clear()
        self._size = 0
        return lines

    def _drop(self) -> None:
        self._size -= len(self._lines.popleft().data)


class Pattern:
    """A regular expression, in the syntax of Python, that lines are searched for.

    Args:
        text: as typed.

    Raises:
        ValueError: it is not one; the message says why.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about what another version of Python may understand otherwise
                self._compiled = re.compile(text)
        except (re.error, OverflowError, RecursionError, MemoryError) as error:
            raise ValueError(str(error) or type(error).__name__) from error

    def matching(self, lines: Iterable[OutputLine]) -> list[OutputLine]:
        r"""Return the lines that have a match, colours left out. Of a progress bar, each update is searched.

        Raises:
            UsageError: ``pattern-too-slow``.
        """
        with _limited(self.text) as restart:
            return [found for line in lines if (found := self._match(line, restart)) is not None]

    def _match(self, line: OutputLine, restart: Callable[[], None]) -> OutputLine | None:
        """Return a line, of a progress bar its last update that has a match; None where there is none."""
        restart()
        for part in reversed(updates(line.data)):
            if self._compiled.search(_ESCAPE_SEQUENCE.sub("", part.decode("utf-8", "backslashreplace"))):
                return replace(line, data=part + line_break(line.data))
        return None


class _TooSlowError(Exception):
    """A search needs too much time."""


@contextmanager
def _limited(pattern: str) -> Iterator[Callable[[], None]]:
    """Limit the computing time of each search of a block, which looks at signals and at nothing else.

    Only the main thread of a process handles signals; the commands search on that one.

    Yields:
        A function to call before each search.

    Raises:
        UsageError: ``pattern-too-slow``.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = signal.signal(signal.SIGVTALRM, _raise_too_slow)
    try:
        yield lambda: _set_timer(_SECONDS)
    except _TooSlowError:
        raise UsageError(
            "pattern-too-slow",
            f'the regular expression "{shortened(pattern)}" takes too long on a line of the output',
            hint="nested repetitions such as (a*)* take exponential time; write a simpler one",
        ) from None
    finally:
        _set_timer(0)
        signal.signal(signal.SIGVTALRM, before)


def _set_timer(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)


def _raise_too_slow(number: int, frame: FrameType | None) -> None:
    raise _TooSlowError
