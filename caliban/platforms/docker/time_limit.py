"""``caliban run --timeout``: how long a local job may run.

Docker has no such limit, so the command that waits for the job stops it; nobody does once that command has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from caliban.clock import Clock
from caliban.platforms.docker.client import WAIT_SECONDS, Container, Containers
from caliban.platforms.docker.details import container_update, limit_reason, timed_out_update
from caliban.platforms.docker.job_spec import time_limit
from caliban.records import JobRecord, JobUpdate
from caliban.reporter import Reporter


@dataclass(frozen=True)
class TimeLimit:
    """The limit of one job that is being followed.

    Attributes:
        seconds: how long it may run; None for as long as it takes.
        deadline: the end of that, on the monotonic clock.
        clock: the time.
    """

    seconds: int | None
    deadline: float
    clock: Clock

    @classmethod
    def of(cls, job: JobRecord, clock: Clock) -> TimeLimit:
        """Return the limit of a job that was started just now."""
        seconds = time_limit(job.spec)
        return cls(seconds, clock.monotonic() + (seconds or 0), clock)

    @property
    def wait_seconds(self) -> int:
        """How long to wait for the end of the job before looking again."""
        if self.seconds is None:
            return WAIT_SECONDS
        return max(1, min(WAIT_SECONDS, ceil(self.deadline - self.clock.monotonic())))

    @property
    def is_over(self) -> bool:
        """Whether the job is to be stopped."""
        return self.seconds is not None and self.clock.monotonic() >= self.deadline

    def stop(self, job: JobRecord, containers: Containers, container: Container, reporter: Reporter) -> JobUpdate:
        """Stop a job that is over its limit, as ``docker stop`` does, and return how it ended.

        Raises what :class:`Containers` does.
        """
        assert self.seconds is not None
        reporter.info(f"job {job.id} {limit_reason(self.seconds)}: stopping it ...")
        was_running = containers.stop(container)
        ended = containers.inspect(container.id)
        if was_running or ended is None:
            return timed_out_update(job.details.raw, ended.state if ended else None, self.seconds)
        return container_update(job.details.raw, ended.state, self.seconds)
