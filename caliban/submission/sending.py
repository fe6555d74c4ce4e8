"""Send one submission that is journaled, and settle it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from caliban.attempts import AttemptKind, Submission, SubmissionState
from caliban.clock import local_text
from caliban.errors import CalibanError, StoreError
from caliban.platforms.base import NotSentError, Platform, RefusedError
from caliban.platforms.registry import parse_details
from caliban.records import Destination, ExperimentRecord, ImageRef, JobStatus, JsonObject, NewJob, Outcome, PlatformId
from caliban.store.code import BuildOrigin
from caliban.store.database import Store
from caliban.store.group_stop import is_reason, stopped
from caliban.store.journal import Journal
from caliban.store.queries import find_job
from caliban.submission.boundary import expected


@dataclass(frozen=True)
class Attempt:
    """One job to submit.

    Attributes:
        experiment: whose job it is.
        platform: where it goes.
        spec: the job spec, in the platform's shape, with the image to run.
        image: that image.
        destination: where on the platform.
        kind: whether other jobs of the experiment prevent it.
        build: from what, and where, its image was built.
    """

    experiment: ExperimentRecord
    platform: PlatformId
    spec: JsonObject
    image: ImageRef
    destination: Destination
    kind: AttemptKind
    build: BuildOrigin = field(default_factory=BuildOrigin)


class Sender:
    """Sends submissions of this process. Several threads can use it."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    def send(self, attempt: Attempt, submission: Submission, platform: Platform) -> Outcome:
        """Submit a job and record it.

        Raises:
            NotSentError: the user wants to stop, and nothing was sent.
            CalibanError: whether the job runs is unknown; its row stays open.
        """
        try:
            new_job = platform.submit(attempt.spec, submission, partial(self._check_may_send, submission))
        except RefusedError as error:
            return self._fail(attempt, submission, platform, error)
        except NotSentError as error:
            now = self._journal.read(submission)
            if now is None or now.state is not SubmissionState.OPEN:
                return self._settled_elsewhere(attempt, submission, _not_sent(submission, now))
            self._journal.abandon(submission, error.message)
            raise
        try:
            accepted = expected(new_job, NewJob)
        except TypeError:
            self._journal.mark_sent(submission)  # such a platform may not have asked for permission either
            raise
        try:
            return Outcome(attempt.experiment, self._journal.settle(submission, accepted))
        except StoreError as error:
            if error.id != "already-settled":
                raise
            return self._settled_elsewhere(attempt, submission, error)

    def _fail(self, attempt: Attempt, submission: Submission, platform: Platform, error: RefusedError) -> Outcome:
        """Record a job that was refused."""
        text = error.message if error.cause is None else f"{error.message}: {error.cause}"
        details = platform.parse_details(JobStatus.FAILED, {"error": text, **error.details})
        refused = NewJob(attempt.image, JobStatus.FAILED, details)
        try:
            return Outcome(attempt.experiment, self._journal.fail(submission, refused, text), error)
        except StoreError as store_error:
            if store_error.id != "already-settled":
                raise
            return self._settled_elsewhere(attempt, submission, error)

    def _check_may_send(self, submission: Submission) -> None:
        """Record immediately before a request that it is made, if the submission is still this process's.

        Raises:
            NotSentError: another process took this one for ended and settled the submission.
            StoreError: that cannot be determined.
        """
        if not self._journal.mark_sent(submission):
            raise NotSentError("not-sent", f"the submission {submission.name} was already settled by another process")

    def _settled_elsewhere(self, attempt: Attempt, submission: Submission, error: CalibanError) -> Outcome:
        """Return the outcome of a submission that another process settled: the job that it recorded, or ``error``."""
        now = self._journal.read(submission)
        with self._store.reading() as session:
            job = find_job(session, parse_details, now.job_id) if now and now.job_id else None
        return Outcome(attempt.experiment, job, None if job else error)


def _not_sent(submission: Submission, now: Submission | None) -> StoreError:
    """Return why a submission was not sent that another command closed: to stop its group, or by mistake."""
    if now is not None and is_reason(now.error):
        return stopped(str(now.error))
    return StoreError(
        "submission-taken-over",
        f"experiment {submission.experiment_id} was not submitted: another command took this one for ended",
        cause=f"this process, which began to submit at {local_text(submission.created)}, did not run for a while",
        hint="to see what the other command did, run: caliban status; then run this command again if jobs are missing",
    )
