"""Jobs that go first: the others of their kind are submitted when they have gone well, or not at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    """Decides whether jobs may be submitted that wait for another one."""

    def __init__(self, first: Mapping[int, int], seconds: float | None, clock: Clock) -> None:
        """Prepare.

        Args:
            first: ``experiments.id`` -> that of the experiment whose job goes first, which may be the same.
            seconds: for how long a job has to run; None: it has to succeed.
            clock: of this machine.
        """
        self._first, self._seconds, self._clock = first, seconds, clock
        self._running_since: dict[int, float] = {}

    def goes_before(self, experiment_id: int) -> int | None:
        """Return the experiment whose job goes before that of another one; None where it waits for none."""
        first = self._first.get(experiment_id)
        return None if first == experiment_id else first

    def verdicts(self, look: Look, unsubmitted: Collection[int]) -> dict[int, Verdict]:
        """Return what is known of each job that goes first, by the id of its experiment.

        Args:
            look: the latest.
            unsubmitted: the experiments whose jobs are still to be submitted, or submitted again.
        """
        experiments = {each.id: each for each in look.experiments}
        unfinished = {each.id for each in look.unfinished}
        return {
            first: Verdict.UNDECIDED
            if first in unsubmitted
            else self._verdict(experiments.get(first), is_unfinished=first in unfinished)
            for first in set(self._first.values())
        }

    def _verdict(self, experiment: ExperimentRecord | None, *, is_unfinished: bool) -> Verdict:
        if experiment and experiment.latest and experiment.latest.status is JobStatus.SUCCEEDED:
            return Verdict.GOOD
        if not is_unfinished:
            return Verdict.BAD
        return Verdict.GOOD if experiment and self._has_run_long(experiment) else Verdict.UNDECIDED

    def _has_run_long(self, experiment: ExperimentRecord) -> bool:
        job = experiment.latest
        if job is None or job.status is not JobStatus.RUNNING or job.refresh_error or self._seconds is None:
            return False
        seen = self._clock.monotonic() - self._running_since.setdefault(job.id, self._clock.monotonic())
        started = job.details.started
        recorded = (self._clock.utc_now() - started).total_seconds() if started else 0.0
        return max(seen, recorded) >= self._seconds
