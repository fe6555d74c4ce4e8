"""Select the jobs of a group that are re-run: the latest attempt of each experiment, by its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caliban.records import ExperimentRecord, GroupRecord, JobRecord, JobStatus


@dataclass(frozen=True)
class SelectedExperiment:
    """An experiment that is re-run.

    Attributes:
        experiment: with its latest attempt, if it has one.
        template: the job whose platform and job spec the new attempt takes: the latest attempt, or another experiment's
            where the experiment has none.
    """

    experiment: ExperimentRecord
    template: JobRecord


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


def select(group: GroupRecord, *, all_jobs: bool, in_progress: Mapping[int, str]) -> Selection:
    """Select the experiments of a group.

    Args:
        group: with the latest attempt of each experiment, states refreshed.
        all_jobs: select every experiment, whatever the state of its latest attempt.
        in_progress: why some experiments cannot be re-run now, by ``experiments.id``.
    """
    selected: list[SelectedExperiment] = []
    skipped: list[SkippedExperiment] = []
    for experiment in group.experiments:
        reason = in_progress.get(experiment.id) or _reason_to_skip(experiment, all_jobs)
        template = experiment.latest or _sibling(experiment, group.experiments)
        if reason is None and template is None:
            reason = "never submitted, and no other experiment has its container spec: run the submitting command again"
        if reason is not None or template is None:
            skipped.append(SkippedExperiment(experiment, reason or ""))
        else:
            selected.append(SelectedExperiment(experiment, template))
    return Selection(tuple(selected), tuple(skipped))


def _reason_to_skip(experiment: ExperimentRecord, all_jobs: bool) -> str | None:
    job = experiment.latest
    if all_jobs or job is None or job.status.is_rerunnable:
        return None
    if job.status is JobStatus.SUCCEEDED:
        return "succeeded"
    if job.status is JobStatus.UNKNOWN:
        return "state unknown, may be running"
    if job.refresh_error:
        return f"not finished (last known state {job.status.value.lower()}; {job.refresh_error})"
    return f"not finished ({job.status.value.lower()})"


def _sibling(experiment: ExperimentRecord, experiments: Sequence[ExperimentRecord]) -> JobRecord | None:
    """Return the newest job among the experiments of the same container spec."""
    jobs = [other.latest for other in experiments if other.container.id == experiment.container.id and other.latest]
    return max(jobs, key=lambda job: job.id, default=None)
