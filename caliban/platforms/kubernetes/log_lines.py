"""Lines of a container's output: split, with their times, and none of them twice. No I/O."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from caliban.platforms.stored_json import parse_time
from caliban.records import OutputLine

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) ?")
_MAX_LINE = 1 << 20
_GONE = re.compile(
    rb"(?:unable to retrieve container logs for |failed to try resolving symlinks in path "
    rb"|failed to watch file |open .?/var/log/)[^\n]*(?:\n|$)"
)
"""What a kubelet answers, as if it were output, where the file is deleted (pkg/kubelet/kuberuntime/
kuberuntime_container.go and pkg/kubelet/kuberuntime/logs of kubernetes/kubernetes). It has no time, as output has."""


class OutputDeletedError(Exception):
    """The node does not have the output any more."""


@dataclass
class Position:
    """How far the output of a container was read, so that it can be read on from there.

    A request can only ask for whole seconds. The lines of the last second are remembered, not only the last one: those
    of standard output and standard error may be a little out of order.

    Attributes:
        second: the beginning of the second of the newest line: ``2026-11-25T13:00:00Z``; None before the first line.
        first: the time of the first line, as it was received: where only a tail was requested, the lines of that second
            before it are not wanted either.
    """

    second: str | None = None
    first: bytes = b""
    _seen: Counter[bytes] = field(default_factory=Counter)

    def options(self) -> dict[str, str]:
        """Return the parameters that request what follows."""
        return {"sinceTime": self.second} if self.second else {}

    def new_lines(self, lines: Iterable[bytes]) -> Iterator[OutputLine]:
        """Yield the lines that were not read before.

        Args:
            lines: of a response to a request with :meth:`options`, each with its time.
        """
        known, first = Counter(self._seen), self.first
        for line in lines:
            if known[line] > 0:
                known[line] -= 1
                continue
            stamp = _STAMP.match(line)
            if stamp is not None and _sortable(stamp[1]) < first:
                continue
            yield self._advance(line)

    def _advance(self, line: bytes) -> OutputLine:
        stamp = _STAMP.match(line)
        if stamp is None:
            return OutputLine(line)
        time = parse_time(stamp[1].decode())
        if time is not None:
            self.first = self.first or _sortable(stamp[1])
            second = f"{time:%Y-%m-%dT%H:%M:%S}Z"
            if self.second is None or second > self.second:
                self.second = second
                self._seen.clear()
            if second == self.second:
                self._seen[line] += 1
        return OutputLine(line[stamp.end() :], time=time)


def _sortable(stamp: bytes) -> bytes:
    """Return a time in UTC with nine digits after the second, of which zeros at the end are not written."""
    whole, _, fraction = stamp.rstrip(b"Z").partition(b".")
    return whole + b"." + fraction.ljust(9, b"0")


def split(pieces: Iterable[bytes], *, keeps_rest: bool) -> Iterator[bytes]:
    """Yield lines as they become complete; one without end, in parts.

    Args:
        pieces: as they are received.
        keeps_rest: whether to yield what comes after the last line break.

    Raises:
        OutputDeletedError: this is not the output of a container, but says that there is none.
    """
    rest, is_first = b"", True
    for piece in pieces:
        lines = _split(rest + piece)
        rest = b"" if not lines or lines[-1].endswith(b"\n") else lines.pop()
        for line in lines:
            _check(line, is_first=is_first)
            is_first = False
            yield line
        while len(rest) > _MAX_LINE:
            yield rest[:_MAX_LINE]
            rest, is_first = rest[_MAX_LINE:], False
    if rest and is_first:
        _check(rest, is_first=True)
    if rest and keeps_rest:
        yield rest


def _split(data: bytes) -> list[bytes]:
    """Split only at line feeds: progress bars are written with carriage returns."""
    parts = data.split(b"\n")
    lines = [part + b"\n" for part in parts[:-1]]
    return [*lines, parts[-1]] if parts[-1] else lines


def _check(line: bytes, *, is_first: bool) -> None:
    if is_first and _GONE.match(line):
        raise OutputDeletedError
