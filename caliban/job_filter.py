"""Choose jobs by state, id, cause of failure, parameters and time. Pure: it reads records only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from caliban.causes import cause_of
from caliban.errors import CalibanError
from caliban.parameters import Match
from caliban.records import ExperimentRecord, FailureCause, GroupRecord, JobRecord, JobStatus

_NAMED = 5
_EARLIEST = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class JobFilter:
    """Conditions on jobs, combined with and; alternatives within one condition are combined with or.

    Attributes:
        states: their states; empty: any.
        never_run: whether experiments without a job are among those of ``states``.
        job_ids: ``jobs.id``; empty: any.
        causes: why they failed; empty: any, also those that did not fail.
        matches: the parameters of their experiments; each has to match.
        since: when they ended, or were submitted if they have not ended, at the earliest; with a time zone.
        typed: the flags that say the same, for the commands in hints.
        may_miss_jobs: whether a job that is named may be in none of the groups.
    """

    states: frozenset[JobStatus] = frozenset()
    never_run: bool = False
    job_ids: frozenset[int] = frozenset()
    causes: frozenset[FailureCause] = frozenset()
    matches: tuple[Match, ...] = ()
    since: datetime | None = None
    typed: tuple[str, ...] = field(default=(), compare=False)
    may_miss_jobs: bool = field(default=False, compare=False)

    @property
    def takes_all(self) -> bool:
        """Whether there is no condition."""
        return self == JobFilter()

    @property
    def needs_all_attempts(self) -> bool:
        """Whether all jobs of each experiment have to be read: a job that is named may be an earlier attempt."""
        return bool(self.job_ids)

    def unchanging(self) -> JobFilter:
        """Return the conditions that do not depend on states: what they leave out need not be refreshed."""
        return replace(self, states=frozenset(), never_run=False, causes=frozenset(), since=None)

    def again(self) -> JobFilter:
        """Return the same conditions for groups of which these have chosen before: a named job may be left out."""
        return replace(self, may_miss_jobs=True)

    def apply(self, groups: Sequence[GroupRecord]) -> list[GroupRecord]:
        """Return the groups with only those of their jobs that satisfy all conditions.

        Experiments of which no job is left, and groups of which no experiment is, are left out. An experiment that was
        never run is kept where that is asked for, or only its parameters are.

        Raises:
            CalibanError: ``unknown-job``: a job that is named is in none of the groups.
        """
        self.check(groups)
        if self.takes_all:
            return list(groups)
        chosen = [
            replace(group, experiments=tuple(part for each in group.experiments if (part := self._part(each))))
            for group in groups
        ]
        return [group for group in chosen if group.experiments]

    def experiments(self, groups: Sequence[GroupRecord]) -> list[GroupRecord]:
        """Return the groups with the experiments of chosen jobs: all attempts, where the latest or a named one counts.

        Raises:
            CalibanError: ``unknown-job``: a job that is named is in none of the groups.
        """
        self.check(groups)
        chosen = [
            replace(group, experiments=tuple(each for each in group.experiments if self._part(self._counting(each))))
            for group in groups
        ]
        return [group for group in chosen if group.experiments] if not self.takes_all else list(groups)

    def left_out(self, experiment: ExperimentRecord) -> str | None:
        """Return which condition an experiment does not satisfy by its latest job or a named one; None if all are.

        Conditions on states are not considered.
        """
        for match in self.matches:
            if not match.takes(experiment):
                return f"does not match {match.key}={match.value}"
        if self.job_ids and self.job_ids.isdisjoint(job.id for job in experiment.jobs):
            return "not named with --job"
        latest = experiment.latest
        if latest is None:
            return "never run" if self.causes or self.since is not None else None
        cause = cause_of(latest)
        if self.causes and cause not in self.causes:
            return f"cause {cause.value}" if cause else latest.status.value.lower()
        return "before --since" if self.since is not None and job_moment(latest) < self.since else None

    def takes_job(self, job: JobRecord) -> bool:
        """Return whether a job satisfies the conditions on jobs; those on its parameters are not considered."""
        return (
            (not (self.states or self.never_run) or job.status in self.states)
            and (not self.job_ids or job.id in self.job_ids)
            and (not self.causes or cause_of(job) in self.causes)
            and (self.since is None or job_moment(job) >= self.since)
        )

    def _part(self, experiment: ExperimentRecord) -> ExperimentRecord | None:
        if not all(match.takes(experiment) for match in self.matches):
            return None
        if not experiment.jobs:
            needs_job = bool(self.job_ids or self.causes or self.since is not None)
            return experiment if not needs_job and (self.never_run or not self.states) else None
        jobs = tuple(job for job in experiment.jobs if self.takes_job(job))
        return replace(experiment, jobs=jobs) if jobs else None

    def _counting(self, experiment: ExperimentRecord) -> ExperimentRecord:
        """Return an experiment with the attempts by which it is chosen."""
        return experiment if self.job_ids else replace(experiment, jobs=experiment.jobs[-1:])

    def check(self, groups: Sequence[GroupRecord]) -> None:
        """Check that the jobs that are named are in the groups.

        Raises:
            CalibanError: ``unknown-job``.
        """
        if self.may_miss_jobs:
            return
        known = {job.id for group in groups for experiment in group.experiments for job in experiment.jobs}
        missing = sorted(self.job_ids - known)
        if not missing:
            return
        names = ", ".join(map(str, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
        what = f"job{'s' if len(missing) > 1 else ''} {names}"
        where, whose = (
            (f"the experiment group {groups[0].name} has", "its") if len(groups) == 1 else ("you have", "your")
        )
        hint = f"{whose} jobs: {_range(known)}" if known else "see: caliban status --max_jobs 0"
        raise CalibanError("unknown-job", f"{where} no {what}", hint=hint)


def job_moment(job: JobRecord) -> datetime:
    """Return when a job ended; where that is not known, or it has not ended, when it was submitted. With a zone."""
    if job.status.is_final and job.details.ended is not None:
        return job.details.ended
    try:
        return job.created.astimezone()
    except (OverflowError, ValueError, OSError):  # a year that no machine has seen
        return _EARLIEST


def _range(ids: set[int]) -> str:
    numbers = sorted(ids)
    if len(numbers) <= _NAMED:
        return ", ".join(map(str, numbers))
    return f"{numbers[0]} to {numbers[-1]}"
