"""Which jobs of a group are re-run: the latest attempt of each experiment, by its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caliban.records import ExperimentRecord, GroupRecord, JobRecord, JobStatus


@dataclass(frozen=True)
class SelectedExperiment:
    """An experiment that is to be re-run.

    Attributes:
        experiment: with its latest attempt, if it ever had one.
        pattern: the job whose platform and job spec the new attempt follows: the latest attempt, or a sibling's where
            the experiment never got one.
    """

    experiment: ExperimentRecord
    pattern: JobRecord


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


def select(group: GroupRecord, *, all_jobs: bool, under_way: Mapping[int, str]) -> Selection:
    """Sort the experiments of a group.

    Args:
        group: with the latest attempt of each experiment, states brought up to date.
        all_jobs: take every experiment, whatever the state of its latest attempt.
        under_way: why some experiments cannot be touched now, by ``experiments.id``.
    """
    selected: list[SelectedExperiment] = []
    skipped: list[SkippedExperiment] = []
    for experiment in group.experiments:
        reason = under_way.get(experiment.id) or _reason_to_leave_out(experiment, all_jobs)
        pattern = experiment.latest or _sibling(experiment, group.experiments)
        if reason is None and pattern is None:
            reason = "never submitted, nor was a sibling that shows how: give the command that made it once more"
        if reason is not None or pattern is None:
            skipped.append(SkippedExperiment(experiment, reason or ""))
        else:
            selected.append(SelectedExperiment(experiment, pattern))
    return Selection(tuple(selected), tuple(skipped))


def _reason_to_leave_out(experiment: ExperimentRecord, all_jobs: bool) -> str | None:
    job = experiment.latest
    if all_jobs or job is None or job.status.wants_rerun:
        return None
    if job.status is JobStatus.SUCCEEDED:
        return "succeeded"
    if job.status is JobStatus.UNKNOWN:
        return "in an unknown state, so perhaps running"
    if job.refresh_error:
        return f"not finished ({job.status.value.lower()} when last known; {job.refresh_error})"
    return f"not finished ({job.status.value.lower()})"


def _sibling(experiment: ExperimentRecord, experiments: Sequence[ExperimentRecord]) -> JobRecord | None:
    """The newest job among the experiments of the same container spec."""
    jobs = [other.latest for other in experiments if other.container.id == experiment.container.id and other.latest]
    return max(jobs, key=lambda job: job.id, default=None)
