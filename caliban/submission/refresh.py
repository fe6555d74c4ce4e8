"""Bring the recorded states of unfinished jobs up to date, without holding a database session meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from caliban.errors import CalibanError
from caliban.platforms.base import JobUpdate, Platforms, StatusUnavailable
from caliban.records import ExperimentRecord, GroupRecord, JobRecord, JobStatus, JsonObject, PlatformName


@dataclass(frozen=True)
class Refreshed:
    """What asking the platforms gave.

    Attributes:
        groups: as asked for, their jobs brought up to date; those that could not be are marked ``refresh_error``.
        changes: what is to be written back, by ``jobs.id``; details None where they stay as they are.
    """

    groups: tuple[GroupRecord, ...]
    changes: Mapping[int, tuple[JobStatus, JsonObject | None]]


def refresh(groups: Sequence[GroupRecord], platforms: Platforms) -> Refreshed:
    """Ask each platform once for all of its unfinished jobs among ``groups``. Finished ones are not asked about."""
    unfinished: dict[PlatformName, list[JobRecord]] = {}
    for group in groups:
        for experiment in group.experiments:
            for job in experiment.jobs:
                if not job.status.is_final:
                    unfinished.setdefault(job.platform, []).append(job)
    polls: dict[int, JobUpdate | StatusUnavailable] = {}
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
        if isinstance(poll, JobUpdate) and (poll.status != known[job_id].status or poll.details is not None)
    }
    return Refreshed(fresh, changes)


def _ask(
    name: PlatformName, jobs: Sequence[JobRecord], platforms: Platforms
) -> Mapping[int, JobUpdate | StatusUnavailable]:
    try:
        return platforms.get(name).statuses(jobs)
    except CalibanError as error:
        return {job.id: StatusUnavailable(error.message) for job in jobs}


def _with_polls(experiment: ExperimentRecord, polls: Mapping[int, JobUpdate | StatusUnavailable]) -> ExperimentRecord:
    if not any(job.id in polls for job in experiment.jobs):
        return experiment
    return replace(experiment, jobs=tuple(_with_poll(job, polls.get(job.id)) for job in experiment.jobs))


def _with_poll(job: JobRecord, poll: JobUpdate | StatusUnavailable | None) -> JobRecord:
    if isinstance(poll, JobUpdate):
        return replace(job, status=poll.status, details=job.details if poll.details is None else poll.details)
    return job if poll is None else replace(job, refresh_error=poll.reason)
