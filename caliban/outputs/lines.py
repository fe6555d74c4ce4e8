"""Output of a job as lines of text in which errors can be found: without colours and progress bars."""

from __future__ import annotations

import re

MAX_SEARCHED = 256 << 10
"""Bytes of the end of an output that are searched for errors."""

_MAX_LINE = 4000
"""Characters of a line that are searched, at its beginning."""

# ECMA-48: CSI, and OSC (titles, links); then any other escape sequence of two characters, and what moves nothing on.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b\n]{0,2000}(?:\x07|\x1b\\)|[@-Z\\-_])|[\x00\x07\x08]"
)
_BREAKS = re.compile(r"\r\n|[\n\r\v\f\x85\u2028\u2029]")
_BAR = re.compile(r"[^|]{0,200}?\d{1,3}%\|[^|]{0,400}\|[^\[]{0,80}\[[^\]]{0,200}\]")
"""What tqdm draws; the next line of text follows it immediately."""


def lines_of(data: bytes) -> list[str]:
    """Return the last lines of an output; what is not UTF-8 is replaced. Each update of a line is a line."""
    text = data[-MAX_SEARCHED:].decode("utf-8", "replace")
    return [_without_bar(line[:_MAX_LINE]) for line in _BREAKS.split(_ESCAPES.sub("", text))]


def has_text(data: bytes) -> bool:
    """Return whether a line has more than white space and a progress bar."""
    if b"%|" in data:
        return any(line.strip() for line in lines_of(data))
    return bool(data.strip())


def _without_bar(line: str) -> str:
    found = _BAR.match(line) if "%|" in line else None
    return line[found.end() :] if found else line
