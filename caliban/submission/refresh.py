"""Refresh the recorded states of unfinished jobs, without holding a database session meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from caliban.errors import CalibanError, PlatformError, one_line
from caliban.outputs.stored import StoredOutput
from caliban.platforms.registry import Platforms
from caliban.records import (
    ExperimentRecord,
    GroupRecord,
    JobRecord,
    JobUpdate,
    PlatformId,
    StatusUnavailable,
)
from caliban.store.database import Store
from caliban.store.job_logs import record_outputs
from caliban.store.states import record_states
from caliban.submission.boundary import INTERNAL_ERROR, expected, platform_errors
from caliban.submission.capture import capture, is_missing, with_error
from caliban.submission.removal import is_due, remove_ended
from caliban.submission.stopping import as_update
from caliban.threads import side_by_side

Answers = Mapping[int, JobUpdate | StatusUnavailable]
"""What platforms report of jobs, by ``jobs.id``."""

_NOT_REPORTED = StatusUnavailable("the platform does not report its state")


@dataclass(frozen=True)
class Refreshed:
    """The answers of the platforms.

    Attributes:
        groups: the groups with refreshed jobs; a job that could not be refreshed has a ``refresh_error``.
        changes: what is to be recorded, by ``jobs.id``.
        outputs: the output of those that have ended, and of those whose output is missing, likewise.
    """

    groups: tuple[GroupRecord, ...]
    changes: Mapping[int, JobUpdate]
    outputs: Mapping[int, StoredOutput] = field(default_factory=dict)

    @property
    def is_recorded(self) -> bool:
        """Whether :meth:`record` has nothing to do."""
        return not self.changes and not self.outputs and not any(map(is_due, _jobs(self.groups)))

    def record(self, store: Store, platforms: Platforms) -> tuple[GroupRecord, ...]:
        """Record the changes, then remove what ended jobs left behind and are to remove.

        Returns:
            The groups as they are recorded: another command may have been first.

        Raises:
            StoreError: the changes could not be recorded.
        """
        groups = self._record_changes(store, platforms) if self.changes or self.outputs else self.groups
        remove_ended(_jobs(groups), store, platforms)
        return groups

    def _record_changes(self, store: Store, platforms: Platforms) -> tuple[GroupRecord, ...]:
        with store.writing() as session:
            states = record_states(session, self.changes).states
            record_outputs(session, self.outputs.values(), platforms.context.clock)
        jobs = {job.id: job for job in _jobs(self.groups)}
        return _all_updated(self.groups, {key: as_update(jobs[key], state) for key, state in states.items()})


def refresh(groups: Sequence[GroupRecord], platforms: Platforms) -> Refreshed:
    """Query each platform once for all of its unfinished jobs among ``groups``. Finished ones are not queried."""
    unfinished: dict[PlatformId, dict[int, JobRecord]] = {}
    for job in _jobs(groups):
        if not job.status.is_final:
            unfinished.setdefault(job.platform, {})[job.id] = job
    answers = _query_all(unfinished, platforms)
    changes: dict[int, JobUpdate] = {}
    for jobs in unfinished.values():
        for job_id, job in jobs.items():
            answer = answers[job_id]
            if isinstance(answer, JobUpdate) and (answer.status != job.status or answer.details is not None):
                changes[job_id] = answer
    updated = _all_updated(groups, answers)
    wanted = (job for job in _jobs(updated) if job.id in changes or is_missing(job, platforms))
    outputs = capture(wanted, platforms, shows_progress=True)
    return Refreshed(_with_errors(updated, outputs), changes, outputs)


def _query_all(unfinished: Mapping[PlatformId, Mapping[int, JobRecord]], platforms: Platforms) -> Answers:
    """Query all platforms at the same time: one that does not answer delays no other."""
    queries = {key: partial(_query, key, tuple(jobs.values()), platforms) for key, jobs in unfinished.items()}
    found = side_by_side(queries) if len(queries) > 1 else {key: query() for key, query in queries.items()}
    return {job_id: answer for each in found.values() if isinstance(each, Mapping) for job_id, answer in each.items()}


def _query(platform: PlatformId, jobs: Sequence[JobRecord], platforms: Platforms) -> Answers:
    """Return an answer for each of the jobs, whatever the platform does."""
    try:
        with platform_errors(platform, "report the states of its jobs"):
            found = platforms.get(platform).statuses(jobs)
            return {job.id: expected(found.get(job.id, _NOT_REPORTED), JobUpdate, StatusUnavailable) for job in jobs}
    except CalibanError as error:
        reason = one_line(error) if error.id == INTERNAL_ERROR else error.message
        is_permanent = isinstance(error, PlatformError) and error.is_permanent
        return {job.id: StatusUnavailable(reason, is_permanent) for job in jobs}


def _jobs(groups: Sequence[GroupRecord]) -> list[JobRecord]:
    return [job for group in groups for experiment in group.experiments for job in experiment.jobs]


def _all_updated(groups: Sequence[GroupRecord], answers: Answers) -> tuple[GroupRecord, ...]:
    if not answers:
        return tuple(groups)
    return tuple(
        replace(group, experiments=tuple(_updated(each, answers) for each in group.experiments)) for group in groups
    )


def _with_errors(groups: Sequence[GroupRecord], outputs: Mapping[int, StoredOutput]) -> tuple[GroupRecord, ...]:
    if not outputs:
        return tuple(groups)

    def changed(experiment: ExperimentRecord) -> ExperimentRecord:
        return replace(experiment, jobs=tuple(with_error(job, outputs) for job in experiment.jobs))

    return tuple(replace(group, experiments=tuple(map(changed, group.experiments))) for group in groups)


def _updated(experiment: ExperimentRecord, answers: Answers) -> ExperimentRecord:
    if not any(job.id in answers for job in experiment.jobs):
        return experiment
    jobs = tuple(job.updated(answers[job.id]) if job.id in answers else job for job in experiment.jobs)
    return replace(experiment, jobs=jobs)
