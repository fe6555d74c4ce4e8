"""Jobs that go first: the others of their kind are submitted when they have gone well, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from caliban.clock import Clock
from caliban.records import ExperimentRecord, JobStatus
from caliban.waiting.looks import Look


class Verdict(Enum):
    """What is known of a job that goes first."""

    UNDECIDED = auto()
    GOOD = auto()
    BAD = auto()


class Canaries:
    """Decides for each experiment whether its job may be submitted.

    Attributes:
        first: ``experiments.id`` -> that of the experiment whose job goes first.
    """

    def __init__(self, first: Mapping[int, int], seconds: float | None, clock: Clock) -> None:
        """Prepare.

        Args:
            first: see the class; an experiment without an entry waits for none.
            seconds: for how long a job has to run; None: it has to succeed.
            clock: of this machine.
        """
        self.first, self._seconds, self._clock = first, seconds, clock
        self._running_since: dict[int, float] = {}

    def verdict(self, experiment_id: int, look: Look) -> Verdict:
        """Return what the job says that goes before that of an experiment; GOOD where none does."""
        first = self.first.get(experiment_id, experiment_id)
        if first == experiment_id:
            return Verdict.GOOD
        experiment = next((each for each in look.experiments if each.id == first), None)
        if experiment is None or experiment.latest is None:
            return Verdict.UNDECIDED if any(each.id == first for each in look.unfinished) else Verdict.BAD
        if experiment.latest.status is JobStatus.SUCCEEDED:
            return Verdict.GOOD
        if any(each.id == first for each in look.unfinished):
            return Verdict.GOOD if self._has_run_long(experiment) else Verdict.UNDECIDED
        return Verdict.BAD

    def _has_run_long(self, experiment: ExperimentRecord) -> bool:
        job = experiment.latest
        if job is None or job.status is not JobStatus.RUNNING or job.refresh_error or self._seconds is None:
            return False
        seen = self._clock.monotonic() - self._running_since.setdefault(job.id, self._clock.monotonic())
        started = job.details.started
        recorded = (self._clock.utc_now() - started).total_seconds() if started else 0.0
        return max(seen, recorded) >= self._seconds
