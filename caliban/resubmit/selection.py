"""Select the jobs of a group that are re-run: the latest attempt of each experiment, by its state and by flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from caliban.job_filter import JobFilter
from caliban.platforms.registry import details_at
from caliban.records import ExperimentRecord, GroupRecord, JobRecord, JobStatus
from caliban.store.first_submissions import FirstSubmission

ALREADY_SUBMITTED = "already submitted by this command before it was interrupted"
"""Why an experiment is left out by a command that continues."""


@dataclass(frozen=True)
class Choice:
    """Which experiments of a group are re-run.

    Attributes:
        filter: conditions on their jobs and parameters. Those on states replace the usual one, FAILED or STOPPED.
        all_jobs: whatever the state of their latest attempt.
        max_attempts: leave out those with so many attempts; None for no limit.
        limit: how many, the first ones; None for all.
    """

    filter: JobFilter = field(default_factory=JobFilter)
    all_jobs: bool = False
    max_attempts: int | None = None
    limit: int | None = None

    @property
    def needs_all_attempts(self) -> bool:
        """Whether all attempts of each experiment have to be read, not only the latest one."""
        return self.filter.needs_all_attempts or self.max_attempts is not None

    def check(self, group: GroupRecord) -> None:
        """Check that the jobs that are named are in the group.

        Raises:
            CalibanError: ``unknown-job``.
        """
        self.filter.check([group])

    def possible(self, group: GroupRecord) -> GroupRecord:
        """Return the group with the experiments that may be chosen, whatever their states are now."""
        conditions = self.filter.unchanging()
        return replace(group, experiments=tuple(each for each in group.experiments if not conditions.left_out(each)))

    def reason_to_skip(self, experiment: ExperimentRecord) -> str | None:
        """Return why an experiment is not re-run; None where it is."""
        reason = self.filter.left_out(experiment) or self._reason_of_state(experiment.latest)
        return reason or self.reason_of_attempts(experiment)

    def reason_of_attempts(self, experiment: ExperimentRecord) -> str | None:
        """Return that an experiment had too many attempts; None if it had not."""
        number = len(experiment.jobs)
        if self.max_attempts is None or number < self.max_attempts:
            return None
        return f"already had {number} attempt{'s' if number != 1 else ''}"

    def _reason_of_state(self, job: JobRecord | None) -> str | None:
        named = self.filter.states
        if named or self.filter.never_run:
            is_chosen = self.filter.never_run if job is None else job.status in named
            return None if is_chosen else state_text(job)
        if self.all_jobs or job is None or job.status.is_rerunnable:
            return None
        return state_text(job)


@dataclass(frozen=True)
class SelectedExperiment:
    """An experiment that is re-run.

    Attributes:
        experiment: with its latest attempt, if it has one.
        template: the job whose platform and job spec the new attempt takes: the latest attempt; where the experiment
            has none, what ``submission`` was to start, or another experiment's job.
        submission: of an experiment without a job: what its interrupted command recorded.
    """

    experiment: ExperimentRecord
    template: JobRecord
    submission: FirstSubmission | None = None


@dataclass(frozen=True)
class SkippedExperiment:
    """An experiment that is not re-run, and why."""

    experiment: ExperimentRecord
    reason: str


@dataclass(frozen=True)
class Selection:
    """Every experiment of the group is in one of the two, in the order of ids."""

    selected: tuple[SelectedExperiment, ...]
    skipped: tuple[SkippedExperiment, ...]


def select(
    group: GroupRecord,
    choice: Choice,
    in_progress: Mapping[int, str],
    first: Mapping[int, FirstSubmission] = MappingProxyType({}),
) -> Selection:
    """Select the experiments of a group.

    Args:
        group: with the latest attempt of each experiment, or all where the choice needs them; states refreshed.
        choice: which ones.
        in_progress: why some experiments cannot be re-run now, by ``experiments.id``.
        first: what was to be submitted for experiments that have no job, likewise.
    """
    selected: list[SelectedExperiment] = []
    skipped: list[SkippedExperiment] = []
    siblings = _Siblings(group.experiments)
    for experiment in group.experiments:
        reason = in_progress.get(experiment.id) or choice.reason_to_skip(experiment)
        if reason is None and choice.limit is not None and len(selected) >= choice.limit:
            reason = f"beyond --limit {choice.limit}"
        submission = first.get(experiment.id) if experiment.latest is None else None
        template = experiment.latest or _job_of(submission) or siblings.job_for(experiment)
        if reason is None and template is None:
            reason = "never submitted, and no other experiment has its container spec: run the submitting command again"
        if reason is not None or template is None:
            skipped.append(SkippedExperiment(experiment, reason or ""))
        else:
            selected.append(SelectedExperiment(experiment, template, submission))
    return Selection(tuple(selected), tuple(skipped))


def state_text(job: JobRecord | None) -> str:
    """Return the state of a job as the reason why its experiment is left out."""
    if job is None:
        return "never run"
    if job.status.is_final:
        return job.status.value.lower()
    if job.status is JobStatus.UNKNOWN:
        return "state unknown, may be running"
    if job.refresh_error:
        return f"not finished (last known state {job.status.value.lower()}; {job.refresh_error})"
    return f"not finished ({job.status.value.lower()})"


def _job_of(submission: FirstSubmission | None) -> JobRecord | None:
    """Return what was to be submitted as the job that it would have been; its id is 0."""
    if submission is None:
        return None
    details = details_at(submission.platform, submission.destination)
    return JobRecord(
        id=0,
        platform=submission.platform,
        spec_id=submission.spec_id,
        spec=submission.spec,
        container="",
        status=JobStatus.SUBMITTED,
        details=details,
        created=submission.created,
        user=submission.user,
    )


class _Siblings:
    """The jobs whose settings experiments without a job take."""

    def __init__(self, experiments: Sequence[ExperimentRecord]) -> None:
        self._latest: dict[int, JobRecord] = {}
        self._newest: dict[int, JobRecord] = {}  # by container spec
        for each in experiments:
            if each.latest is None:
                continue
            self._latest[each.id] = each.latest
            before = self._newest.get(each.container.id)
            if before is None or before.id < each.latest.id:
                self._newest[each.container.id] = each.latest

    def job_for(self, experiment: ExperimentRecord) -> JobRecord | None:
        """Return the latest job of its origin, or else the newest one among the experiments of its container spec."""
        origin = None if experiment.origin is None else self._latest.get(experiment.origin)
        return origin or self._newest.get(experiment.container.id)
