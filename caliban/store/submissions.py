"""Read the journal: its rows with their batches, of every revision that has one."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, TypeAlias, cast

from sqlalchemy import ColumnElement, Select, func, literal, null, select
from sqlalchemy.orm import Session

from caliban.attempts import Batch, Submission
from caliban.clock import Clock
from caliban.store.models import BatchRow, ExperimentGroupRow, ExperimentRow, SubmissionRow, UtcTime
from caliban.store.owner import from_text
from caliban.store.views import integer, json_object, text

SubmissionTreeRow: TypeAlias = Any
"""A row of SQLAlchemy with the columns below."""

_OF_0002 = (
    SubmissionRow.id,
    SubmissionRow.token,
    SubmissionRow.experiment_id,
    SubmissionRow.job_spec_id,
    SubmissionRow.resubmits,
    SubmissionRow.platform,
    SubmissionRow.target,
    SubmissionRow.name,
    SubmissionRow.user,
    SubmissionRow.host,
    SubmissionRow.pid,
    SubmissionRow.created,
    SubmissionRow.state,
    SubmissionRow.job_id,
    SubmissionRow.error,
)
_OF_0004 = (
    SubmissionRow.sent,
    SubmissionRow.batch_id,
    BatchRow.owner,
    BatchRow.opened,
    BatchRow.renewals,
    BatchRow.renewed,
)


def utc_now(session: Session, clock: Clock) -> ColumnElement[Any]:
    """Return the time in UTC as an SQL expression: that of the server, so that all machines compare one clock.

    SQLite has no server; there it is that of this machine.
    """
    if session.get_bind().dialect.name == "postgresql":
        return func.timezone("UTC", func.clock_timestamp(), type_=UtcTime)
    return literal(clock.utc_now(), UtcTime)


def select_submissions(session: Session, clock: Clock, *, has_batches: bool) -> Select[Any]:
    """Return the statement that reads rows for :func:`submission_from`.

    Args:
        session: of the store.
        clock: of this machine.
        has_batches: whether the store has revision 0004.
    """
    newer = _OF_0004 if has_batches else [null().label(column.key) for column in _OF_0004]
    statement = (
        select(*_OF_0002, *newer, ExperimentGroupRow.name.label("group_name"), utc_now(session, clock).label("now"))
        .select_from(SubmissionRow)
        .join(ExperimentRow, ExperimentRow.id == SubmissionRow.experiment_id)
        .outerjoin(ExperimentGroupRow, ExperimentGroupRow.id == ExperimentRow.xgroup_id)
    )
    joined = statement.outerjoin(BatchRow, BatchRow.id == SubmissionRow.batch_id) if has_batches else statement
    return cast("Select[Any]", joined)


def submission_from(row: SubmissionTreeRow) -> Submission:
    """Convert a row of :func:`select_submissions`."""
    batch = None
    if row.owner is not None:
        batch = Batch(row.batch_id, from_text(row.owner), row.renewals, (row.now - row.renewed).total_seconds())
    return Submission(
        id=row.id,
        token=text(row.token),
        experiment_id=row.experiment_id,
        group=text(row.group_name or ""),
        job_spec_id=row.job_spec_id,
        resubmits=row.resubmits,
        platform=text(row.platform),
        destination=json_object(row.target),
        name=text(row.name),
        user=text(row.user),
        host=text(row.host),
        pid=integer(row.pid),
        created=row.opened if row.opened is not None else _utc(row.created),
        state=row.state,
        job_id=row.job_id,
        error=row.error,
        batch=batch,
        sent=row.sent,
    )


def _utc(created: datetime) -> datetime:
    """Convert the local time of a row of revision 0003, as if it had been written in the time zone of this machine."""
    try:
        return created.astimezone(timezone.utc)
    except (OverflowError, ValueError, OSError):  # a year that no machine has seen
        return created.replace(tzinfo=timezone.utc)
