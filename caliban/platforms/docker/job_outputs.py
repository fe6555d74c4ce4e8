"""The output of the jobs of one command: of those that it follows, and the log files of those that it finds ended."""

from __future__ import annotations

from collections.abc import Iterator

from caliban.bounded import DeadlineExceededError
from caliban.outputs.log_file import LogFile, LogFileError, LogLimits, open_log, write_log
from caliban.outputs.paths import logs_dir
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker.client import Container, Containers
from caliban.platforms.docker.log_reader import LogGoneError, LogReader
from caliban.platforms.docker.output import JobOutput
from caliban.platforms.docker.streams import attach, stream_errors
from caliban.redaction import exception_text
from caliban.threads import within

_SECONDS = 60.0
"""How long the logs of ended jobs are copied by one command, together."""


class JobOutputs:
    """See above."""

    def __init__(self, context: PlatformContext) -> None:
        self._context = context
        self._attached: dict[str, JobOutput] = {}  # by id of the container
        self._followed: dict[int, JobOutput] = {}  # by id of the job
        self._seconds_left = _SECONDS

    def attach(self, containers: Containers, container: Container) -> None:
        """Read what a container will write, which is about to be started; where that fails, its log is read later."""
        try:
            stream = attach(containers.engine, container.id, has_terminal=container.has_terminal)
        except stream_errors():
            return
        log = self._open_log(container.name)
        output = JobOutput(container.id, containers, self._context, containers.clock, log, stream)
        output.start_reading()
        self._attached[container.id] = output

    def detach(self) -> None:
        """Stop reading what is not followed: it was not started."""
        while self._attached:
            self._attached.popitem()[1].close()

    def follow(self, job_id: int, containers: Containers, reference: str, name: str | None) -> JobOutput:
        """Return the output of a job that is followed from now on."""
        output = self._attached.pop(reference, None)
        if output is None:
            log = self._open_log(name)
            output = JobOutput(reference, containers, self._context, containers.clock, log)
            output.start_reading()
        self._followed[job_id] = output
        return output

    def follows(self, job_id: int) -> bool:
        """Return whether a job is, or was, followed."""
        return job_id in self._followed

    def finish_soon(self, job_id: int) -> None:
        """Wait a little for the last output of a job that was stopped."""
        if (output := self._followed.get(job_id)) is not None:
            output.finish_soon()

    def close(self, job_id: int) -> None:
        """Read no more of a job."""
        if (output := self._followed.pop(job_id, None)) is not None:
            output.close()

    def keep(self, containers: Containers, container: Container) -> None:
        """Make the log file of a container that has ended whole, unless a process follows it."""
        if container.state.is_running or container.id in self._attached or self._seconds_left <= 0:
            return
        before = containers.clock.monotonic()

        def copy() -> None:
            limits = LogLimits.from_environ(self._context.environ, self._context.warn)
            output = _whole_log(containers, container)
            write_log(self._context.home, container.name, limits, output, self._warn)

        try:
            within(self._seconds_left, copy, containers.clock)
        except DeadlineExceededError as error:
            self._warn(LogFileError(str(error)))
        self._seconds_left -= containers.clock.monotonic() - before

    def _open_log(self, name: str | None) -> LogFile | None:
        limits = LogLimits.from_environ(self._context.environ, self._context.warn)
        return open_log(self._context.home, name, limits, self._warn)

    def _warn(self, error: OSError) -> None:
        words = error.strerror or str(error)
        self._context.warn(f"cannot write log files in {logs_dir(self._context.home)}: {words}")


def _whole_log(containers: Containers, container: Container) -> Iterator[tuple[bytes, bool]]:
    try:
        for piece in LogReader(containers, container.id):
            yield piece.data, piece.is_stderr
    except LogGoneError as error:
        raise LogFileError("a container was removed") from error
    except stream_errors() as error:
        reason = f"the Docker Engine does not deliver the output of a job ({exception_text(error)})"
        raise LogFileError(reason) from error
