"""Store the end of the output of jobs, and read it. On a store that has no table for it, there is none."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, not_, null, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute, Session

from caliban.clock import Clock
from caliban.outputs.stored import STORED_BYTES, StoredOutput
from caliban.records import OutputError
from caliban.store.chunks import chunks
from caliban.store.models import HAS_JOB_LOGS, JobLogRow, JobRow
from caliban.store.submissions import utc_now
from caliban.store.views import TreeRow, error_from, text

_MAX_COMPRESSED = STORED_BYTES + 1024
"""Bytes of a compressed output that are read: zlib adds a few to what it cannot compress."""

_MAX_TEXT = 1000
"""Characters of an error, or of the reason why an output is unavailable, that are stored and read."""

_ROWS_AT_A_TIME = 100
"""Each has up to 64 KiB."""

_DAMAGED = "the stored output is damaged"


def record_outputs(session: Session, outputs: Iterable[StoredOutput], clock: Clock) -> None:
    """Record outputs of jobs that are recorded. One that was recorded before stays, unless it was unavailable.

    The time of an output that may be available later is that of the first attempt.

    Args:
        session: of a writing transaction.
        outputs: one for each job.
        clock: of this machine.
    """
    by_job = {output.job_id: output for output in outputs}
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    for job_ids in chunks(sorted(by_job), _ROWS_AT_A_TIME):
        recorded = select(JobRow.id).where(JobRow.id.in_(job_ids)).order_by(JobRow.id)
        rows = [
            {**_values(by_job[job_id]), "recorded": utc_now(session, clock)}
            for job_id in session.scalars(recorded.with_for_update(read=True, key_share=True))
        ]
        if not rows:
            continue
        statement = insert(JobLogRow).values(rows)
        columns = {column.name: column for column in statement.excluded if column.name != "job_id"}
        session.execute(
            statement.on_conflict_do_update(
                index_elements=[JobLogRow.job_id],
                set_=columns,
                where=and_(
                    JobLogRow.unavailable.is_not(None),
                    or_(statement.excluded.unavailable.is_(None), statement.excluded.is_complete),
                ),
            )
        )


def read_output(session: Session, job_id: int) -> StoredOutput | None:
    """Return the stored output of a job; None where there is none."""
    return read_outputs(session, [job_id]).get(job_id)


def read_outputs(session: Session, job_ids: Sequence[int]) -> dict[int, StoredOutput]:
    """Return the stored output of each job that has one, in one statement. Each may have 64 KiB: ask for a few only."""
    if not has_job_logs(session) or not job_ids:
        return {}
    # null also in a row of another program that is longer than any of ours
    output = case((func.length(JobLogRow.output) <= _MAX_COMPRESSED, JobLogRow.output), else_=null())
    statement = select(
        JobLogRow.job_id,
        output.label("output"),
        JobLogRow.output.is_not(None).label("has_output"),
        JobLogRow.is_complete,
        _bounded(JobLogRow.unavailable).label("unavailable"),
        *error_columns(session),
    ).where(JobLogRow.job_id.in_(job_ids))
    return {row.job_id: _stored(row) for row in session.execute(statement)}


def _stored(row: TreeRow) -> StoredOutput:
    data = _decompressed(row.output) if row.has_output else b""
    unavailable = None if row.unavailable is None else text(row.unavailable)
    if data is None:
        unavailable = unavailable or _DAMAGED
    return StoredOutput(row.job_id, data or b"", bool(row.is_complete), unavailable, error_from(row))


def output_errors(session: Session, job_ids: Iterable[int]) -> dict[int, OutputError]:
    """Return the last error in the stored output of each job that has one. One statement per 10,000 jobs."""

    def statement(chunk: Sequence[int]) -> Select[Any]:
        is_error = JobLogRow.error_message.is_not(None) | JobLogRow.error_type.is_not(None)
        return select(JobLogRow.job_id, *error_columns(session)).where(JobLogRow.job_id.in_(chunk), is_error)

    errors = ((row.job_id, error_from(row)) for row in _rows(session, job_ids, statement))
    return {job_id: error for job_id, error in errors if error is not None}


def unavailable_outputs(session: Session, job_ids: Iterable[int]) -> dict[int, str]:
    """Return why the output of each job could not be fetched, where it could not. One statement per 10,000 jobs."""

    def statement(chunk: Sequence[int]) -> Select[Any]:
        return select(JobLogRow.job_id, _bounded(JobLogRow.unavailable).label("unavailable")).where(
            JobLogRow.job_id.in_(chunk), JobLogRow.unavailable.is_not(None)
        )

    return {row.job_id: text(row.unavailable) for row in _rows(session, job_ids, statement)}


def has_job_logs(session: Session) -> bool:
    """Return whether the store of a session has the table."""
    return bool(session.info.get(HAS_JOB_LOGS, True))


def error_columns(session: Session) -> tuple[ColumnElement[Any], ...]:
    """Return the columns that :func:`error_from` reads, for a statement on a store that may not have the table."""
    columns = (JobLogRow.error_type, JobLogRow.error_message, JobLogRow.error_frame)
    if not has_job_logs(session):
        return tuple(null().label(column.key) for column in columns)
    return tuple(_bounded(column).label(column.key) for column in columns)


def job_columns(session: Session) -> tuple[ColumnElement[Any], ...]:
    """Return what a job's record has of its output: :func:`error_columns`, and since when it is missing."""
    missing_since: ColumnElement[Any] = null()
    if has_job_logs(session):
        is_missing = and_(JobLogRow.unavailable.is_not(None), not_(JobLogRow.is_complete))
        missing_since = case((is_missing, JobLogRow.recorded), else_=null())
    return (*error_columns(session), missing_since.label("output_missing_since"))


def _rows(
    session: Session, job_ids: Iterable[int], statement: Callable[[Sequence[int]], Select[Any]]
) -> Iterator[TreeRow]:
    if not has_job_logs(session):
        return
    for chunk in chunks(sorted(set(job_ids))):
        yield from session.execute(statement(chunk))


def _values(output: StoredOutput) -> dict[str, object]:
    error = output.error
    return {
        "job_id": output.job_id,
        "output": zlib.compress(output.data[-STORED_BYTES:]) if output.data else None,
        "is_complete": output.is_complete and len(output.data) <= STORED_BYTES,
        "unavailable": _storable(output.unavailable),
        "error_type": _storable(error.type) if error else None,
        "error_message": _storable(error.message) if error else None,
        "error_frame": _storable(error.frame) if error else None,
    }


def _storable(value: str | None) -> str | None:
    """Return a text as every database stores it: PostgreSQL has no NUL, and none stores surrogates."""
    if value is None:
        return None
    return value[:_MAX_TEXT].replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def _bounded(column: InstrumentedAttribute[str | None]) -> ColumnElement[Any]:
    return func.substr(column, 1, _MAX_TEXT)


def _decompressed(data: object) -> bytes | None:
    """Return what was compressed, 64 KiB at most whatever a row contains; None for anything that is damaged."""
    if not isinstance(data, bytes):
        return None
    with suppress(zlib.error):
        reader = zlib.decompressobj()
        found = reader.decompress(data, STORED_BYTES)
        return found if reader.eof or reader.unconsumed_tail else None
    return None
