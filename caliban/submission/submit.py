"""Journal -> platform -> store: how every job of caliban is submitted, and what came of it.

A submission is written down before the platform is asked, and settled together with the job's row. A crash anywhere
leaves an OPEN journal row, which ``caliban.submission.reconcile`` looks up by its token.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeGuard

from caliban.errors import CalibanError
from caliban.platforms.base import Attended, Hosted, Observation, Platform, Platforms, RefusedError
from caliban.records import (
    ExperimentView,
    ImageRef,
    JobStatus,
    JobView,
    JsonObject,
    NewJob,
    Outcome,
    PlatformName,
)
from caliban.reporter import Reporter
from caliban.store.database import Store
from caliban.store.journal import Journal, new_token
from caliban.store.queries import record_states
from caliban.submission.interrupts import interrupts_held


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
    """

    experiment: ExperimentView
    platform: PlatformName
    spec: JsonObject
    image: ImageRef
    target: JsonObject
    resubmits: JobView | None = None


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


class Submitter:
    """Submits attempts, one after the other, and records each result the moment it is known."""

    def __init__(self, store: Store, platforms: Platforms, reporter: Reporter, user: str) -> None:
        self._store = store
        self._journal = Journal(store)
        self._platforms = platforms
        self._reporter = reporter
        self._user = user

    def submit_all(self, attempts: Sequence[Attempt]) -> list[Outcome]:
        """One outcome per attempt, in order. An attempt that fails never keeps the next from being made.

        Raises:
            InterruptedSubmissionError: after Ctrl-C; what had begun is recorded.
        """
        outcomes: list[Outcome] = []
        if any(self._is_hosted(attempt.platform) for attempt in attempts):
            self._reporter.say("Submitting request!")
        with self._reporter.progress("jobs", total=len(attempts), unit="job") as progress:
            for attempt in attempts:
                progress.note(attempt.experiment.container.runs)
                try:
                    self._submit(attempt, outcomes)
                except KeyboardInterrupt:
                    raise InterruptedSubmissionError(outcomes, len(attempts) - len(outcomes)) from None
                progress.advance()
        return outcomes

    def _submit(self, attempt: Attempt, outcomes: list[Outcome]) -> None:
        """Add the attempt's outcome to ``outcomes``; after Ctrl-C too, if it was begun."""
        try:
            platform = self._platforms.get(attempt.platform)
        except CalibanError as error:
            outcomes.append(Outcome(attempt.experiment, None, error))
            return
        before = len(outcomes)
        try:
            with interrupts_held(self._tell_that_ctrl_c_waits):
                outcomes.append(self._begin(attempt, platform))
            self._tell_whereabouts(outcomes[-1].job, platform)
            if isinstance(platform, Attended) and _runs(outcomes[-1].job):
                outcomes[-1] = self._watch(outcomes[-1], platform)
        except KeyboardInterrupt:
            if len(outcomes) > before and isinstance(platform, Attended) and _runs(outcomes[-1].job):
                outcomes[-1] = self._stop(outcomes[-1], platform)
            raise

    def _is_hosted(self, name: PlatformName) -> bool:
        try:
            return isinstance(self._platforms.get(name), Hosted)
        except CalibanError:  # told as the outcome of each of its attempts
            return False

    def _tell_whereabouts(self, job: JobView | None, platform: Platform) -> None:
        if isinstance(platform, Hosted) and _runs(job):
            for line in (f"job {job.id} was accepted", *platform.whereabouts(job)):
                self._reporter.say(line)

    def _tell_that_ctrl_c_waits(self) -> None:
        self._reporter.say("finishing the submission that is under way before stopping ...")

    def _begin(self, attempt: Attempt, platform: Platform) -> Outcome:
        """Submit a job, and tell an error as its outcome."""
        try:
            return self._start(attempt, platform)
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
            resubmits=attempt.resubmits.id if attempt.resubmits else None,
            user=self._user,
        )
        try:
            new_job = platform.submit(attempt.spec, submission)
        except RefusedError as error:
            refused = NewJob(attempt.image, JobStatus.FAILED, error.details)
            return Outcome(attempt.experiment, self._journal.fail(submission, refused, error.message), error)
        return Outcome(attempt.experiment, self._journal.settle(submission, new_job))

    def _watch(self, outcome: Outcome, platform: Attended) -> Outcome:
        """Follow a job to its end, and record that."""
        assert outcome.job is not None
        words = " ".join(map(shlex.quote, outcome.experiment.words))
        self._reporter.say(f"job {outcome.job.id}: {outcome.experiment.container.runs} {words}")
        try:
            watched = self._with(outcome, outcome.job, platform.follow(outcome.job))
        except CalibanError as error:
            return replace(outcome, error=error)
        assert watched.job is not None
        self._reporter.say(f"job {watched.job.id}: {watched.job.status.lower()}")
        return watched

    def _stop(self, outcome: Outcome, platform: Platform) -> Outcome:
        """Stop a job after Ctrl-C. A second Ctrl-C changes nothing: the platform ends it within seconds."""
        job = outcome.job
        assert job is not None
        self._reporter.say(f"stopping job {job.id} ...")
        stopped = outcome
        with suppress(KeyboardInterrupt), interrupts_held():
            try:
                stopped = self._with(outcome, job, platform.stop(job))
            except CalibanError as error:
                stopped = replace(outcome, error=error)
        return stopped

    def _with(self, outcome: Outcome, job: JobView, observed: Observation) -> Outcome:
        """The outcome with a new state of its job, which is recorded."""
        with self._store.writing() as session:
            record_states(session, {job.id: (observed.status, observed.details)})
        details = job.details if observed.details is None else observed.details
        return replace(outcome, job=replace(job, status=observed.status, details=details))


def _runs(job: JobView | None) -> TypeGuard[JobView]:
    return job is not None and not job.status.is_final
