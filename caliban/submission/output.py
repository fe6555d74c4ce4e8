"""The output of jobs, from the best source that has it: the platform, the file on this machine, the store.

The platform has everything, while the job runs and for some time afterwards. The file has the beginning and the end of
what this machine saw of a job; the store, the last 64 KiB of each job whose end a command saw.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from threading import Lock

from caliban.causes import cause_of
from caliban.errors import CalibanError, PlatformError, one_line
from caliban.outputs.log_reading import read_log_file
from caliban.outputs.paths import log_path
from caliban.outputs.stored import StoredOutput
from caliban.platforms.base import LogRequest, LogSource
from caliban.platforms.registry import Platforms, has_capability
from caliban.records import ExperimentRecord, FailureCause, JobRecord, OutputLine
from caliban.submission.boundary import expected, platform_errors
from caliban.submission.feeds import Feeds

_PARALLEL = 8
"""How many outputs are fetched at a time; each may be a connection, or a process."""


class Source(Enum):
    """Where an output comes from."""

    PLATFORM = "platform"
    FILE = "file"
    STORE = "store"


@dataclass(frozen=True)
class ChosenJob:
    """A job whose output is wanted."""

    group: str
    experiment: ExperimentRecord
    job: JobRecord


@dataclass(frozen=True)
class Result:
    """How the reading of an output ended.

    Attributes:
        source: where the output comes from; None where there is none.
        error: why it could not be read, or not to its end; None where it could.
        better_error: why a better source could not be read; None where there is none better.
    """

    source: Source | None = None
    error: CalibanError | None = None
    better_error: CalibanError | None = None


Put = Callable[[OutputLine], None]
Lines = Generator[OutputLine, None, None]


class OutputReader:
    """Reads the outputs of jobs on threads.

    Args:
        platforms: where the jobs run.
        request: which part is wanted. Of a job that has ended, nothing is followed.
    """

    def __init__(self, platforms: Platforms, request: LogRequest) -> None:
        self._platforms = platforms
        self._request = request
        self._lock = Lock()

    def feeds(self, jobs: Sequence[JobRecord], *, together: bool) -> Feeds[OutputLine, Result]:
        """Return the outputs of jobs; a few are read at a time, and all that have not ended where they are followed."""
        readings = [partial(self._read, job) for job in jobs]
        followed = sum(not job.status.is_final for job in jobs) if together else 0
        threads = _PARALLEL + followed
        return Feeds(readings, lambda line: len(line.data), threads, self._platforms.context.clock)

    def _read(self, job: JobRecord, put: Put) -> Result:
        """Pass on all lines of the best source that has any; the next one is for those of which nothing was read."""
        if never_ran(job):
            return Result()
        first_error = None
        for source, lines in self._sources(job):
            error, number = _passed_on(lines, put)
            if error is None or number:
                return Result(source, error, first_error)
            first_error = first_error or error
        return Result(None, first_error)

    def _sources(self, job: JobRecord) -> Iterator[tuple[Source, Lines]]:
        yield Source.PLATFORM, self._from_platform(job)
        path = existing_log(self._platforms.context.home, job)
        if path is not None:
            yield Source.FILE, read_log_file(path, self._request.tail)

    def _from_platform(self, job: JobRecord) -> Lines:
        if not has_capability(job.platform, LogSource):
            with self._lock:
                self._platforms.get(job.platform)  # raises where the platform itself is the problem
            raise PlatformError(
                "logs-not-supported", f"the platform {job.platform} does not provide the output of jobs"
            )
        with platform_errors(job.platform, "read the output of a job"):
            with self._lock:
                platform = self._platforms.get(job.platform)
            assert isinstance(platform, LogSource)
            request = replace(self._request, follow=self._request.follow and not job.status.is_final)
            lines = platform.logs(job, request)
            try:
                for line in lines:
                    yield expected(line, OutputLine)
            finally:
                close = getattr(lines, "close", None)
                if close is not None:
                    close()


def _passed_on(lines: Lines, put: Put) -> tuple[CalibanError | None, int]:
    """Put every line; return the error that ended them, or None, and how many there were."""
    number = 0
    with closing(lines):
        try:
            for line in lines:
                put(line)
                number += 1
        except CalibanError as error:
            return error, number
    return None, number


def never_ran(job: JobRecord) -> bool:
    """Return whether a job was refused: it has no output, on any platform."""
    return job.status.is_final and cause_of(job) is FailureCause.REFUSED


def existing_log(home: Path, job: JobRecord) -> Path | None:
    """Return the file on this machine that has the output of a job; None where there is none."""
    path = log_path(home, job)
    try:
        return path if path is not None and path.is_file() else None
    except OSError:  # no permission for a directory
        return None


def stored_lines(stored: StoredOutput) -> Iterator[OutputLine]:
    """Yield the lines of a stored output."""
    yield from map(OutputLine, io.BytesIO(stored.data))


def unavailable(result: Result, stored: StoredOutput | None) -> CalibanError:
    """Return why a job has no output to show: why no source has it, and why nothing was stored."""
    error = result.error
    reason = stored.unavailable if stored else None
    if error is None:
        return PlatformError("output-gone", "its output is gone", cause=reason)
    if reason is None or reason in one_line(error):
        return error
    told = one_line(error)
    return PlatformError(error.id, error.message, cause=f"{error.cause or told}\n{reason}", hint=error.hint)
