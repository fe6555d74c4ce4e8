"""Write the rows of a new batch: the batch, its submissions, and the job specs that are not stored yet."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from caliban.attempts import Owner, Rerun, Submission, SubmissionState
from caliban.clock import Clock
from caliban.store.checks import NewSubmission, newest_specs
from caliban.store.code import record_builds
from caliban.store.models import BatchRow, JobRow, JobSpecRow, SubmissionRow
from caliban.store.owner import to_text
from caliban.store.submissions import select_submissions, submission_from, utc_now
from caliban.store.views import canonical


@dataclass(frozen=True)
class NewBatch:
    """What a command is about to send.

    Attributes:
        entries: the submissions, of one experiment each.
        user: who submits.
        owner: the command's process.
        command: identifies the command where typing it again continues the batch; None elsewhere.
        newest_job: ``batches.newest_job`` of the batch that is continued; None to begin one.
    """

    entries: Sequence[NewSubmission]
    user: str
    owner: Owner
    command: str | None = None
    newest_job: int | None = None


def add_batch(session: Session, new: NewBatch, clock: Clock) -> dict[str, Submission]:
    """Add the rows of a batch, in a constant number of statements, and return the submissions by token."""
    batch_id = _add_row(session, new, clock)
    spec_ids = _spec_ids(session, new.entries, clock)
    now = clock.now()
    session.add_all(
        SubmissionRow(
            token=entry.token,
            experiment_id=entry.experiment_id,
            job_spec_id=spec_ids[entry.experiment_id],
            resubmits=entry.kind.job_id if isinstance(entry.kind, Rerun) else None,
            platform=entry.platform,
            target=dict(entry.destination.to_json()),
            name=entry.name,
            user=new.user,
            host=socket.gethostname(),
            pid=os.getpid(),
            created=now,
            state=SubmissionState.OPEN,
            batch_id=batch_id,
        )
        for entry in new.entries
    )
    session.flush()
    statement = select_submissions(session, clock, has_batches=True).where(SubmissionRow.batch_id == batch_id)
    opened = {row.token: submission_from(row) for row in session.execute(statement)}
    record_builds(session, {opened[entry.token].id: entry.build for entry in new.entries})
    return opened


def _add_row(session: Session, new: NewBatch, clock: Clock) -> int:
    newest_job = new.newest_job
    if newest_job is None:
        newest_job = session.scalar(select(func.max(JobRow.id))) or 0
    utc = session.scalar(select(utc_now(session, clock)))
    row = BatchRow(
        command=new.command,
        newest_job=newest_job,
        owner=to_text(new.owner),
        opened=utc,
        renewals=0,
        renewed=utc,
    )
    session.add(row)
    session.flush()
    return row.id


def _spec_ids(session: Session, entries: Sequence[NewSubmission], clock: Clock) -> dict[int, int]:
    """Return ``job_specs.id`` of each entry by its experiment; specs that differ from the newest are added."""
    newest = newest_specs(session, [entry.experiment_id for entry in entries])
    found: dict[int, int] = {}
    added: list[JobSpecRow] = []
    for entry in entries:
        row = newest.get(entry.experiment_id)
        if row is not None and row.platform == entry.platform and canonical(row.spec) == canonical(entry.spec):
            found[entry.experiment_id] = row.id
            continue
        added.append(
            JobSpecRow(
                experiment_id=entry.experiment_id,
                platform=entry.platform,
                spec=dict(entry.spec),
                created=clock.now(),
            )
        )
    session.add_all(added)
    session.flush()
    return {**found, **{row.experiment_id: row.id for row in added if row.experiment_id is not None}}
