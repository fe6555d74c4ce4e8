"""The output of a job, for ``caliban logs``: from the container's log."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from threading import Event

from caliban.clock import Clock
from caliban.errors import PlatformError
from caliban.platforms.base import LogRequest
from caliban.platforms.docker.client import Containers
from caliban.platforms.docker.errors import translate_errors
from caliban.platforms.docker.log_reader import LogReader
from caliban.platforms.docker.streams import Piece
from caliban.records import JobRecord, OutputLine
from caliban.redaction import exception_text
from caliban.threads import AbandonedError, watched

_INTERVAL = 0.5
"""Seconds between two looks whether the user wants to stop."""

_MAX_LINE = 1 << 20
"""Bytes of a line without an end that are yielded as if it had one: a bar may never end."""


def container_lines(
    containers: Containers, container: str, request: LogRequest, stopping: Event
) -> Generator[OutputLine, None, None]:
    """Yield the output of a container, whole lines, in the order in which they were begun.

    Raises:
        Exception: one of :func:`~caliban.platforms.docker.streams.stream_errors`, or LogGoneError.
    """
    reader = LogReader(containers, container, follow=request.follow, tail=request.tail)
    try:
        if request.follow:
            yield from _lines(_until_stopped(reader, containers.clock, stopping))
        else:
            yield from _lines(iter(reader))
    finally:
        reader.close()


def _until_stopped(reader: LogReader, clock: Clock, stopping: Event) -> Generator[Piece, None, None]:
    with closing(watched(lambda _: reader.__iter__(), clock, _Stopped(stopping), _INTERVAL)) as pieces:
        try:
            yield from pieces
        except AbandonedError:
            return


class _Stopped:
    """Ends a wait once the user wants to stop."""

    def __init__(self, stopping: Event) -> None:
        self._stopping = stopping

    def on_silence(self, seconds: float) -> BaseException | None:
        return AbandonedError() if self._stopping.is_set() else None

    def on_progress(self) -> None:
        if self._stopping.is_set():
            raise AbandonedError


def _lines(pieces: Iterator[Piece]) -> Iterator[OutputLine]:
    """Put the messages of a log together: those of more than 16 KB are several."""
    unfinished: dict[bool, OutputLine] = {}
    for piece in pieces:
        begun = unfinished.pop(piece.is_stderr, None)
        line = OutputLine(
            (begun.data if begun else b"") + piece.data, piece.is_stderr, begun.time if begun else piece.time
        )
        if line.data.endswith(b"\n") or len(line.data) > _MAX_LINE:
            yield line
        else:
            unfinished[piece.is_stderr] = line
    yield from unfinished.values()


def job_lines(
    job: JobRecord, reference: str, containers: Containers, request: LogRequest, stopping: Event
) -> Generator[OutputLine, None, None]:
    """Yield the output of a job whose container this engine has.

    Raises:
        PlatformError: ``output-refused``: the engine does not let anybody read it; ``docker-engine-failed``.
    """
    import docker.errors

    message = f"cannot read the output of job {job.id}"
    with translate_errors(message):
        try:
            yield from container_lines(containers, reference, request, stopping)
        except docker.errors.NotFound as error:
            raise gone(job, "its container was removed") from error
        except docker.errors.APIError as error:
            raise PlatformError(
                "output-refused",
                message,
                cause=exception_text(error),
                hint='use a log driver that can be read: --docker_run_args "--log-driver json-file"',
            ) from error


def gone(job: JobRecord, cause: str) -> PlatformError:
    """Return the error for a job whose output nobody has any more."""
    return PlatformError(
        "output-gone",
        f"the output of job {job.id} is not available any more",
        cause=cause,
        hint="the log files of local jobs are in ~/.caliban/logs of the machine where they were started",
    )
