"""Bring the recorded states of unfinished jobs up to date, without holding a database session meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from caliban.errors import CalibanError
from caliban.platforms.base import Observation, Platforms, Unreachable
from caliban.records import ExperimentView, GroupView, JobStatus, JobView, JsonObject, PlatformName


@dataclass(frozen=True)
class Refreshed:
    """What asking the platforms gave.

    Attributes:
        groups: as asked for, their jobs brought up to date; those that could not be are marked ``stale``.
        changes: what is to be written back, by ``jobs.id``; details None where they stay as they are.
    """

    groups: tuple[GroupView, ...]
    changes: Mapping[int, tuple[JobStatus, JsonObject | None]]


def refresh(groups: Sequence[GroupView], platforms: Platforms) -> Refreshed:
    """Ask each platform once for all of its unfinished jobs among ``groups``. Finished ones are not asked about."""
    unfinished: dict[PlatformName, list[JobView]] = {}
    for group in groups:
        for experiment in group.experiments:
            for job in experiment.jobs:
                if not job.status.is_final:
                    unfinished.setdefault(job.platform, []).append(job)
    polls: dict[int, Observation | Unreachable] = {}
    for name, jobs in unfinished.items():
        polls.update(_ask(name, jobs, platforms))
    if not polls:
        return Refreshed(tuple(groups), {})
    fresh = tuple(
        replace(group, experiments=tuple(_with_polls(experiment, polls) for experiment in group.experiments))
        for group in groups
    )
    known = {job.id: job for jobs in unfinished.values() for job in jobs}
    changes = {
        job_id: (poll.status, poll.details)
        for job_id, poll in polls.items()
        if isinstance(poll, Observation) and (poll.status != known[job_id].status or poll.details is not None)
    }
    return Refreshed(fresh, changes)


def _ask(name: PlatformName, jobs: Sequence[JobView], platforms: Platforms) -> Mapping[int, Observation | Unreachable]:
    try:
        return platforms.get(name).statuses(jobs)
    except CalibanError as error:
        return {job.id: Unreachable(error.message) for job in jobs}


def _with_polls(experiment: ExperimentView, polls: Mapping[int, Observation | Unreachable]) -> ExperimentView:
    if not any(job.id in polls for job in experiment.jobs):
        return experiment
    return replace(experiment, jobs=tuple(_with_poll(job, polls.get(job.id)) for job in experiment.jobs))


def _with_poll(job: JobView, poll: Observation | Unreachable | None) -> JobView:
    if isinstance(poll, Observation):
        return replace(job, status=poll.status, details=job.details if poll.details is None else poll.details)
    return job if poll is None else replace(job, stale=poll.reason)
