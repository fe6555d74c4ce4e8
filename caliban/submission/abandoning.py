"""Give up what no platform can answer for: open submissions, and jobs that have not ended as far as is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from caliban.attempts import Submission
from caliban.errors import CalibanError, StoreError
from caliban.platforms.registry import Platforms, parse_details
from caliban.records import ExperimentRecord, FailureCause, GroupRecord, JobRecord, JobStatus, JobUpdate
from caliban.store.database import Store
from caliban.store.journal import Journal
from caliban.store.states import record_states
from caliban.submission.groups import read_group
from caliban.submission.in_doubt import OpenSubmissions, read_open, reconcile_open
from caliban.submission.refresh import refresh
from caliban.submission.removal import without_mark


@dataclass(frozen=True)
class Unanswered:
    """What cannot be determined in a group.

    Attributes:
        submissions: of interrupted commands; whether the platform has their jobs is unknown.
        jobs: whose state is unknown, with their experiments.
        in_progress: submissions that another command is working on; they are left alone.
        experiments: all of the group.
    """

    submissions: tuple[Submission, ...]
    jobs: tuple[tuple[ExperimentRecord, JobRecord], ...]
    in_progress: tuple[Submission, ...]
    experiments: tuple[ExperimentRecord, ...]

    @property
    def number(self) -> int:
        """How many jobs may be running."""
        return len(self.submissions) + len(self.jobs)

    def experiment_of(self, submission: Submission) -> ExperimentRecord | None:
        """Return the experiment that was submitted; None where it was deleted."""
        return next((each for each in self.experiments if each.id == submission.experiment_id), None)


def unanswered(
    store: Store, platforms: Platforms, user: str, group: str, name: str | None, *, look_up: bool
) -> Unanswered:
    """Ask the platforms once more, and return what they do not answer for.

    Args:
        store: open for writing with ``look_up``.
        platforms: where the jobs may run.
        user: whose group it is.
        group: its name.
        name: of the one submission or job that is meant; None for all.
        look_up: whether to look up submissions, and to record what the platforms answer.

    Raises:
        CalibanError: ``unknown-xgroup``; ``unknown-submission``: nothing in the group has that name.
    """
    left = reconcile_open(store, platforms, user, group) if look_up else read_open(store, platforms, user, group)
    refreshed = refresh([read_group(store, user, group, per_experiment=None)], platforms)
    [found] = refreshed.record(store, platforms) if look_up else refreshed.groups
    if name is not None:
        _check_name(name, found, left)
    return Unanswered(
        _named(left.in_doubt, name),
        tuple((experiment, job) for experiment, job in _unknown(found) if name in (None, job.details.display_name)),
        _named(left.in_progress, name),
        found.experiments,
    )


def abandon(found: Unanswered, store: Store, user: str) -> int:
    """Close what was found, and return how much of it was still open.

    A job that a platform accepted nevertheless is not known to caliban any more; a job that was recorded is STOPPED.
    """
    reason = f"given up by {user}; may still be running"
    journal = Journal(store)
    closed = 0
    for submission in found.submissions:
        try:
            closed += journal.abandon_interrupted(submission, reason)
        except StoreError as error:
            if error.id != "already-settled":  # another command looked it up meanwhile
                raise
    updates = {job.id: _given_up(job, reason) for _, job in found.jobs}
    with store.writing() as session:
        return closed + record_states(session, updates).changed


def _given_up(job: JobRecord, reason: str) -> JobUpdate:
    raw = {**without_mark(job).raw, "reason": reason, "cause": FailureCause.UNKNOWN.value}
    return JobUpdate(JobStatus.STOPPED, parse_details(job.platform, JobStatus.STOPPED, raw))


def _unknown(group: GroupRecord) -> Iterator[tuple[ExperimentRecord, JobRecord]]:
    for experiment in group.experiments:
        for job in experiment.jobs:
            if not job.status.is_final and (job.refresh_error or job.status is JobStatus.UNKNOWN):
                yield experiment, job


def _named(submissions: Iterable[Submission], name: str | None) -> tuple[Submission, ...]:
    return tuple(submission for submission in submissions if name in (None, submission.name))


def _check_name(name: str, group: GroupRecord, left: OpenSubmissions) -> None:
    known = {submission.name for submission in (*left.in_doubt, *left.in_progress)}
    known |= {str(job.details.display_name) for each in group.experiments for job in each.jobs}
    if name not in known:
        raise CalibanError(
            "unknown-submission",
            f'the experiment group {group.name} has no open submission or job "{name}"',
            hint=f"to list what can be given up, run: caliban abandon --xgroup {group.name} --dry_run",
        )
