"""Journal -> platform -> store: how every job of caliban is submitted, and what came of it.

A submission is written down before the platform is asked, and settled together with the job's row. A crash anywhere
leaves an OPEN journal row, which ``caliban.submission.reconcile`` looks up by its token.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace

from caliban.errors import CalibanError
from caliban.platforms.base import (
    ForegroundPlatform,
    JobUpdate,
    NotSentError,
    Platform,
    Platforms,
    RefusedError,
    RemotePlatform,
)
from caliban.records import (
    ExperimentRecord,
    ImageRef,
    JobRecord,
    JobStatus,
    JsonObject,
    NewJob,
    Outcome,
    PlatformName,
)
from caliban.reporter import Progress, Reporter
from caliban.store.database import Store
from caliban.store.journal import NO_JOB_YET, Journal, new_token
from caliban.store.queries import record_states
from caliban.submission.signals import hold_signals


@dataclass(frozen=True)
class Attempt:
    """One job to submit.

    Attributes:
        experiment: whose job it is.
        platform: where it goes.
        spec: the job spec, in the platform's shape, naming the image to run.
        image: that image.
        target: where on the platform: see :meth:`caliban.platforms.base.Platform.target`.
        resubmits: the job that it re-runs, or None.
        is_first: the experiment has no job yet, and is to get none twice.
    """

    experiment: ExperimentRecord
    platform: PlatformName
    spec: JsonObject
    image: ImageRef
    target: JsonObject
    resubmits: JobRecord | None = None
    is_first: bool = False


class InterruptedSubmissionError(KeyboardInterrupt):
    """Ctrl-C while jobs were submitted or ran. Nothing of what came before it is lost.

    Attributes:
        outcomes: of the attempts that were begun.
        not_begun: how many were not.
    """

    def __init__(self, outcomes: Sequence[Outcome], not_begun: int) -> None:
        super().__init__()
        self.outcomes = tuple(outcomes)
        self.not_begun = not_begun


AT_ONCE = 8
"""So many submissions are under way at a time, where jobs run elsewhere."""


class Submitter:
    """Submits attempts, and records each result the moment it is known."""

    def __init__(
        self, store: Store, platforms: Platforms, reporter: Reporter, user: str, *, at_once: int = AT_ONCE
    ) -> None:
        self._store = store
        self._journal = Journal(store)
        self._platforms = platforms
        self._reporter = reporter
        self._user = user
        self._at_once = at_once

    def submit_all(self, attempts: Sequence[Attempt]) -> list[Outcome]:
        """Submit, several at a time where jobs run elsewhere, then one after the other where they run here.

        Returns:
            One outcome per attempt, in order. An attempt that fails never keeps another from being made.

        Raises:
            InterruptedSubmissionError: after Ctrl-C; what had begun is finished and recorded.
        """
        outcomes: dict[int, Outcome] = {}
        elsewhere: list[tuple[int, Attempt]] = []
        here: list[tuple[int, Attempt]] = []
        for number, attempt in enumerate(attempts):
            (here if self._can(attempt.platform, ForegroundPlatform) else elsewhere).append((number, attempt))
        if any(self._can(attempt.platform, RemotePlatform) for _, attempt in elsewhere):
            self._reporter.info("Submitting request!")
        try:
            with self._reporter.progress("jobs", total=len(attempts), unit="job") as progress:
                self._submit_at_once(elsewhere, outcomes, progress)
                for number, attempt in here:
                    progress.note(attempt.experiment.container.entrypoint)
                    self._run(number, attempt, outcomes)
                    progress.advance()
        except KeyboardInterrupt:
            begun = [outcomes[number] for number in sorted(outcomes)]
            raise InterruptedSubmissionError(begun, len(attempts) - len(begun)) from None
        return [outcomes[number] for number in range(len(attempts))]

    def _submit_at_once(
        self, numbered: Sequence[tuple[int, Attempt]], outcomes: dict[int, Outcome], progress: Progress
    ) -> None:
        """Submit on a few threads. After Ctrl-C, finish what is under way there and begin nothing more."""
        stopping = self._platforms.context.stopping

        def submit(number: int, attempt: Attempt) -> None:
            if stopping.is_set():
                return
            progress.note(attempt.experiment.container.entrypoint)
            outcome = self._begin(attempt)
            if not isinstance(outcome.error, NotSentError):
                outcomes[number] = outcome
            self._report_links(outcome.job, attempt.platform)
            progress.advance()

        def begin_no_more() -> None:
            stopping.set()
            self._tell_that_ctrl_c_waits()

        with hold_signals(begin_no_more), ThreadPoolExecutor(self._at_once, "submit") as pool:
            futures = [pool.submit(submit, number, attempt) for number, attempt in numbered]
            for future in as_completed(futures):
                future.result()

    def _run(self, number: int, attempt: Attempt, outcomes: dict[int, Outcome]) -> None:
        """Submit and watch; after Ctrl-C, stop what runs."""
        try:
            with hold_signals(self._tell_that_ctrl_c_waits):
                outcomes[number] = self._begin(attempt)
            outcomes[number] = self._watch(outcomes[number], attempt.platform)
        except KeyboardInterrupt:
            if number in outcomes:
                outcomes[number] = self._stop(outcomes[number], attempt.platform)
            raise

    def _can(self, name: PlatformName, capability: type[ForegroundPlatform] | type[RemotePlatform]) -> bool:
        try:
            return isinstance(self._platforms.get(name), capability)
        except CalibanError:  # told as the outcome of each of its attempts
            return False

    def _report_links(self, job: JobRecord | None, name: PlatformName) -> None:
        if (
            job is not None
            and not job.status.is_final
            and isinstance(platform := self._platforms.get(name), RemotePlatform)
        ):
            self._reporter.info("\n".join([f"job {job.id} was accepted", *platform.links(job)]))

    def _tell_that_ctrl_c_waits(self) -> None:
        self._reporter.info("finishing what is being submitted before stopping ...")

    def _begin(self, attempt: Attempt) -> Outcome:
        """Submit a job, and tell an error as its outcome."""
        try:
            return self._start(attempt, self._platforms.get(attempt.platform))
        except CalibanError as error:
            return Outcome(attempt.experiment, None, error)

    def _start(self, attempt: Attempt, platform: Platform) -> Outcome:
        token = new_token()
        submission = self._journal.open(
            experiment_id=attempt.experiment.id,
            platform=attempt.platform,
            spec=attempt.spec,
            target=attempt.target,
            name=platform.job_name(attempt.spec, token),
            token=token,
            resubmits=_resubmits(attempt),
            user=self._user,
        )
        try:
            new_job = platform.submit(attempt.spec, submission)
        except RefusedError as error:
            refused = NewJob(attempt.image, JobStatus.FAILED, {"error": _told(error), **error.details})
            return Outcome(attempt.experiment, self._journal.fail(submission, refused, _told(error)), error)
        except NotSentError as error:
            self._journal.abandon(submission, error.message)
            raise
        return Outcome(attempt.experiment, self._journal.settle(submission, new_job))

    def _watch(self, outcome: Outcome, name: PlatformName) -> Outcome:
        """Follow a job that runs here to its end, and record that."""
        if outcome.job is None or outcome.job.status.is_final:
            return outcome
        platform = self._platforms.get(name)
        assert isinstance(platform, ForegroundPlatform)
        words = shlex.join((outcome.experiment.container.entrypoint, *outcome.experiment.arguments))
        self._reporter.info(f"job {outcome.job.id}: {words}")
        try:
            watched = self._with(outcome, outcome.job, platform.follow(outcome.job))
        except CalibanError as error:
            return replace(outcome, error=error)
        assert watched.job is not None
        self._reporter.info(f"job {watched.job.id}: {watched.job.status.lower()}")
        return watched

    def _stop(self, outcome: Outcome, name: PlatformName) -> Outcome:
        """Stop a job after Ctrl-C. A second Ctrl-C changes nothing: the platform ends it within seconds."""
        job = outcome.job
        if job is None or job.status.is_final:
            return outcome
        self._reporter.info(f"stopping job {job.id} ...")
        stopped = outcome
        with suppress(KeyboardInterrupt), hold_signals():
            try:
                stopped = self._with(outcome, job, self._platforms.get(name).stop(job))
            except CalibanError as error:
                stopped = replace(outcome, error=error)
        return stopped

    def _with(self, outcome: Outcome, job: JobRecord, observed: JobUpdate) -> Outcome:
        """The outcome with a new state of its job, which is recorded."""
        with self._store.writing() as session:
            record_states(session, {job.id: (observed.status, observed.details)})
        details = job.details if observed.details is None else observed.details
        return replace(outcome, job=replace(job, status=observed.status, details=details))


def _resubmits(attempt: Attempt) -> int | None:
    if attempt.is_first:
        return NO_JOB_YET
    return attempt.resubmits.id if attempt.resubmits else None


def _told(error: CalibanError) -> str:
    return error.message if error.cause is None else f"{error.message}: {error.cause}"
