"""Query the batches of a command, in one statement each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from caliban.attempts import Batch, SubmissionState
from caliban.clock import Clock
from caliban.records import JsonObject, PlatformId
from caliban.store.chunks import chunks
from caliban.store.models import BatchRow, ExperimentGroupRow, ExperimentRow, JobRow, SubmissionRow
from caliban.store.owner import from_text
from caliban.store.submissions import utc_now
from caliban.store.views import canonical, integer, json_object


@dataclass(frozen=True)
class RecordedBatch:
    """A batch, and who submitted it.

    Attributes:
        batch: its process and lease.
        group: the name of the experiment group.
        newest_job: the highest ``jobs.id`` when its command was typed first.
        opened: when it was journaled.
        renewed: when its command was last known to be running.
        is_finished: whether its command submitted everything.
        user, host, pid: who submitted it, for people.
    """

    batch: Batch
    group: str
    newest_job: int
    opened: datetime
    renewed: datetime
    is_finished: bool
    user: str
    host: str
    pid: int


def latest_batch(session: Session, clock: Clock, command: str) -> RecordedBatch | None:
    """Return the newest batch of a command; None if it has none."""
    statement = (
        select(
            BatchRow.id,
            BatchRow.owner,
            BatchRow.newest_job,
            BatchRow.opened,
            BatchRow.renewals,
            BatchRow.renewed,
            BatchRow.finished,
            SubmissionRow.user,
            SubmissionRow.host,
            SubmissionRow.pid,
            ExperimentGroupRow.name.label("group_name"),
            utc_now(session, clock).label("now"),
        )
        .join(SubmissionRow, SubmissionRow.batch_id == BatchRow.id)
        .join(ExperimentRow, ExperimentRow.id == SubmissionRow.experiment_id)
        .join(ExperimentGroupRow, ExperimentGroupRow.id == ExperimentRow.xgroup_id)
        .where(BatchRow.command == command)
        .order_by(BatchRow.id.desc(), SubmissionRow.id)
        .limit(1)
    )
    row = session.execute(statement).one_or_none()
    if row is None:
        return None
    return RecordedBatch(
        batch=Batch(row.id, from_text(row.owner), row.renewals, (row.now - row.renewed).total_seconds()),
        group=row.group_name or "",
        newest_job=row.newest_job,
        opened=row.opened,
        renewed=row.renewed,
        is_finished=row.finished is not None,
        user=row.user,
        host=row.host,
        pid=integer(row.pid),
    )


def unfinished_targets(session: Session, user: str, platform: PlatformId) -> list[JsonObject]:
    """Return the destinations (``submissions.target``) of the unfinished batches of a user, the newest batch first."""
    first = (
        select(func.min(SubmissionRow.id))
        .join(BatchRow, BatchRow.id == SubmissionRow.batch_id)
        .where(BatchRow.command.is_not(None), BatchRow.finished.is_(None))
        .group_by(BatchRow.id)
    )
    statement = (
        select(SubmissionRow.target)
        .where(SubmissionRow.id.in_(first), SubmissionRow.user == user, SubmissionRow.platform == platform)
        .order_by(SubmissionRow.id.desc())
    )
    targets = [json_object(target) for target in session.scalars(statement)]
    return list({canonical(target): target for target in targets}.values())


def submitted_since(session: Session, experiment_ids: Sequence[int], newest_job: int) -> set[int]:
    """Return which experiments got a job above ``newest_job``, whoever submitted it; a refused one does not count."""
    found: set[int] = set()
    for chunk in chunks(experiment_ids):
        refused = select(SubmissionRow.job_id).where(
            SubmissionRow.state == SubmissionState.FAILED, SubmissionRow.job_id.is_not(None)
        )
        statement = select(JobRow.experiment_id).where(
            JobRow.experiment_id.in_(chunk),
            JobRow.id > newest_job,
            JobRow.id.not_in(refused),
        )
        found.update(each for each in session.scalars(statement) if each is not None)
    return found
