"""The log of a container, which Docker keeps until the container is removed, each message once.

Following ends with each run of the program, also where Docker starts it again; and before Docker 23 it may end before
the last line of an ended container, if that has no line break. So the log is read again from the last time that was
seen.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from threading import Event

from caliban.platforms.docker.client import Containers
from caliban.platforms.docker.streams import Piece, Stream, nanoseconds, read_log

_RESTART_DELAYS = (0.1, 0.5, 2.0, 5.0)
"""Seconds before the log of a container that was restarted is read again."""


class LogGoneError(LookupError):
    """There is no such container any more."""


class LogReader:
    """Reads the log of one container once, from its first byte or its last lines on.

    Iterating raises what :func:`caliban.platforms.docker.streams.read_log` and its stream raise, and
    :class:`LogGoneError`.

    Args:
        containers: of the engine.
        container: its id or name.
        follow: whether to go on until it ends for good.
        tail: only so many messages of the end; None for all.
    """

    def __init__(
        self, containers: Containers, container: str, *, follow: bool = False, tail: int | None = None
    ) -> None:
        self._containers = containers
        self._container = container
        self._follow = follow
        self._tail = tail
        self._stream: Stream | None = None
        self._is_closed = Event()
        self._last = {False: 0, True: 0}  # when the last message of each stream was written
        self._seen = {False: 0, True: 0}  # how many of that stream were written then

    def __iter__(self) -> Generator[Piece, None, None]:
        found = self._containers.inspect(self._container)
        if found is None:
            raise LogGoneError(self._container)
        follow = self._follow and found.state.is_running
        yield from self._read(found.has_terminal, follow=follow, tail=self._tail)
        delays = iter(_RESTART_DELAYS)
        while follow and not self._is_closed.is_set():
            found = self._containers.inspect(self._container)
            if found is None:
                return
            follow = found.state.is_running
            if follow:
                self._containers.clock.wait(self._is_closed, next(delays, _RESTART_DELAYS[-1]))
            yield from self._rest(found.has_terminal, follow=follow)

    def close(self) -> None:
        """End the iteration; any thread may do that."""
        self._is_closed.set()
        if self._stream is not None:
            self._stream.close()

    def _read(self, has_terminal: bool, *, follow: bool, tail: int | None = None, since: int = 0) -> Iterator[Piece]:
        engine = self._containers.engine
        self._stream = stream = read_log(
            engine, self._container, has_terminal=has_terminal, follow=follow, tail=tail, since=since
        )
        if self._is_closed.is_set():
            stream.close()
        for piece in stream:
            at = nanoseconds(piece.stamp)
            self._seen[piece.is_stderr] = 1 + (self._seen[piece.is_stderr] if at == self._last[piece.is_stderr] else 0)
            self._last[piece.is_stderr] = at
            yield piece

    def _rest(self, has_terminal: bool, *, follow: bool) -> Iterator[Piece]:
        """Yield what follows the last messages that were seen."""
        last, left = dict(self._last), dict(self._seen)
        self._seen = {False: 0, True: 0}  # they are counted again
        since = min((at for at in last.values() if at), default=0)
        for piece in self._read(has_terminal, follow=follow, since=since):
            at, key = nanoseconds(piece.stamp), piece.is_stderr
            if at < last[key]:
                continue
            if at == last[key] and left[key]:
                left[key] -= 1
                continue
            yield piece


def without_first(pieces: Iterator[Piece], stdout: int, stderr: int) -> Iterator[Piece]:
    """Yield pieces without the first bytes of each stream."""
    left = {False: stdout, True: stderr}
    for piece in pieces:
        skipped = min(left[piece.is_stderr], len(piece.data))
        left[piece.is_stderr] -= skipped
        if skipped < len(piece.data):
            yield Piece(piece.data[skipped:], piece.is_stderr, piece.stamp)
