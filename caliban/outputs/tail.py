"""Keep the end of a job's output, in bounded memory and without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from caliban.outputs.last_error import last_error
from caliban.outputs.lines import has_text
from caliban.outputs.stored import STORED_BYTES, StoredOutput
from caliban.records import OutputLine
from caliban.redaction import HIDDEN, hide_secrets

_WINDOW = 2 * STORED_BYTES
"""Bytes that are kept: secrets are looked for in more than what is stored, so that none is cut at the edge."""

_EDGE = 8192
"""Characters after a cut that are dropped: they may be the rest of a secret that is not recognized any more."""

_BLOCK = 16_384
"""Characters that are searched for secrets at a time, so that no output takes long."""

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.S
)


@dataclass(frozen=True)
class OutputEnd:
    """The end of an output, as it may be stored.

    Attributes:
        data: at most :data:`STORED_BYTES`, from the beginning of a line unless a line is longer.
        is_complete: whether that is everything.
        is_stderr: whether the last line that is no progress bar is known to be one of standard error.
    """

    data: bytes
    is_complete: bool
    is_stderr: bool

    def stored(self, job_id: int, *, has_failed: bool) -> StoredOutput:
        """Return what to store of a job; the output of one that has not failed has no error."""
        error = last_error(self.data, ends_with_stderr=self.is_stderr) if has_failed else None
        return StoredOutput(job_id, self.data, self.is_complete, None, error)


class Tail:
    """Collects output, and keeps the end of it."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._open = b""  # a line without its line break yet
        self._is_cut = False
        self._is_stderr = False

    def add(self, line: OutputLine) -> None:
        """Add a line, or a part of one. Of what overwrites itself with carriage returns, the last counts."""
        if has_text(line.data):
            self._is_stderr = line.is_stderr
        self._is_cut |= len(line.data) > _WINDOW
        *whole, rest = (self._open + line.data[-_WINDOW:]).split(b"\n")
        for each in whole:
            self._kept += _last_update(each) + b"\n"
        self._open = self._bounded(_last_update(rest, keep_return=True))
        if len(self._kept) > 2 * _WINDOW:
            del self._kept[:-_WINDOW]
            self._is_cut = True

    def end(self) -> OutputEnd:
        """Return the end of what was added."""
        raw = bytes(self._kept) + _last_update(self._open)
        is_cut = self._is_cut or len(raw) > _WINDOW
        text = _redacted(raw[-_WINDOW:].decode("utf-8", "surrogateescape"))
        if is_cut:
            text = text[_EDGE:]
        data = text.encode("utf-8", "surrogateescape")
        if len(data) > STORED_BYTES:
            is_cut = True
        return OutputEnd(_from_line(data, is_cut=is_cut), not is_cut, self._is_stderr)

    def _bounded(self, data: bytes) -> bytes:
        self._is_cut |= len(data) > _WINDOW
        return data[-_WINDOW:]


def read_end(lines: Iterable[OutputLine], tail: int) -> OutputEnd:
    """Read an output to its end, of which the last ``tail`` lines were requested."""
    kept, count = Tail(), 0
    for line in lines:
        kept.add(line)
        count += 1
    found = kept.end()
    return OutputEnd(found.data, found.is_complete and count < tail, found.is_stderr)


def _last_update(line: bytes, *, keep_return: bool = False) -> bytes:
    shown = line.rstrip(b"\r")
    ending = b"\r" if keep_return and shown != line else b""
    return shown[shown.rfind(b"\r") + 1 :] + ending


def _from_line(data: bytes, *, is_cut: bool) -> bytes:
    """Return the last bytes that are stored, from the beginning of a line, or of a character."""
    if not is_cut:
        return data
    end = data[-STORED_BYTES:]
    start = end.find(b"\n") + 1
    if 0 < start < len(end):
        return end[start:]
    return end.lstrip(bytes(range(0x80, 0xC0)))


def _redacted(text: str) -> str:
    return "".join(map(hide_secrets, _blocks(_PRIVATE_KEY.sub(HIDDEN, text))))


def _blocks(text: str) -> Iterator[str]:
    """Split a text where no secret is likely to be cut: after a line, or a word of a long line."""
    start = 0
    while len(text) - start > _BLOCK:
        end = start + _BLOCK
        cut = max(text.rfind("\n", start + 1, end), 0) or max(text.rfind(" ", start + 1, end), 0) or end - 1
        yield text[start : cut + 1]
        start = cut + 1
    yield text[start:]
