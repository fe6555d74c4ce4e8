"""Fetch the end of the output of jobs that were just seen finished, before what ran them is removed.

It is recorded in the transaction that records the end. A failure to fetch it is recorded too, and changes nothing else.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import replace
from datetime import timedelta
from typing import cast

from caliban.errors import CalibanError, one_line
from caliban.outputs.log_reading import read_log_file
from caliban.outputs.stored import StoredOutput
from caliban.outputs.tail import read_end
from caliban.platforms.base import LogRequest, LogSource, RemotePlatform
from caliban.platforms.registry import Platforms, has_capability
from caliban.records import Destination, FailureCause, JobRecord, JobStatus, OutputLine, PlatformId
from caliban.store.database import Store
from caliban.store.job_logs import record_outputs
from caliban.submission.boundary import platform_errors
from caliban.submission.output import existing_log

LONGEST = 20.0
"""Seconds that all outputs of one call may take together."""

_SLOW = 2.0
"""Seconds after which progress is shown."""

_MISSING = timedelta(days=1)
"""How long output that could not be fetched is asked for again."""

_GONE, _REFUSED = "output-gone", "output-refused"

_PARALLEL = 8
_TAIL = 2000
"""Lines that are requested of each job."""


def capture(
    jobs: Iterable[JobRecord], platforms: Platforms, *, shows_progress: bool = False
) -> dict[int, StoredOutput]:
    """Return the end of the output of each job that has ended, on platforms that have it, or why there is none.

    Several at a time, failed jobs first; no longer than :data:`LONGEST` in total, whatever platforms do.

    Args:
        jobs: as their platforms report them.
        platforms: where they ran.
        shows_progress: whether to show that it takes long.
    """
    wanted = [job for job in jobs if _has_output(job)]
    platforms.asked_for_output.update(job.id for job in wanted)
    return _Capture(wanted, platforms).run(shows_progress=shows_progress) if wanted else {}


def capture_recorded(jobs: Iterable[JobRecord], store: Store, platforms: Platforms) -> None:
    """Do the same for jobs whose end is recorded, and record it. What cannot be recorded is announced."""
    outputs = capture(jobs, platforms)
    if not outputs:
        return
    try:
        with store.writing() as session:
            record_outputs(session, outputs.values(), platforms.context.clock)
    except CalibanError as error:
        platforms.context.announce(f"cannot record the output of jobs: {one_line(error)}")


def with_error(job: JobRecord, outputs: Mapping[int, StoredOutput]) -> JobRecord:
    """Return a job with the last error in its output, if that was fetched."""
    output = outputs.get(job.id)
    return replace(job, output_error=output.error) if output and output.error else job


def is_missing(job: JobRecord, platforms: Platforms) -> bool:
    """Return whether the output of a job could not be fetched when its end was seen, and is to be asked for again.

    A command that looks often, such as ``status --watch``, asks once.
    """
    since = job.output_missing_since
    if since is None or job.id in platforms.asked_for_output:
        return False
    return platforms.context.clock.utc_now() - since < _MISSING


def _missing(job: JobRecord, reason: str, *, for_good: bool = False) -> StoredOutput:
    return StoredOutput(job.id, is_complete=for_good, unavailable=reason)


def _is_for_good(error: CalibanError, job: JobRecord) -> bool:
    """Return whether output is not asked for again: a permission for a remote platform may be granted later."""
    if error.id == _REFUSED:
        return not has_capability(job.platform, RemotePlatform)
    return error.id == _GONE


def _has_output(job: JobRecord) -> bool:
    if not job.status.is_final or (job.details.exit and job.details.exit.cause is FailureCause.REFUSED):
        return False
    return has_capability(job.platform, LogSource)


class _Capture:
    """One call: threads that fetch, and a thread that waits for them."""

    def __init__(self, jobs: Sequence[JobRecord], platforms: Platforms) -> None:
        self._jobs = jobs
        self._platforms = platforms
        self._clock = platforms.context.clock
        self._waiting = deque(sorted(jobs, key=lambda job: job.status is not JobStatus.FAILED))
        self._fetched: dict[int, StoredOutput] = {}
        self._refused: dict[tuple[PlatformId, Destination | None], str] = {}
        self._has_more = threading.Event()
        self._is_over = threading.Event()

    def run(self, *, shows_progress: bool) -> dict[int, StoredOutput]:
        """Fetch all, and return what came in time."""
        for number in range(min(_PARALLEL, len(self._jobs))):
            threading.Thread(target=self._work, name=f"capture_{number}", daemon=True).start()
        try:
            self._await_all(shows_progress=shows_progress)
        finally:
            self._is_over.set()
        fetched = dict(self._fetched)
        late = f"not fetched within {LONGEST:.0f} s"
        return {job.id: fetched.get(job.id) or _missing(job, late) for job in self._jobs}

    def _await_all(self, *, shows_progress: bool) -> None:
        start, total = self._clock.monotonic(), len(self._jobs)
        with ExitStack() as stack:
            progress, shown = None, 0
            while (count := len(self._fetched)) < total:
                if progress:
                    progress.advance(count - shown)
                    shown = count
                elapsed = self._clock.monotonic() - start
                if elapsed >= LONGEST:
                    return
                if shows_progress and progress is None and elapsed >= _SLOW:
                    reporter = self._platforms.context.reporter
                    progress = stack.enter_context(reporter.progress("output of jobs", total=total, unit="job"))
                limit = _SLOW if shows_progress and progress is None else LONGEST
                if self._clock.wait_in_background(self._has_more, limit - elapsed):
                    self._has_more.clear()

    def _work(self) -> None:
        while not self._is_over.is_set():
            try:
                job = self._waiting.popleft()
            except IndexError:
                return
            output = self._fetch(job)
            if not self._is_over.is_set():
                self._fetched[job.id] = output
                self._has_more.set()

    def _fetch(self, job: JobRecord) -> StoredOutput:
        place = (job.platform, job.details.destination)
        if job.output_missing_since is not None and place in self._refused:
            return _missing(job, self._refused[place])  # without a request for each of many jobs, by every command
        try:
            with platform_errors(job.platform, "read the output of a job"):
                source = cast("LogSource", self._platforms.get(job.platform))
                end = read_end(self._lines(source, job), _TAIL)
            if self._platforms.context.stopping.is_set():  # which ends the output of a platform early
                return _missing(job, "the command was interrupted")
            return end.stored(job.id, has_failed=job.status is JobStatus.FAILED)
        except CalibanError as error:
            if (found := self._from_file(job)) is not None:
                return found
            is_for_good = _is_for_good(error, job)
            if error.id == _REFUSED and not is_for_good:
                self._refused[place] = one_line(error)
            return _missing(job, one_line(error), for_good=is_for_good)

    def _from_file(self, job: JobRecord) -> StoredOutput | None:
        """Return the end of the log file of this machine, if it has one that can be read."""
        path = existing_log(self._platforms.context.home, job)
        with suppress(CalibanError):
            if path is not None:
                end = read_end(read_log_file(path, _TAIL), _TAIL)
                return end.stored(job.id, has_failed=job.status is JobStatus.FAILED)
        return None

    def _lines(self, source: LogSource, job: JobRecord) -> Iterable[OutputLine]:
        lines = source.logs(job, LogRequest(tail=_TAIL))
        with closing(lines) if isinstance(lines, Generator) else nullcontext():
            for line in lines:
                yield line
                if self._is_over.is_set():
                    return
