"""What a terminal can show: its size, and colours for the states of jobs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TextIO

# xterm's control sequences (ctlseqs): the alternate screen, the cursor, automatic line breaks.
ENTER_LIVE = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
"""Shows the other screen, without a cursor; lines that are too long are cut, also while the terminal is resized."""
LEAVE_LIVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"

_RESET = "\x1b[0m"
_COLOURS = {
    "SUCCEEDED": "\x1b[32m",
    "FAILED": "\x1b[31m",
    "STOPPED": "\x1b[33m",
    "RUNNING": "\x1b[36m",
    "SUBMITTED": "\x1b[36m",
    "UNKNOWN": "\x1b[35m",
}
_STATE = re.compile(rf"(?P<before> *(?:attempt \d+ +)?job \d+ +)(?P<state>{'|'.join(_COLOURS)})(?= )")


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal."""
    try:
        return stream.isatty()
    except ValueError:  # it is closed
        return False


def can_move_cursor(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether a stream is a terminal that understands more than text."""
    return is_terminal(stream) and environ.get("TERM", "") not in ("", "dumb")


def has_colours(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether colours are shown: on terminals, unless ``$NO_COLOR`` is set (https://no-color.org)."""
    return can_move_cursor(stream, environ) and not environ.get("NO_COLOR")


def size_of(stream: TextIO, environ: Mapping[str, str]) -> os.terminal_size | None:
    """Return the size of a terminal; ``$COLUMNS`` and ``$LINES`` where it does not tell, None where it is not known."""
    if not is_terminal(stream):
        return None
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):  # a stream of tests
        size = os.terminal_size((0, 0))
    columns, lines = size.columns or _number(environ.get("COLUMNS")), size.lines or _number(environ.get("LINES"))
    return os.terminal_size((columns, lines or 24)) if columns else None


def frame(lines: Sequence[str]) -> str:
    """Return what draws lines from the first row on; what was there before is removed row by row."""
    return "\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J"


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 6 else 0


def coloured(line: str) -> str:
    """Return a line about a job with its state in a colour; any other line as it is."""
    found = _STATE.match(line)
    if found is None:
        return line
    state = found["state"]
    return f"{found['before']}{_COLOURS[state]}{state}{_RESET}{line[found.end() :]}"
