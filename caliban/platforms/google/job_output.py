"""The output of a training job, read from Cloud Logging: all of it or its end, and followed until the job ends.

Entries arrive late and out of order: a program's last lines some seconds after the job's end, and those of one machine
before older ones of another.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from caliban.clock import Clock
from caliban.errors import PlatformError
from caliban.platforms.base import LogRequest
from caliban.platforms.google.cloud_logging import MAX_PAGE_SIZE, CloudLogging, LogQuery, Stop, quoted
from caliban.platforms.google.log_entries import LogEntry, exact_time, in_order, output_lines
from caliban.platforms.stored_json import parse_time
from caliban.records import OutputLine

RETENTION = timedelta(days=30)
"""How long Cloud Logging keeps entries by default (https://docs.cloud.google.com/logging/quotas#logs_retention_periods)."""

_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 2.0, 20.0, 1.5
"""Seconds between two polls of a job that is followed, and how they grow while it writes nothing."""
_PAUSE_PER_PAGE = 1.5
_OVERLAP = timedelta(seconds=60)
"""How much older than the newest entry one may be that arrives after it."""
_SETTLING = 15.0
"""Seconds after the end of a job, or its last entry, after which nothing more arrives."""
_LONGEST_SETTLING = 60.0
_JUST_ENDED = timedelta(seconds=60)
_LATEST = timedelta(minutes=5)
"""How long after the end of a job its first entry may arrive. One that ran has some, of the service itself at least."""
_GIVE_UP = 300.0
"""Seconds without an entry after which a job is not followed any more whose state cannot be determined."""
_SMALLEST_PAGE = 50
_MANY = 10_000
"""So many entries are remembered, and those of the overlap."""


@dataclass(frozen=True)
class JobState:
    """The state of a job that is followed.

    Attributes:
        is_final: whether it has ended, or does not exist any more.
        ended: when it ended, where that is known.
        unavailable: why its state could not be determined, or None.
    """

    is_final: bool
    ended: datetime | None = None
    unavailable: str | None = None


@dataclass(frozen=True)
class OutputOf:
    """A job whose output is read.

    Attributes:
        query: for all its entries.
        state: as it is recorded.
        has_several_machines: whether each line is to name the machine that wrote it.
        since: when it ended, or at least when it was submitted, with a time zone.
        has_run: whether its program is known to have started.
        current_state: asks the service for its state.
        warn: reports a warning.
    """

    query: LogQuery
    state: JobState
    has_several_machines: bool
    since: datetime
    has_run: bool
    current_state: Callable[[], JobState]
    warn: Callable[[str], None]


class OutputStream(Iterator[OutputLine]):
    """Lines of output. :meth:`close` may be called on any thread."""

    def __init__(self, lines: Generator[OutputLine, None, None], stop: Stop) -> None:
        self._lines = lines
        self._stop = stop

    def __next__(self) -> OutputLine:
        """Return the next line."""
        if self._stop.closed.is_set():
            raise StopIteration
        return next(self._lines)

    def close(self) -> None:
        """End the iteration at once."""
        self._stop.closed.set()
        with suppress(ValueError):  # another thread is waiting for a line, and ends by itself
            self._lines.close()


def job_filter(job_id: str) -> str:
    """Return the filter for all entries of a job of both training services."""
    return f'resource.type="ml_job" AND resource.labels.job_id={quoted(job_id)}'


def read_output(logging: CloudLogging, job: OutputOf, request: LogRequest, clock: Clock, stop: Stop) -> OutputStream:
    """Return the output of a job; see :meth:`caliban.platforms.base.LogSource.logs`."""
    return OutputStream(_Reader(logging, job, clock, stop).lines(request), stop)


@dataclass
class _Reader:
    logging: CloudLogging
    job: OutputOf
    clock: Clock
    stop: Stop
    _seen: dict[tuple[str, str], str] = field(default_factory=dict)
    _newest: str = ""
    _floor: str | None = None
    """Entries that are not newer than this one belong before the tail."""
    _has_end_mark: bool = False
    _is_settled: bool = False
    _pages: int = 0
    _count: int = 0
    _tasks: set[str | None] = field(default_factory=set)

    def lines(self, request: LogRequest) -> Generator[OutputLine, None, None]:
        if request.tail == 0 and not request.follow:
            return
        is_empty = True
        for line in self._new_lines() if request.tail is None else self._tail(request.tail):
            is_empty = False
            yield line
            if self.stop.is_set():
                return
        if request.follow:
            yield from self._follow()
        elif self._may_be_incomplete():
            yield from self._rest()
        if is_empty and not self._count:
            self._check_is_there()

    def _rest(self) -> Iterator[OutputLine]:
        """Yield what arrives late of a job that has just ended."""
        pause, deadline = _FIRST_PAUSE, self.clock.monotonic() + _SETTLING
        while self.clock.monotonic() < deadline and not self._has_end_mark and not self.stop.wait(pause):
            yield from self._new_lines()
            pause *= _GROWTH

    def _may_be_incomplete(self) -> bool:
        """Return whether the job ended a moment ago, and its last lines may not have arrived."""
        state = self.job.state
        if self._is_settled or self._has_end_mark or not state.is_final or state.ended is None:
            return False
        return abs(self.clock.utc_now() - state.ended) <= _JUST_ENDED

    def _check_is_there(self) -> None:
        """Check that nothing was written, rather than not kept, or not yet listed.

        Raises:
            PlatformError: ``output-gone``, ``output-not-ready``.
        """
        age = self.clock.utc_now() - self.job.since
        if not self.job.state.is_final or self.stop.is_set():
            return
        if age > RETENTION:
            raise self._gone()
        if self.job.has_run and self.job.state.ended is not None and abs(age) <= _LATEST:
            raise PlatformError(
                "output-not-ready",
                f"Cloud Logging does not have the output of {self.job.query.what} yet",
                cause="the job has just ended, and entries can arrive minutes later",
                hint="run this command again in a few minutes",
            )

    def _gone(self) -> PlatformError:
        days, query = RETENTION.days, self.job.query
        return PlatformError(
            "output-gone",
            f"Cloud Logging no longer has the output of {query.what}",
            cause=f"it ended more than {days} days ago, and entries are kept for {days} days by default",
            hint="to keep the output of future jobs for longer, run: gcloud logging buckets update _Default "
            f"--location=global --retention-days=DAYS --project={query.project}",
        )

    def _tail(self, count: int) -> list[OutputLine]:
        """Return the last lines; of a job that has just ended, once all of them can be assumed to be there."""
        lines = self._last_lines(count)
        pause, deadline = _FIRST_PAUSE, self.clock.monotonic() + _SETTLING
        while self._may_be_incomplete() and self.clock.monotonic() < deadline and not self.stop.wait(pause):
            lines = [*lines, *self._new_lines()]
            pause *= _GROWTH
        self._is_settled = True
        return lines[-count:] if count else []

    def _last_lines(self, count: int) -> list[OutputLine]:
        size = min(MAX_PAGE_SIZE, max(_SMALLEST_PAGE, count + 10))
        query = replace(self.job.query, newest_first=True, page_size=size)
        entries: list[LogEntry] = []
        lines: list[OutputLine] = []
        is_all = False
        for page in self.logging.pages(query, self.stop):
            entries += [entry for entry in page if self._is_new(entry)]
            lines = self._lines_of(entries)
            if entries and len(lines) >= count:
                break
        else:
            is_all = True
        self._floor = None if is_all else min((entry.timestamp for entry in entries), key=exact_time)
        return lines

    def _new_lines(self) -> Iterator[OutputLine]:
        """Yield the lines of entries that have not been seen, a page at a time."""
        self._pages = 0
        for page in self.logging.pages(self._new_entries_query(), self.stop):
            self._pages += 1
            yield from self._lines_of([entry for entry in page if self._is_new(entry)])
            self._forget_old()

    def _lines_of(self, entries: Sequence[LogEntry]) -> list[OutputLine]:
        lines = list(output_lines(in_order(entries)))
        is_one = not self.job.has_several_machines and len(self._tasks) < 2
        return [replace(line, source=None) for line in lines] if is_one else lines

    def _new_entries_query(self) -> LogQuery:
        query = self.job.query
        newest = parse_time(self._newest)
        since = newest - _OVERLAP if newest else None
        floor = parse_time(self._floor) if self._floor else None
        if floor is not None and since is not None and floor >= since:
            return replace(query, filter=f"{query.filter} AND timestamp>{quoted(str(self._floor))}")
        if since is not None:
            return replace(query, filter=f"{query.filter} AND timestamp>={quoted(f'{since:%Y-%m-%dT%H:%M:%S.%fZ}')}")
        return query

    def _is_new(self, entry: LogEntry) -> bool:
        if entry.key in self._seen:
            return False
        self._seen[entry.key] = entry.timestamp
        self._count += 1
        if entry.is_of_program:
            self._tasks.add(entry.task)
        self._has_end_mark = self._has_end_mark or entry.is_end_mark
        self._newest = max(self._newest, entry.timestamp, key=exact_time)
        return True

    def _forget_old(self) -> None:
        """Forget entries that no further query returns."""
        newest = parse_time(self._newest)
        if newest is None or len(self._seen) < _MANY:
            return
        oldest = newest - 2 * _OVERLAP
        self._seen = {key: time for key, time in self._seen.items() if (parse_time(time) or newest) >= oldest}

    def _follow(self) -> Iterator[OutputLine]:
        """Yield what is new until the job has ended and nothing more arrives."""
        pause, state, last_new = _FIRST_PAUSE, self.job.state, self.clock.monotonic()
        ended_at = self.clock.monotonic() if state.is_final else None
        if state.is_final and not self._may_be_incomplete():
            return
        while not self.stop.wait(max(pause, _PAUSE_PER_PAGE * self._pages)):
            is_quiet = self.clock.monotonic() - last_new >= pause
            if ended_at is None and is_quiet:
                state = self.job.current_state()
                ended_at = self.clock.monotonic() if state.is_final else None
            before = self._count
            for line in self._new_lines():
                yield line
                last_new = self.clock.monotonic()
                if self.stop.is_set():
                    return
            pause = (
                _FIRST_PAUSE if self._count != before or ended_at is not None else min(_LONGEST_PAUSE, pause * _GROWTH)
            )
            if self._is_over(ended_at, last_new, state):
                return

    def _is_over(self, ended_at: float | None, last_new: float, state: JobState) -> bool:
        now = self.clock.monotonic()
        if ended_at is None:
            if state.unavailable is None or now - last_new < _GIVE_UP:
                return False
            self.job.warn(
                f"{self.job.query.what} is not followed any more: its state cannot be determined: {state.unavailable}"
            )
            return True
        settling = _FIRST_PAUSE if self._has_end_mark else _SETTLING
        return now - max(ended_at, last_new) >= settling or now - ended_at >= _LONGEST_SETTLING
