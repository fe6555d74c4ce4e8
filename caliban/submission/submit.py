"""Journal -> platform -> store: how every job is submitted.

A submission is journaled before it is sent, and settled together with the job's row. A crash in between leaves an OPEN
journal row, which :mod:`caliban.submission.reconcile` looks up by its token.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from caliban.errors import CalibanError
from caliban.platforms.base import ForegroundPlatform, NotSentError, Platform, RefusedError, RemotePlatform
from caliban.platforms.registry import Platforms, has_capability
from caliban.records import (
    AttemptKind,
    Destination,
    ExperimentRecord,
    ImageRef,
    JobRecord,
    JobStatus,
    JobUpdate,
    JsonObject,
    NewJob,
    Outcome,
    PlatformId,
    Submission,
)
from caliban.reporter import Progress, Reporter
from caliban.store.database import Store
from caliban.store.journal import Journal, new_token
from caliban.store.states import record_states
from caliban.submission.boundary import expected, platform_errors
from caliban.submission.signals import hold_signals
from caliban.submission.stopping import Stopper, as_update


@dataclass(frozen=True)
class Attempt:
    """One job to submit.

    Attributes:
        experiment: whose job it is.
        platform: where it goes.
        spec: the job spec, in the platform's shape, with the image to run.
        image: that image.
        destination: where on the platform.
        kind: whether other jobs of the experiment stand against it.
    """

    experiment: ExperimentRecord
    platform: PlatformId
    spec: JsonObject
    image: ImageRef
    destination: Destination
    kind: AttemptKind


class InterruptedSubmissionError(KeyboardInterrupt):
    """Ctrl-C while jobs were submitted or ran. Everything up to then is recorded.

    Attributes:
        outcomes: of the attempts that were started.
        not_started: how many were not.
    """

    def __init__(self, outcomes: Sequence[Outcome], not_started: int) -> None:
        super().__init__()
        self.outcomes = tuple(outcomes)
        self.not_started = not_started


PARALLEL_SUBMISSIONS = 8
"""How many submissions are in progress at a time, where jobs run elsewhere."""


class Submitter:
    """Submits attempts, and records each result as soon as it is known."""

    def __init__(
        self,
        store: Store,
        platforms: Platforms,
        reporter: Reporter,
        user: str,
        *,
        parallel: int = PARALLEL_SUBMISSIONS,
    ) -> None:
        self._store = store
        self._journal = Journal(store)
        self._platforms = platforms
        self._reporter = reporter
        self._user = user
        self._parallel = parallel

    def submit_all(self, attempts: Sequence[Attempt]) -> list[Outcome]:
        """Submit, several at a time where jobs run elsewhere, then one after the other where they run here.

        Returns:
            One outcome per attempt, in order. An attempt that fails never prevents another one.

        Raises:
            InterruptedSubmissionError: after Ctrl-C; what had been started is finished and recorded.
        """
        outcomes: dict[int, Outcome] = {}
        background: list[tuple[int, Attempt]] = []
        foreground: list[tuple[int, Attempt]] = []
        for number, attempt in enumerate(attempts):
            is_foreground = has_capability(attempt.platform, ForegroundPlatform)
            (foreground if is_foreground else background).append((number, attempt))
        if any(has_capability(attempt.platform, RemotePlatform) for _, attempt in background):
            self._reporter.info("Submitting request!")
        try:
            with self._reporter.progress("jobs", total=len(attempts), unit="job") as progress:
                self._submit_in_background(background, outcomes, progress)
                for number, attempt in foreground:
                    progress.note(attempt.experiment.container.entrypoint)
                    self._run(number, attempt, outcomes)
                    progress.advance()
        except KeyboardInterrupt:
            started = [outcomes[number] for number in sorted(outcomes)]
            raise InterruptedSubmissionError(started, len(attempts) - len(started)) from None
        return [outcomes[number] for number in range(len(attempts))]

    def _submit_in_background(
        self, numbered: Sequence[tuple[int, Attempt]], outcomes: dict[int, Outcome], progress: Progress
    ) -> None:
        """Submit on a few threads. After Ctrl-C, finish what is in progress and start nothing more."""
        stopping = self._platforms.context.stopping

        def submit(number: int, attempt: Attempt) -> None:
            if stopping.is_set():
                return
            progress.note(attempt.experiment.container.entrypoint)
            outcome = self._start(attempt)
            if not isinstance(outcome.error, NotSentError):
                outcomes[number] = outcome
            self._report_links(outcome.job, attempt.platform)
            progress.advance()

        def start_no_more() -> None:
            stopping.set()
            self._report_interrupt()

        with hold_signals(start_no_more), ThreadPoolExecutor(self._parallel, "submit") as pool:
            futures = [pool.submit(submit, number, attempt) for number, attempt in numbered]
            for future in as_completed(futures):
                future.result()

    def _run(self, number: int, attempt: Attempt, outcomes: dict[int, Outcome]) -> None:
        """Submit and follow; after Ctrl-C, stop what runs.

        Signals are held throughout, except while the job is followed, so that a second Ctrl-C, however soon it comes,
        does not prevent the stop.
        """
        with hold_signals(self._report_interrupt, self._platforms.context.clock) as held:
            outcomes[number] = self._start(attempt)
            try:
                with held.released():
                    outcomes[number] = self._follow(outcomes[number], attempt.platform)
            except KeyboardInterrupt:
                outcomes[number] = self._stop(outcomes[number])
                raise

    def _report_links(self, job: JobRecord | None, id: PlatformId) -> None:
        if job is None or job.status.is_final:
            return
        links: Sequence[str] = ()
        with suppress(CalibanError), platform_errors(id, "link to a job"):  # without them, the job was accepted too
            platform = self._platforms.get(id)
            if not isinstance(platform, RemotePlatform):
                return
            links = [str(link) for link in platform.links(job)]
        self._reporter.info(f"job {job.id} was accepted", *links)

    def _report_interrupt(self) -> None:
        self._reporter.info("finishing the submissions in progress before stopping ...")

    def _start(self, attempt: Attempt) -> Outcome:
        """Submit a job; an error is its outcome."""
        try:
            # after an unforeseen exception it is unknown whether the job was sent: its row stays open
            with platform_errors(attempt.platform, "submit a job"):
                return self._submit(attempt, self._platforms.get(attempt.platform))
        except CalibanError as error:
            return Outcome(attempt.experiment, None, error)

    def _submit(self, attempt: Attempt, platform: Platform) -> Outcome:
        token = new_token()
        submission = self._journal.open(
            experiment_id=attempt.experiment.id,
            platform=attempt.platform,
            spec=attempt.spec,
            destination=attempt.destination,
            name=platform.job_name(attempt.spec, token),
            token=token,
            kind=attempt.kind,
            user=self._user,
        )
        try:
            new_job = platform.submit(attempt.spec, submission, partial(self._check_open, submission))
        except RefusedError as error:
            text = error.message if error.cause is None else f"{error.message}: {error.cause}"
            details = platform.parse_details(JobStatus.FAILED, {"error": text, **error.details})
            refused = NewJob(attempt.image, JobStatus.FAILED, details)
            return Outcome(attempt.experiment, self._journal.fail(submission, refused, text), error)
        except NotSentError as error:
            if self._journal.is_open(submission):
                self._journal.abandon(submission, error.message)
            raise
        return Outcome(attempt.experiment, self._journal.settle(submission, expected(new_job, NewJob)))

    def _check_open(self, submission: Submission) -> None:
        """Check immediately before a request that this process may still send the submission.

        Raises:
            NotSentError: another process took this one for dead and settled it.
            StoreError: that cannot be determined.
        """
        if not self._journal.is_open(submission):
            raise NotSentError("not-sent", f"the submission {submission.name} was already settled by another process")

    def _follow(self, outcome: Outcome, id: PlatformId) -> Outcome:
        """Follow a job that runs here to its end, and record that."""
        if outcome.job is None or outcome.job.status.is_final:
            return outcome
        command = shlex.join((outcome.experiment.container.entrypoint, *outcome.experiment.arguments))
        self._reporter.info(f"job {outcome.job.id}: {command}")
        try:
            with platform_errors(id, "follow a job"):
                platform = self._platforms.get(id)
                assert isinstance(platform, ForegroundPlatform)
                update = expected(platform.follow(outcome.job), JobUpdate)
            job = self._record(outcome.job, update)
        except CalibanError as error:
            return replace(outcome, error=error)
        return replace(outcome, job=job)

    def _stop(self, outcome: Outcome) -> Outcome:
        """Stop a job after Ctrl-C."""
        job = outcome.job
        if job is None or job.status.is_final:
            return outcome
        self._reporter.info(f"stopping job {job.id} ...")
        try:
            return replace(outcome, job=Stopper(self._store, self._platforms, self._user).stop(job))
        except CalibanError as error:
            return replace(outcome, error=error)
        except KeyboardInterrupt:
            self._reporter.info(f"not waiting for job {job.id} to stop; to check its state, run: caliban status")
            raise

    def _record(self, job: JobRecord, update: JobUpdate) -> JobRecord:
        """Record and report the end of a job. Returns it as it is recorded: another command may have stopped it."""
        with self._store.writing() as session:
            state = record_states(session, {job.id: update}).states.get(job.id)
        if state is None:  # the row was deleted
            return job.updated(update)
        by = f" by {state.stop_request.user} on {state.stop_request.host}" if state.stop_request else ""
        self._reporter.info(f"job {job.id}: {state.status.lower()}{by}")
        return job.updated(as_update(job, state))
