"""Journal -> platform -> store: how every job is submitted.

A submission is journaled before it is sent, and settled together with the job's row. A crash in between leaves an OPEN
journal row, which :mod:`caliban.submission.reconcile` looks up by its token.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

from caliban.attempts import Batch, Submission
from caliban.errors import CalibanError, StoreError
from caliban.platforms.base import ForegroundPlatform, KillsJobs, NotSentError, RemotePlatform
from caliban.platforms.registry import Platforms, has_capability
from caliban.records import JobRecord, JobUpdate, Outcome, PlatformId
from caliban.reporter import Progress, Reporter
from caliban.store.database import Store
from caliban.store.group_stop import newest_batch
from caliban.store.job_logs import record_outputs
from caliban.store.journal import Journal, NewSubmission, new_token
from caliban.store.states import record_states
from caliban.submission.boundary import INTERNAL_ERROR, expected, platform_errors
from caliban.submission.capture import capture, capture_recorded, with_error
from caliban.submission.lease import Lease
from caliban.submission.removal import remove_ended
from caliban.submission.sending import Attempt, Sender
from caliban.submission.signals import hold_signals
from caliban.submission.stopping import Stopper, as_update
from caliban.threads import call_on_threads

__all__ = ["Attempt", "Command", "InterruptedSubmissionError", "Submitter"]


@dataclass(frozen=True)
class Command:
    """A command that continues what it submitted when it is typed again.

    Attributes:
        key: the same whenever it is typed.
        newest_job: ``batches.newest_job`` of the batch that it continues; None if it begins one.
    """

    key: str
    newest_job: int | None = None


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


@dataclass(frozen=True)
class _Numbered:
    """An attempt by its place in the order given, with its row of the journal."""

    number: int
    attempt: Attempt
    submission: Submission


_LEFT_BEHIND = "not waiting for the submissions in progress; to look them up, run: caliban status"

PARALLEL_SUBMISSIONS = 8
"""How many submissions are in progress at a time, where jobs run elsewhere."""


class Submitter:
    """Submits attempts, and records each result as soon as it is known.

    Attributes:
        since: what is stopped after that (:func:`~caliban.store.group_stop.newest_batch`) is not submitted.
        finishes: whether the command has then submitted everything; otherwise it goes on with another submitter, and
            typed again it submits the rest.
    """

    def __init__(
        self,
        store: Store,
        platforms: Platforms,
        reporter: Reporter,
        user: str,
        *,
        command: Command | None = None,
        parallel: int = PARALLEL_SUBMISSIONS,
        since: int | None = None,
    ) -> None:
        """Prepare to submit.

        Args:
            store: with the journal.
            platforms: where the jobs go.
            reporter: gets the progress.
            user: who submits.
            command: see :class:`Command`; None where typing it again does not continue it.
            parallel: how many submissions are in progress at a time.
            since: :attr:`since` of an earlier one of this process; None to begin now.
        """
        self._store = store
        self._journal = Journal(store, platforms.context.clock)
        self._sender = Sender(store, self._journal)
        self._command = command
        self._platforms = platforms
        self._reporter = reporter
        self._user = user
        self._parallel = parallel
        self._failed: tuple[Outcome, ...] = ()
        self._outcomes: dict[int, Outcome] = {}  # by the place of the attempt in the order given
        if since is None:
            with store.reading() as session:
                since = newest_batch(session)
        self.since = since
        self.finishes = True

    @property
    def outcomes(self) -> list[Outcome]:
        """What is known so far: those of :meth:`submit_all`, also where that was interrupted or failed."""
        known = dict(self._outcomes)  # a thread may still be adding to it
        return [*self._failed, *(known[number] for number in sorted(known))]

    def submit_all(self, attempts: Sequence[Attempt], failed: Sequence[Outcome] = ()) -> list[Outcome]:
        """Submit, several at a time where jobs run elsewhere, then one after the other where they run here.

        Args:
            attempts: what to submit.
            failed: outcomes of jobs that cannot be attempted.

        Returns:
            The failed ones, then one outcome per attempt, in order. An attempt that fails never prevents another one.

        Raises:
            InterruptedSubmissionError: after Ctrl-C; what had been started is finished and recorded.
        """
        self._failed, self._outcomes = tuple(failed), {}
        outcomes = self._outcomes
        background: list[_Numbered] = []
        foreground: list[_Numbered] = []
        if any(_runs_elsewhere(attempt) for attempt in attempts):
            self._reporter.info("Submitting request!")
        try:
            opened = self._open(attempts, outcomes)
            for each in opened:
                is_foreground = has_capability(each.attempt.platform, ForegroundPlatform)
                (foreground if is_foreground else background).append(each)
            with self._batch(opened, attempts, outcomes):
                if background:
                    with self._reporter.progress("jobs", total=len(background), unit="job") as progress:
                        self._submit_in_background(background, outcomes, progress)
                for each in foreground:  # without a bar, which the output of jobs that goes to a pipe would continue
                    self._run(each, outcomes)
        except KeyboardInterrupt:
            raise InterruptedSubmissionError(self.outcomes, len(attempts) - len(outcomes)) from None
        return self.outcomes

    def _open(self, attempts: Sequence[Attempt], outcomes: dict[int, Outcome]) -> list[_Numbered]:
        """Journal all attempts before the first is sent; why one was not journaled is its outcome."""
        entries: dict[int, NewSubmission] = {}
        for number, attempt in enumerate(attempts):
            try:
                with platform_errors(attempt.platform, "name a job"):
                    entries[number] = self._entry(attempt)
            except CalibanError as error:
                outcomes[number] = Outcome(attempt.experiment, None, error)
        if not entries:
            return []
        key, newest_job = (self._command.key, self._command.newest_job) if self._command else (None, None)
        results: Sequence[Submission | StoreError]
        try:
            results = self._journal.open_batch(
                list(entries.values()), user=self._user, command=key, newest_job=newest_job, since=self.since
            )
        except StoreError as error:
            results = [error] * len(entries)
        opened: list[_Numbered] = []
        for number, result in zip(entries, results, strict=True):
            if isinstance(result, StoreError):
                outcomes[number] = Outcome(attempts[number].experiment, None, result)
            else:
                opened.append(_Numbered(number, attempts[number], result))
        return opened

    def _entry(self, attempt: Attempt) -> NewSubmission:
        token = new_token()
        with platform_errors(attempt.platform, "name a job"):
            name = expected(self._platforms.get(attempt.platform).job_name(attempt.spec, token), str)
            json.dumps([attempt.spec, attempt.destination.to_json()], default=dict)
        return NewSubmission(
            attempt.experiment.id,
            attempt.platform,
            attempt.spec,
            attempt.destination,
            name,
            token,
            attempt.kind,
            attempt.build,
        )

    @contextmanager
    def _batch(
        self, opened: Sequence[_Numbered], attempts: Sequence[Attempt], outcomes: dict[int, Outcome]
    ) -> Iterator[None]:
        """Hold the lease of the batch; in the end, finish it, or close what was not sent."""
        batch = next((each.submission.batch for each in opened), None)
        if batch is None:
            yield
            return
        context = self._platforms.context
        try:
            with Lease(self._journal, batch.id, context.clock, context.announce):
                yield
        finally:
            is_complete = len(outcomes) == len(attempts) and all(each.job for each in outcomes.values())
            self._close(batch, is_complete and self.finishes)

    def _close(self, batch: Batch, is_complete: bool) -> None:
        try:
            if is_complete:
                self._journal.finish(batch.id)
            else:
                self._journal.close_unsent(batch, "the command ended before it was sent")
        except StoreError as error:
            self._reporter.warn(f"cannot record that the command has ended: {error.message}")

    def _submit_in_background(
        self, numbered: Sequence[_Numbered], outcomes: dict[int, Outcome], progress: Progress
    ) -> None:
        """Submit on a few threads. After Ctrl-C, finish what is in progress and start nothing more."""
        stopping = self._platforms.context.stopping

        def submit(each: _Numbered) -> None:
            if stopping.is_set():
                return
            progress.note(each.attempt.experiment.container.entrypoint)
            outcome = self._start(each)
            if not isinstance(outcome.error, NotSentError):
                outcomes[each.number] = outcome
            if outcome.job is not None and outcome.job.status.is_final:  # one that was found, and has ended since
                capture_recorded([outcome.job], self._store, self._platforms)
            self._report_links(outcome.job, each.attempt.platform)
            progress.advance()

        def start_no_more() -> None:
            stopping.set()
            self._report_interrupt()

        with hold_signals(start_no_more, self._platforms.context.clock):
            try:
                call_on_threads([partial(submit, each) for each in numbered], self._parallel)
            except KeyboardInterrupt:
                self._reporter.info(_LEFT_BEHIND)
                raise

    def _run(self, each: _Numbered, outcomes: dict[int, Outcome]) -> None:
        """Submit and follow; after Ctrl-C, stop what runs.

        Signals are held throughout, except while the job is followed, so that a second Ctrl-C, however soon it comes,
        does not prevent the stop.
        """
        with hold_signals(self._report_interrupt, self._platforms.context.clock) as held:
            try:
                outcomes[each.number] = self._start(each)
            except KeyboardInterrupt:
                self._reporter.info(_LEFT_BEHIND)
                raise
            try:
                with held.released():
                    outcomes[each.number] = self._follow(outcomes[each.number], each)
            except KeyboardInterrupt:
                outcomes[each.number] = self._stop(outcomes[each.number])
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

    def _start(self, each: _Numbered) -> Outcome:
        """Submit a job; an error is its outcome."""
        attempt = each.attempt
        try:
            # after an unforeseen exception it is unknown whether the job was sent: its row stays open
            with platform_errors(attempt.platform, "submit a job"):
                return self._sender.send(attempt, each.submission, self._platforms.get(attempt.platform))
        except CalibanError as error:
            if error.id == INTERNAL_ERROR:
                self._journal.mark_sent(each.submission)  # also if the platform did not say that it sends
            return Outcome(attempt.experiment, None, error)

    def _follow(self, outcome: Outcome, each: _Numbered) -> Outcome:
        """Follow a job that runs here to its end, and record that; not one that is to run in the background."""
        platform_id = each.attempt.platform
        if outcome.job is None or outcome.job.status.is_final:
            capture_recorded([outcome.job] if outcome.job else [], self._store, self._platforms)
            self._remove(outcome.job)
            return outcome
        command = shlex.join((outcome.experiment.container.entrypoint, *outcome.experiment.arguments))
        self._reporter.info(f"job {outcome.job.id}: {command}")
        try:
            with platform_errors(platform_id, "follow a job"):
                platform = self._platforms.get(platform_id)
                assert isinstance(platform, ForegroundPlatform)
                if platform.is_detached(outcome.job):
                    self._report_detached(outcome.job, each.submission)
                    return outcome
                update = expected(platform.follow(outcome.job), JobUpdate)
            job = self._record(outcome.job, update)
        except CalibanError as error:
            return replace(outcome, error=error)
        return replace(outcome, job=job)

    def _stop(self, outcome: Outcome) -> Outcome:
        """Stop a job after Ctrl-C; kill it after another one."""
        job = outcome.job
        if job is None or job.status.is_final:
            return outcome
        self._reporter.info(f"stopping job {job.id} ...")
        can_kill = has_capability(job.platform, KillsJobs)
        if can_kill:
            self._reporter.info("to kill it at once, press Ctrl-C again")
        stopper = Stopper(self._store, self._platforms, self._user)
        try:
            try:
                return replace(outcome, job=stopper.stop(job))
            except KeyboardInterrupt:
                if not can_kill:
                    raise
            self._reporter.info(f"killing job {job.id} ...")
            return replace(outcome, job=stopper.kill(job))
        except CalibanError as error:
            return replace(outcome, error=error)
        except KeyboardInterrupt:
            self._reporter.info(f"not waiting for job {job.id} to stop; to check its state, run: caliban status")
            raise

    def _record(self, job: JobRecord, update: JobUpdate) -> JobRecord:
        """Record and report the end of a job. Returns it as it is recorded: another command may have stopped it."""
        outputs = capture([job.updated(update)], self._platforms)
        with self._store.writing() as session:
            state = record_states(session, {job.id: update}).states.get(job.id)
            record_outputs(session, outputs.values(), self._platforms.context.clock)
        if state is None:  # the row was deleted
            return job.updated(update)
        by = f" by {state.stop_request.user} on {state.stop_request.host}" if state.stop_request else ""
        self._reporter.info(f"job {job.id}: {state.status.lower()}{by}")
        recorded = with_error(job.updated(as_update(job, state)), outputs)
        self._remove(recorded)
        return recorded

    def _remove(self, job: JobRecord | None) -> None:
        remove_ended([job] if job else [], self._store, self._platforms)

    def _report_detached(self, job: JobRecord, submission: Submission) -> None:
        check = f"caliban status --xgroup {shlex.quote(submission.group)}"
        self._reporter.info(f"job {job.id} ({submission.name}) runs in the background; to see its state, run: {check}")


def _runs_elsewhere(attempt: Attempt) -> bool:
    is_foreground = has_capability(attempt.platform, ForegroundPlatform)
    return not is_foreground and has_capability(attempt.platform, RemotePlatform)
