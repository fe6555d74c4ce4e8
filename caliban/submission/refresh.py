"""Refresh the recorded states of unfinished jobs, without holding a database session meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from caliban.errors import CalibanError
from caliban.platforms.registry import Platforms
from caliban.records import (
    ExperimentRecord,
    GroupRecord,
    JobRecord,
    JobUpdate,
    PlatformId,
    StatusUnavailable,
)


@dataclass(frozen=True)
class Refreshed:
    """The answers of the platforms.

    Attributes:
        groups: the groups with refreshed jobs; a job that could not be refreshed has a ``refresh_error``.
        changes: what is to be recorded, by ``jobs.id``.
    """

    groups: tuple[GroupRecord, ...]
    changes: Mapping[int, JobUpdate]


def refresh(groups: Sequence[GroupRecord], platforms: Platforms) -> Refreshed:
    """Query each platform once for all of its unfinished jobs among ``groups``. Finished ones are not queried."""
    unfinished: dict[PlatformId, dict[int, JobRecord]] = {}
    for group in groups:
        for experiment in group.experiments:
            for job in experiment.jobs:
                if not job.status.is_final:
                    unfinished.setdefault(job.platform, {})[job.id] = job
    answers: dict[int, JobUpdate | StatusUnavailable] = {}
    changes: dict[int, JobUpdate] = {}
    for platform, jobs in unfinished.items():
        for job_id, answer in _query(platform, tuple(jobs.values()), platforms).items():
            answers[job_id] = answer
            if isinstance(answer, JobUpdate) and (answer.status != jobs[job_id].status or answer.details is not None):
                changes[job_id] = answer
    if not answers:
        return Refreshed(tuple(groups), {})
    return Refreshed(
        tuple(
            replace(group, experiments=tuple(_updated(each, answers) for each in group.experiments)) for group in groups
        ),
        changes,
    )


def _query(
    platform: PlatformId, jobs: Sequence[JobRecord], platforms: Platforms
) -> Mapping[int, JobUpdate | StatusUnavailable]:
    try:
        return platforms.get(platform).statuses(jobs)
    except CalibanError as error:
        reason = error.message
    except Exception as error:  # noqa: BLE001 - a platform of another package must not hide the jobs of all others
        reason = f"the platform {platform} failed: {type(error).__name__}: {error}"
    return {job.id: StatusUnavailable(reason) for job in jobs}


def _updated(experiment: ExperimentRecord, answers: Mapping[int, JobUpdate | StatusUnavailable]) -> ExperimentRecord:
    if not any(job.id in answers for job in experiment.jobs):
        return experiment
    jobs = tuple(job.updated(answers[job.id]) if job.id in answers else job for job in experiment.jobs)
    return replace(experiment, jobs=jobs)
