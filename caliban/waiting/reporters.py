"""What is reported while jobs are waited for: each thing once, however often is looked."""

from __future__ import annotations

from contextlib import AbstractContextManager

from caliban.cli import render
from caliban.cli.console import Console
from caliban.clock import Clock
from caliban.durations import duration_text
from caliban.errors import CalibanError, one_line
from caliban.records import Destination, JobRecord, PlatformId
from caliban.reporter import Progress
from caliban.waiting.looks import Look

_Place = tuple[PlatformId, Destination | None]


class WaitReporter:
    """Passes on to a console; while it is quiet, warnings only once each, and no lines of what is tried again.

    Attributes:
        is_quiet: whether somebody looks who has looked before. Failures are then reported by :class:`Outages`.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._warned: set[str] = set()
        self.is_quiet = False

    def info(self, *lines: str) -> None:
        """See :meth:`caliban.reporter.Reporter.info`."""
        if not self.is_quiet:
            self._console.info(*lines)

    def warn(self, line: str) -> None:
        """See :meth:`caliban.reporter.Reporter.warn`."""
        if not self.is_quiet or line not in self._warned:
            self._console.warn(line)
        self._warned.add(line)

    def job_output(self, data: bytes, *, is_stderr: bool) -> None:
        """See :meth:`caliban.reporter.Reporter.job_output`."""
        self._console.job_output(data, is_stderr=is_stderr)

    def progress(self, title: str, *, total: int | None, unit: str) -> AbstractContextManager[Progress]:
        """See :meth:`caliban.reporter.Reporter.progress`."""
        return self._console.progress(title, total=total, unit=unit)


class Outages:
    """Reports when jobs, or the store, cannot be asked about any more, and when they can again: one line each."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console, self._clock = console, clock
        self._began: dict[_Place, float] = {}
        self._store_began: float | None = None

    def store_failed(self, error: CalibanError) -> None:
        """Report that the store cannot be read."""
        if self._store_began is None:
            self._store_began = self._clock.monotonic()
            self._console.warn(f"{one_line(error)}; waiting until the store can be used again")

    def looked(self, look: Look) -> None:
        """Report what has changed."""
        if self._store_began is not None:
            self._console.info(f"the store can be used again, after {self._since(self._store_began)}")
            self._store_began = None
        now: dict[_Place, list[JobRecord]] = {}
        for job in look.unreachable:
            now.setdefault((job.platform, job.details.destination), []).append(job)
        for place in [each for each in self._began if each not in now]:
            self._console.info(f"{place[0]} reports its jobs again, after {self._since(self._began.pop(place))}")
        for place, jobs in now.items():
            if place not in self._began:
                self._began[place] = self._clock.monotonic()
                what = render.count(len(jobs), "job")
                rest = "" if jobs[0].refresh_error_is_permanent else "; waiting until they can be determined"
                self._console.warn(
                    f"cannot determine the state of {what} on {jobs[0].platform}: {jobs[0].refresh_error}{rest}"
                )

    def _since(self, moment: float) -> str:
        return duration_text(self._clock.monotonic() - moment)
