"""Whether a submission may be recorded: one at a time for each experiment, and none that was decided on old facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from caliban.attempts import AttemptKind, FirstAttempt, Rerun, Submission, SubmissionState
from caliban.clock import Clock, local_text
from caliban.errors import StoreError
from caliban.records import Destination, JsonObject, PlatformId
from caliban.store.chunks import chunks
from caliban.store.code import BuildOrigin
from caliban.store.group_stop import ended_experiments, stopped
from caliban.store.models import ExperimentRow, JobRow, JobSpecRow, SubmissionRow
from caliban.store.submissions import select_submissions, submission_from


class AlreadyOpen(StoreError):
    """Another process is submitting this experiment, or was interrupted while doing so.

    Attributes:
        other: the open row.
    """

    def __init__(self, other: Submission) -> None:
        super().__init__(
            "already-being-submitted",
            f"experiment {other.experiment_id} is already being submitted by {other.user} on {other.host} "
            f"(process {other.pid}) since {local_text(other.created)}",
            hint="wait for that process to end; if it was interrupted, run the command again to look its job up",
        )
        self.other = other


class AlreadyResubmitted(StoreError):
    """Another process has submitted this experiment since its state was read here."""

    def __init__(self, experiment_id: int, job_id: int, by: Submission | None) -> None:
        origin = f" by {by.user} on {by.host} (process {by.pid})" if by else ""
        super().__init__(
            "already-resubmitted",
            f"experiment {experiment_id} was already submitted again{origin}, as job {job_id}",
            hint="to see that job, run: caliban status; to submit it once more, run this command again",
        )


@dataclass(frozen=True)
class NewSubmission:
    """A submission that is about to be recorded.

    Attributes:
        experiment_id: whose attempt it is.
        platform: where it goes.
        spec: what is submitted; the experiment's newest job spec is reused if it is equal.
        destination: where on that platform.
        name: the name to request for the job.
        token: of :func:`new_token`.
        kind: whether other jobs of the experiment prevent this one.
        build: from what, and where, its image is built.
    """

    experiment_id: int
    platform: PlatformId
    spec: JsonObject
    destination: Destination
    name: str
    token: str
    kind: AttemptKind
    build: BuildOrigin = field(default_factory=BuildOrigin)


def check(
    session: Session, entries: Sequence[NewSubmission], location: str, clock: Clock, since: int | None = None
) -> list[StoreError | None]:
    """Return for each entry why it cannot be submitted, or None; what was stopped after the batch ``since`` cannot.

    The locks on the rows of the experiments serialize concurrent submissions on PostgreSQL; on SQLite the transaction
    does. The unique index is the last resort for both.
    """
    ids = sorted({entry.experiment_id for entry in entries})
    known: set[int] = set()
    is_open: dict[int, Submission] = {}
    newest: dict[int, int] = {}
    ended: set[int] = set()
    for chunk in chunks(ids):
        experiments = select(ExperimentRow.id).where(ExperimentRow.id.in_(chunk)).order_by(ExperimentRow.id)
        known.update(session.scalars(experiments.with_for_update()))
        if since is not None:
            ended |= ended_experiments(session, chunk, since)
        opened = select_submissions(session, clock, has_batches=True).where(
            SubmissionRow.experiment_id.in_(chunk), SubmissionRow.state == SubmissionState.OPEN
        )
        is_open.update({row.experiment_id: submission_from(row) for row in session.execute(opened)})
        jobs = (
            select(JobRow.experiment_id, func.max(JobRow.id))
            .where(JobRow.experiment_id.in_(chunk))
            .group_by(JobRow.experiment_id)
        )
        newest.update({experiment_id: job_id for experiment_id, job_id in session.execute(jobs) if experiment_id})
    errors: list[StoreError | None] = []
    for entry in entries:
        error: StoreError | None = None
        job_id = newest.get(entry.experiment_id)
        if entry.experiment_id not in known:
            error = _unknown(entry.experiment_id, location)
        elif entry.experiment_id in ended:
            error = stopped("its experiment group was stopped by another command")
        elif entry.experiment_id in is_open:
            error = AlreadyOpen(is_open[entry.experiment_id])
        elif job_id is not None and _is_outdated(entry.kind, job_id):
            error = AlreadyResubmitted(entry.experiment_id, job_id, _submission_of_job(session, job_id, clock))
        errors.append(error)
    return errors


def _is_outdated(kind: AttemptKind, newest: int) -> bool:
    """Return whether another process submitted the experiment since it was decided to submit it."""
    if isinstance(kind, FirstAttempt):
        return True
    seen = kind.job_id if isinstance(kind, Rerun) else kind.after
    return seen is not None and newest > seen


def _unknown(experiment_id: int, location: str) -> StoreError:
    return StoreError(
        "experiment-unknown",
        f"experiment {experiment_id} is not in the experiment store {location}",
        hint="to list the experiments, run: caliban status",
    )


def _submission_of_job(session: Session, job_id: int, clock: Clock) -> Submission | None:
    statement = select_submissions(session, clock, has_batches=True).where(SubmissionRow.job_id == job_id)
    row = session.execute(statement).first()
    return None if row is None else submission_from(row)


def newest_specs(session: Session, experiment_ids: Sequence[int]) -> dict[int, JobSpecRow]:
    """Return the newest job spec of each experiment that has one."""
    found: dict[int, JobSpecRow] = {}
    for chunk in chunks(experiment_ids):
        newest = (
            select(func.max(JobSpecRow.id))
            .where(JobSpecRow.experiment_id.in_(chunk))
            .group_by(JobSpecRow.experiment_id)
        )
        for row in session.scalars(select(JobSpecRow).where(JobSpecRow.id.in_(newest))):
            if row.experiment_id is not None:
                found[row.experiment_id] = row
    return found
