"""Pass on the output of a container while it runs, and write its log file.

Whoever reads the output decides nothing: when a pipe is closed or a disk is full, the rest is read and dropped, and the
job goes on. Two threads do the work:

- One reads what the container writes, byte by byte as it comes: attached to it since before it was started, so that a
  bar without line breaks is shown while it moves. It writes the log file, and never waits for anybody, because the
  engine stops a container whose output is not taken. Where it was not attached, where the connection ends before the
  container, or where Docker starts that again, it reads the container's log instead, from the byte on that it has come
  to.
- The other one passes everything on. A reader that is too far behind gets the rest from the log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter

from caliban.clock import Clock
from caliban.outputs.log_file import LogFile
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker.client import Containers
from caliban.platforms.docker.log_reader import LogGoneError, LogReader, without_first
from caliban.platforms.docker.streams import Piece, Stream, stream_errors
from caliban.redaction import exception_text

_LAST_OUTPUT_SECONDS = 30.0
"""How long an engine that is silent has to deliver the last output of a container that has ended."""

_AFTER_STOP_SECONDS = 5.0
"""How long a user who stopped a job waits for its last output; a reader may have gone, or be far behind."""

_VERDICT_SECONDS = 3.0
"""How long a container may need to end after its output has; then only the connection has ended."""

_CLOSE_SECONDS = 1.0
MAX_UNREAD = 16 << 20
"""Bytes that are kept for a reader that does not read."""

_UNREADABLE = "cannot read the output of the job from the Docker Engine"
_INCOMPLETE = "the Docker Engine does not deliver the last output of the job; see: docker logs"


class Backlog:
    """Pieces that were read and are to be passed on."""

    def __init__(self) -> None:
        self.is_exceeded = False
        self._pieces: list[Piece] = []
        self._size = 0
        self._is_complete = False
        self._changed = threading.Condition()

    def put(self, piece: Piece) -> None:
        """Add a piece; once there are too many, drop this one and all further ones."""
        with self._changed:
            self.is_exceeded = self.is_exceeded or self._size > MAX_UNREAD
            if not self.is_exceeded:
                self._pieces.append(piece)
                self._size += len(piece.data)
            self._changed.notify_all()

    def complete(self) -> None:
        """Say that no piece follows."""
        with self._changed:
            self._is_complete = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Piece]:
        """Yield all pieces; what was read meanwhile of one stream, in one."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pieces or self._is_complete or self.is_exceeded)
                pieces, self._pieces, self._size = self._pieces, [], 0
            if not pieces:
                return
            for is_stderr, same in groupby(pieces, key=attrgetter("is_stderr")):
                yield Piece(b"".join(piece.data for piece in same), is_stderr)


class JobOutput:
    """The output of one container, passed on from its first byte on.

    Args:
        container: its id or name.
        containers: of the engine.
        context: the process.
        clock: to wait for an engine that does not deliver the last output.
        log: its log file, or None.
        attached: what it writes, if it was attached to before it was started.
    """

    def __init__(
        self,
        container: str,
        containers: Containers,
        context: PlatformContext,
        clock: Clock,
        log: LogFile | None = None,
        attached: Stream | None = None,
    ) -> None:
        self._container = container
        self._containers = containers
        self._context = context
        self._clock = clock
        self._log = log
        self._attached = attached
        self._readers: list[LogReader] = []
        self._backlog = Backlog()
        self._verdict = threading.Event()  # whether the container has ended for good is known
        self._has_ended = False
        self._is_closed = False
        self._read_all, self._passed_all = threading.Event(), threading.Event()
        self._taken = {False: 0, True: 0}
        self._passed = {False: 0, True: 0}
        self._is_writing = False
        self._dead: set[bool] = set()  # streams that nobody reads any more

    def start_reading(self) -> None:
        """Read, and write the log file."""
        threading.Thread(target=self._run, args=(self._read, self._read_all), name="output", daemon=True).start()

    def start_reporting(self) -> None:
        """Pass on what was and will be read."""
        threading.Thread(target=self._run, args=(self._report, self._passed_all), name="output", daemon=True).start()

    def restarted(self) -> None:
        """Read on after the container was restarted."""
        self._verdict.set()

    def finish(self, *, was_restarted: bool = False) -> None:
        """Wait until everything is passed on, after the container has ended."""
        self._has_ended = not was_restarted and not self._verdict.is_set()
        self._verdict.set()
        before = -1
        while not self._clock.wait(self._passed_all, _LAST_OUTPUT_SECONDS):
            now = sum(self._taken.values()) + sum(self._passed.values())
            if now == before and not self._is_writing:
                self._context.reporter.warn(_INCOMPLETE)
                return
            before = now

    def finish_soon(self) -> None:
        """Do the same after the user stopped the job, as far as it takes a few seconds only."""
        self._has_ended = not self._verdict.is_set()
        self._verdict.set()
        self._clock.wait(self._passed_all, _AFTER_STOP_SECONDS)

    def close(self) -> None:
        """End both threads."""
        self._is_closed = True
        self._verdict.set()
        for stream in (self._attached, *self._readers):
            if stream is not None:
                stream.close()
        self._clock.wait(self._read_all, _CLOSE_SECONDS)

    def _run(self, work: Callable[[], None], done: threading.Event) -> None:
        try:
            work()
        finally:
            done.set()

    def _read(self) -> None:
        try:
            if self._attached is None or not self._read_attached(self._attached):
                for piece in self._rest_of_log(self._taken):
                    self._take(piece)
        finally:
            if self._log is not None:
                self._log.close()
            self._backlog.complete()

    def _read_attached(self, attached: Stream) -> bool:
        """Return whether that was everything."""
        try:
            for piece in attached:
                self._take(piece)
        except stream_errors():
            return self._is_closed
        self._clock.wait_in_background(self._verdict, _VERDICT_SECONDS)
        return self._has_ended or self._is_closed

    def _take(self, piece: Piece) -> None:
        self._taken[piece.is_stderr] += len(piece.data)
        if self._log is not None:
            self._log.write(piece.data, is_stderr=piece.is_stderr)
        self._backlog.put(piece)

    def _report(self) -> None:
        for piece in self._backlog:
            self._pass_on(piece)
        if self._backlog.is_exceeded:
            for piece in self._rest_of_log(self._passed):
                self._pass_on(piece)
        for is_stderr in (False, True):
            self._write(b"", is_stderr)

    def _rest_of_log(self, done: dict[bool, int]) -> Iterator[Piece]:
        reader = LogReader(self._containers, self._container, follow=True)
        self._readers.append(reader)
        try:
            yield from without_first(iter(reader), done[False], done[True])
        except LogGoneError:  # removed by the user, or by another command that recorded its end
            return
        except stream_errors() as error:
            if not self._is_closed:
                self._context.warn(f"{_UNREADABLE}: {exception_text(error)}")

    def _pass_on(self, piece: Piece) -> None:
        self._passed[piece.is_stderr] += len(piece.data)
        self._write(piece.data, piece.is_stderr)

    def _write(self, data: bytes, is_stderr: bool) -> None:
        if is_stderr in self._dead or self._is_closed:
            return
        self._is_writing = True
        try:
            self._context.reporter.job_output(data, is_stderr=is_stderr)
        except (OSError, ValueError):  # nobody reads it any more; ValueError: the stream was closed
            self._dead.add(is_stderr)
        self._is_writing = False


@contextmanager
def streamed_output(output: JobOutput) -> Iterator[None]:
    """Report output until it ends or the block fails, which then has called :meth:`JobOutput.finish`.

    After Ctrl-C it goes on: what a job writes while it stops is reported too. Whoever stops the job closes it.
    """
    try:
        output.start_reporting()
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:  # as after a lost connection
        output.close()
        raise
    output.close()
