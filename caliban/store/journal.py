"""The journal: a submission is recorded before it is sent, and settled together with its job.

A crash in between leaves an OPEN row whose process has ended. Its token tells whether the platform has the job.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from caliban.attempts import AttemptKind, Batch, Owner, Submission, SubmissionState
from caliban.clock import Clock, SystemClock
from caliban.errors import StoreError
from caliban.records import Destination, JobRecord, JsonObject, NewJob, PlatformId
from caliban.store.checks import AlreadyOpen, AlreadyResubmitted, NewSubmission, check
from caliban.store.database import Store
from caliban.store.models import BatchRow, ExperimentGroupRow, JobRow, JobSpecRow, SubmissionRow
from caliban.store.new_batch import NewBatch, add_batch
from caliban.store.owner import this_process, to_text
from caliban.store.submissions import select_submissions, submission_from, utc_now
from caliban.store.views import json_object

__all__ = ["AlreadyOpen", "AlreadyResubmitted", "Journal", "NewSubmission", "new_token"]


def new_token() -> str:
    """Return a random token for a submission: 16 hexadecimal digits, valid in names and labels of every platform."""
    return secrets.token_hex(8)


class Journal:
    """The submissions of a store. Each method is one short transaction. Several threads can use it.

    Those that write require a store that is open for writing.

    Attributes:
        store: where the journal is.
    """

    def __init__(self, store: Store, clock: Clock | None = None, owner: Owner | None = None) -> None:
        """Use a store.

        Args:
            store: where the journal is.
            clock: the time; None for that of this machine.
            owner: who submits; None for this process.
        """
        self.store = self._store = store
        self._clock = clock or SystemClock()
        self._owner = owner or this_process()

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
        """Record one submission as a batch of its own; see :class:`NewSubmission` and :meth:`open_batch`.

        Raises:
            AlreadyOpen: another submission of the experiment is open.
            AlreadyResubmitted: the experiment has a newer job than the one that ``kind`` names.
            StoreError: ``experiment-unknown``, or any database error.
        """
        entry = NewSubmission(experiment_id, platform, spec, destination, name, token, kind)
        [opened] = self.open_batch([entry], user=user)
        if isinstance(opened, StoreError):
            raise opened
        return opened

    def open_batch(
        self,
        entries: Sequence[NewSubmission],
        *,
        user: str,
        command: str | None = None,
        newest_job: int | None = None,
        since: int | None = None,
    ) -> list[Submission | StoreError]:
        """Record everything that a command is about to send, in one transaction of a constant number of statements.

        Args:
            entries: what is about to be sent.
            user: who submits.
            command: identifies the command where typing it again continues the batch; None elsewhere.
            newest_job: ``batches.newest_job`` of the batch that is continued; None to begin one.
            since: of :func:`~caliban.store.group_stop.newest_batch`: what was stopped after that is not recorded.

        Returns:
            For each entry, the submission, or why it was not recorded: :class:`AlreadyOpen`,
            :class:`AlreadyResubmitted`, ``stopped``, or ``experiment-unknown``.

        Raises:
            StoreError: any database error.
        """
        with self._store.writing() as session:
            checked = check(session, entries, self._store.location, self._clock, since)
            accepted: dict[int, NewSubmission] = {}
            for entry, error in zip(entries, checked, strict=True):
                if error is None:
                    accepted.setdefault(entry.experiment_id, entry)
            batch = NewBatch(list(accepted.values()), user, self._owner, command, newest_job)
            opened = add_batch(session, batch, self._clock) if accepted else {}
        return [
            error or opened.get(entry.token) or AlreadyOpen(opened[accepted[entry.experiment_id].token])
            for entry, error in zip(entries, checked, strict=True)
        ]

    def mark_sent(self, submission: Submission) -> bool:
        """Record that a request is about to be made, if the submission is still open and this process's.

        Returns:
            False if another process took this one for dead and settled the submission: it must not be sent.
        """
        batch_id = submission.batch.id if submission.batch else None
        with self._store.writing() as session:
            changed = session.execute(
                update(SubmissionRow)
                .where(
                    SubmissionRow.id == submission.id,
                    SubmissionRow.state == SubmissionState.OPEN,
                    SubmissionRow.batch_id == batch_id,
                    exists().where(BatchRow.id == batch_id, BatchRow.owner == to_text(self._owner)),
                )
                .values(sent=utc_now(session, self._clock))
                .returning(SubmissionRow.id)
                .execution_options(synchronize_session=False)
            ).all()
        return bool(changed)

    def renew(self, batch_id: int) -> bool:
        """Record that the process of a batch is running; return whether submissions of it are open."""
        is_open = exists().where(SubmissionRow.batch_id == batch_id, SubmissionRow.state == SubmissionState.OPEN)
        with self._store.writing() as session:
            changed = session.execute(
                update(BatchRow)
                .where(BatchRow.id == batch_id, is_open)
                .values(renewals=BatchRow.renewals + 1, renewed=utc_now(session, self._clock))
                .returning(BatchRow.id)
                .execution_options(synchronize_session=False)
            ).all()
        return bool(changed)

    def renewals(self, batch_ids: Sequence[int]) -> dict[int, int]:
        """Return how often each batch was renewed."""
        statement = select(BatchRow.id, BatchRow.renewals).where(BatchRow.id.in_(batch_ids))
        with self._store.reading() as session:
            return {row.id: row.renewals for row in session.execute(statement)}

    def close_unsent(self, batch: Batch, reason: str, *, interrupted: bool = False) -> int:
        """Abandon what was not sent of a batch, of this process or of one that has ended.

        Args:
            batch: as it was read, if its process seems to have ended.
            reason: why.
            interrupted: whether it has; nothing is written if it has renewed the batch since it was read.

        Returns:
            How many submissions that were.
        """
        is_same = [exists().where(BatchRow.id == batch.id, BatchRow.renewals == batch.renewals)]
        with self._store.writing() as session:
            if not interrupted:
                now = utc_now(session, self._clock)
                session.execute(update(BatchRow).where(BatchRow.id == batch.id).values(renewed=now))
            return len(
                session.execute(
                    update(SubmissionRow)
                    .where(
                        SubmissionRow.batch_id == batch.id,
                        SubmissionRow.state == SubmissionState.OPEN,
                        SubmissionRow.sent.is_(None),
                        *(is_same if interrupted else ()),
                    )
                    .values(state=SubmissionState.ABANDONED, error=reason)
                    .returning(SubmissionRow.id)
                    .execution_options(synchronize_session=False)
                ).all()
            )

    def finish(self, batch_id: int) -> None:
        """Record that the command of a batch has submitted everything: typed again, it begins another batch."""
        with self._store.writing() as session:
            session.execute(
                update(BatchRow).where(BatchRow.id == batch_id).values(finished=utc_now(session, self._clock))
            )

    def settle(self, submission: Submission, job: NewJob) -> JobRecord:
        """Record the job of a submission and mark the submission DONE, in one transaction.

        An ABANDONED submission can be settled too: a job that a platform accepted is never lost.

        Raises:
            StoreError: ``already-settled`` if its job is already recorded; nothing is written then.
        """
        states = {SubmissionState.OPEN, SubmissionState.ABANDONED}
        return self._record(submission, job, states, SubmissionState.DONE, None)

    def fail(self, submission: Submission, job: NewJob, error: str) -> JobRecord:
        """Record a submission that was refused, with a failed job that the next ``resubmit`` selects.

        An ABANDONED one is left alone: its experiment may have a newer job, which the failed one would hide.

        Args:
            submission: what was refused.
            job: its state is FAILED.
            error: why, in the platform's words.

        Raises:
            StoreError: ``already-settled`` if it is not open any more; nothing is written then.
        """
        return self._record(submission, job, {SubmissionState.OPEN}, SubmissionState.FAILED, error)

    def abandon(self, submission: Submission, reason: str) -> None:
        """Close an open submission that the platform does not have; the experiment can be submitted again.

        Raises:
            StoreError: ``already-settled`` if it is not open any more.
        """
        with self._store.writing() as session:
            values = {"state": SubmissionState.ABANDONED, "error": reason}
            self._change(session, submission, {SubmissionState.OPEN}, values)

    def abandon_interrupted(self, submission: Submission, reason: str) -> bool:
        """Do the same for a process that seems to have ended.

        Returns:
            False, and nothing is written, if that process has renewed the batch or sent the submission since it was
            read: it has not ended.

        Raises:
            StoreError: ``already-settled`` if it is not open any more.
        """
        with self._store.writing() as session:
            statement = select_submissions(session, self._clock, has_batches=True)
            row = session.execute(statement.where(SubmissionRow.id == submission.id).with_for_update(of=SubmissionRow))
            for now in map(submission_from, row):
                if (now.batch, now.sent) != (submission.batch, submission.sent):
                    return False
            values = {"state": SubmissionState.ABANDONED, "error": reason}
            self._change(session, submission, {SubmissionState.OPEN}, values)
        return True

    def open_submissions(self, user: str, group: str | None = None) -> list[Submission]:
        """Return the open submissions of the user's group, or of all of their groups, oldest first."""
        if not self._store.has_journal:
            return []
        with self._store.reading() as session:
            statement = (
                select_submissions(session, self._clock, has_batches=self._store.has_batches)
                .where(ExperimentGroupRow.user == user, SubmissionRow.state == SubmissionState.OPEN)
                .order_by(SubmissionRow.id)
            )
            if group is not None:
                statement = statement.where(ExperimentGroupRow.name == group)
            return [submission_from(row) for row in session.execute(statement)]

    def read(self, submission: Submission) -> Submission | None:
        """Return a submission as it is now; None if it was deleted."""
        with self._store.reading() as session:
            statement = select_submissions(session, self._clock, has_batches=self._store.has_batches)
            row = session.execute(statement.where(SubmissionRow.id == submission.id)).one_or_none()
            return None if row is None else submission_from(row)

    def _record(
        self,
        submission: Submission,
        job: NewJob,
        states: set[SubmissionState],
        state: SubmissionState,
        error: str | None,
    ) -> JobRecord:
        with self._store.writing() as session:
            row = JobRow(
                created=self._clock.now(),
                job_spec_id=submission.job_spec_id,
                experiment_id=submission.experiment_id,
                container=job.container,
                status=job.status,
                details=dict(job.details.raw),
                user=submission.user,
            )
            session.add(row)
            session.flush()
            self._change(session, submission, states, {"state": state, "job_id": row.id, "error": error})
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
