r"""Progress bars in output that goes to files and pipes: only the last state of each.

A program redraws a bar by a carriage return (``\r``) without a line break, some ten times a second; a terminal shows
the last state, and a file gets a line of megabytes. Here, a line becomes what follows its last carriage return.

Everything else stays byte for byte: lines without a carriage return, those that end with one (``\r\n``), and all of a
stream from its first byte on that is not text: from a NUL or another control character that no text has, or from bytes
that are not UTF-8.
"""

from __future__ import annotations

import re

MAX_HELD = 1 << 16
"""Bytes of an unfinished line that are held back, until it is clear what it is."""

_NOT_TEXT = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
"""Control characters of no text: all but BEL, BS, TAB, LF, VT, FF, CR and ESC."""

_REPLACED = "\ufffd".encode()
"""What Docker's logs have in place of a byte that is not UTF-8."""


class LastStates:
    """One stream of a job, in whole lines."""

    def __init__(self) -> None:
        self._held = b""  # the unfinished line, as far as it was not passed on
        self._is_raw = False  # the stream is not text
        self._is_long = False  # the line is too long to be held back, and no bar

    def feed(self, data: bytes) -> bytes:
        """Return what can be passed on, after some more of the stream."""
        if self._is_raw:
            return data
        held = self._held + data
        complete, line_break, self._held = held.rpartition(b"\n")
        if not _is_text(complete + line_break) or _NOT_TEXT.search(self._held):
            return self._give_up(held)
        passed_on = self._complete_lines(complete + line_break) if line_break else b""
        return passed_on + (self._long_line() if len(self._held) > MAX_HELD else b"")

    def flush(self) -> bytes:
        """Return what is held back of an unfinished line, at the end of the stream or before a line of ours."""
        held, self._held = self._held, b""
        if not _is_text(held):
            self._is_raw = True
            return held
        passed_on = held if self._is_long else _last_state(held)
        self._is_long = False
        return passed_on

    def _give_up(self, held: bytes) -> bytes:
        self._is_raw, self._held = True, b""
        return held

    def _complete_lines(self, lines: bytes) -> bytes:
        first = b""
        if self._is_long:
            first, line_break, lines = lines.partition(b"\n")
            first, self._is_long = first + line_break, False
        if b"\r" not in lines:
            return first + lines
        return first + b"".join(map(_last_state, _lines(lines)))

    def _long_line(self) -> bytes:
        """Return what is passed on of a line that is too long: nothing of a bar, everything of another line."""
        state = _last_state(self._held)
        if not self._is_long and len(state) <= MAX_HELD and _is_text(self._held[: -len(state) or None]):
            self._held = state
            return b""
        held, self._held, self._is_long = self._held, b"", True
        return held


def last_states(data: bytes) -> bytes:
    """Return all of a stream as files get it."""
    states = LastStates()
    return states.feed(data) + states.flush()


def _lines(data: bytes) -> list[bytes]:
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


def _last_state(line: bytes) -> bytes:
    text = line.rstrip(b"\r\n")
    return line[text.rfind(b"\r") + 1 :]


def _is_text(data: bytes) -> bool:
    if data.isascii():
        return not _NOT_TEXT.search(data)
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return not _NOT_TEXT.search(data) and _REPLACED not in data
