"""The journal: a submission is recorded before it is sent, and settled together with its job.

A crash in between leaves an OPEN row whose process has ended. Its token tells whether the platform has the job.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from caliban.errors import StoreError
from caliban.records import (
    AttemptKind,
    Destination,
    FirstAttempt,
    JobRecord,
    JsonObject,
    NewJob,
    PlatformId,
    Rerun,
    Submission,
    SubmissionState,
)
from caliban.store.database import Store
from caliban.store.models import ExperimentGroupRow, ExperimentRow, JobRow, JobSpecRow, SubmissionRow
from caliban.store.views import canonical, json_object, submission_of


class AlreadyOpen(StoreError):
    """Another process is submitting this experiment, or was interrupted while doing so.

    Attributes:
        other: the open row.
    """

    def __init__(self, other: Submission) -> None:
        super().__init__(
            "already-being-submitted",
            f"experiment {other.experiment_id} is already being submitted by {other.user} on {other.host} "
            f"(process {other.pid}) since {other.created:%Y-%m-%d %H:%M:%S}",
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
            hint="run: caliban status; resubmit it again if that job fails",
        )


def new_token() -> str:
    """Return a random token for a submission: 16 hexadecimal digits, valid in names and labels of every platform."""
    return secrets.token_hex(8)


class Journal:
    """The submissions of a store. Each method is one short transaction.

    All but :meth:`open_submissions` require a store that is open for writing.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def open(
        self,
        *,
        experiment_id: int,
        platform: PlatformId,
        spec: JsonObject,
        destination: Destination,
        name: str,
        token: str,
        kind: AttemptKind,
        user: str,
    ) -> Submission:
        """Record a submission that is about to be sent.

        Args:
            experiment_id: whose attempt it is.
            platform: where it goes.
            spec: what is submitted; the experiment's newest job spec is reused if it is equal.
            destination: where on that platform.
            name: the name to request for the job.
            token: of :func:`new_token`.
            kind: whether other jobs of the experiment prevent this one.
            user: who submits.

        Raises:
            AlreadyOpen: another submission of the experiment is open.
            AlreadyResubmitted: the experiment has a job (first attempt), or a newer one than the one to re-run.
            StoreError: ``experiment-unknown``, or any database error.
        """
        with self._store.writing() as session:
            # The lock on the experiment's row serializes concurrent submissions on PostgreSQL; on SQLite the
            # transaction does. The unique index is the last resort for both.
            of_group = session.execute(
                select(ExperimentGroupRow.name)
                .join(ExperimentRow, ExperimentRow.xgroup_id == ExperimentGroupRow.id)
                .where(ExperimentRow.id == experiment_id)
                .with_for_update(of=ExperimentRow)
            ).one_or_none()
            if of_group is None:
                raise StoreError(
                    "experiment-unknown",
                    f"experiment {experiment_id} is not in the experiment store {self._store.location}",
                    hint="to list the experiments, run: caliban status",
                )
            group = of_group.name or ""
            is_open = (SubmissionRow.experiment_id == experiment_id, SubmissionRow.state == SubmissionState.OPEN)
            other = session.scalar(select(SubmissionRow).where(*is_open))
            if other is not None:
                raise AlreadyOpen(submission_of(other, group))
            _check_newest(session, experiment_id, group, kind)
            row = SubmissionRow(
                token=token,
                experiment_id=experiment_id,
                job_spec_id=_job_spec_id(session, experiment_id, platform, spec),
                resubmits=kind.job_id if isinstance(kind, Rerun) else None,
                platform=platform,
                target=dict(destination.to_json()),
                name=name,
                user=user,
                host=socket.gethostname(),
                pid=os.getpid(),
                created=datetime.now(),
                state=SubmissionState.OPEN,
            )
            session.add(row)
            session.flush()
            return submission_of(row, group)

    def is_open(self, submission: Submission) -> bool:
        """Return whether nobody has settled the submission yet. One short statement, made before every request."""
        statement = select(SubmissionRow.state).where(SubmissionRow.id == submission.id)
        with self._store.reading() as session:
            return session.scalar(statement) is SubmissionState.OPEN

    def settle(self, submission: Submission, job: NewJob) -> JobRecord:
        """Record the job of a submission and mark the submission DONE, in one transaction.

        An ABANDONED submission can be settled too: a job that a platform accepted is never lost.

        Raises:
            StoreError: ``already-settled`` if its job is already recorded; nothing is written then.
        """
        return self._record(submission, job, SubmissionState.DONE, None)

    def fail(self, submission: Submission, job: NewJob, error: str) -> JobRecord:
        """Record a submission that was refused, with a failed job that the next ``resubmit`` selects.

        Args:
            submission: what was refused.
            job: its state is FAILED.
            error: why, in the platform's words.

        Raises:
            StoreError: ``already-settled`` if its job is already recorded; nothing is written then.
        """
        return self._record(submission, job, SubmissionState.FAILED, error)

    def abandon(self, submission: Submission, reason: str) -> None:
        """Close an open submission that the platform does not have; the experiment can be submitted again.

        Raises:
            StoreError: ``already-settled`` if it is not open any more.
        """
        with self._store.writing() as session:
            self._change(
                session,
                submission,
                {SubmissionState.OPEN},
                {"state": SubmissionState.ABANDONED, "error": reason},
            )

    def open_submissions(self, user: str, group: str | None = None) -> list[Submission]:
        """Return the open submissions of the user's group, or of all of their groups, oldest first."""
        if not self._store.has_journal:
            return []
        statement = (
            select(SubmissionRow, ExperimentGroupRow.name)
            .join(ExperimentRow, ExperimentRow.id == SubmissionRow.experiment_id)
            .join(ExperimentGroupRow, ExperimentGroupRow.id == ExperimentRow.xgroup_id)
            .where(ExperimentGroupRow.user == user, SubmissionRow.state == SubmissionState.OPEN)
            .order_by(SubmissionRow.id)
        )
        if group is not None:
            statement = statement.where(ExperimentGroupRow.name == group)
        with self._store.reading() as session:
            return [submission_of(row, name or "") for row, name in session.execute(statement)]

    def _record(self, submission: Submission, job: NewJob, state: SubmissionState, error: str | None) -> JobRecord:
        with self._store.writing() as session:
            row = JobRow(
                created=datetime.now(),
                job_spec_id=submission.job_spec_id,
                experiment_id=submission.experiment_id,
                container=job.container,
                status=job.status,
                details=dict(job.details.raw),
                user=submission.user,
            )
            session.add(row)
            session.flush()
            unsettled = {SubmissionState.OPEN, SubmissionState.ABANDONED}
            self._change(session, submission, unsettled, {"state": state, "job_id": row.id, "error": error})
            spec = session.get_one(JobSpecRow, submission.job_spec_id).spec
            return JobRecord(
                id=row.id,
                platform=submission.platform,
                spec_id=submission.job_spec_id,
                spec=json_object(spec),
                container=job.container,
                status=job.status,
                details=job.details,
                created=row.created,
                user=submission.user,
            )

    def _change(
        self, session: Session, submission: Submission, states: set[SubmissionState], values: Mapping[str, object]
    ) -> None:
        """Change the row if it is in one of ``states``; otherwise raise, which rolls the transaction back."""
        row = SubmissionRow.id == submission.id
        changed = session.execute(
            update(SubmissionRow)
            .where(row, SubmissionRow.state.in_(states))
            .values(dict(values))
            .returning(SubmissionRow.id)
            .execution_options(synchronize_session=False)
        ).all()
        if not changed:
            now = session.scalar(select(SubmissionRow.state).where(row))
            raise StoreError(
                "already-settled",
                f"submission {submission.id} was already settled by another process",
                cause=f"its state is {now.value}" if now else "it was deleted",
                hint="to see its job, run: caliban status",
            )


def _check_newest(session: Session, experiment_id: int, group: str, kind: AttemptKind) -> None:
    """Check that no other process has submitted the same attempt since the experiment was read."""
    if not isinstance(kind, FirstAttempt | Rerun):
        return
    newest = session.scalar(select(func.max(JobRow.id)).where(JobRow.experiment_id == experiment_id))
    if newest is not None and (isinstance(kind, FirstAttempt) or newest > kind.job_id):
        row = session.scalar(select(SubmissionRow).where(SubmissionRow.job_id == newest))
        raise AlreadyResubmitted(experiment_id, newest, submission_of(row, group) if row else None)


def _job_spec_id(session: Session, experiment_id: int, platform: PlatformId, spec: JsonObject) -> int:
    newest = session.scalar(
        select(JobSpecRow).where(JobSpecRow.experiment_id == experiment_id).order_by(JobSpecRow.id.desc()).limit(1)
    )
    if newest is not None and newest.platform == platform and canonical(newest.spec) == canonical(spec):
        return newest.id
    row = JobSpecRow(experiment_id=experiment_id, platform=platform, spec=dict(spec), created=datetime.now())
    session.add(row)
    session.flush()
    return row.id
