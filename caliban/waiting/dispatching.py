"""Submit jobs while a command waits: retries, and what exceeded the limit of jobs at a time.

A retry is a re-run like any other: journaled before it is sent, and refused by the journal where another command was
faster. So neither a kill nor a second terminal loses or doubles a job. What is submitted later is journaled later:
until then the batch of its command is unfinished, and the same command typed again submits the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from caliban.attempts import AdditionalAttempt, Rerun
from caliban.causes import cause_of
from caliban.cli.context import Context
from caliban.errors import CalibanError, ImageError, StoreError, one_line
from caliban.platforms.registry import Platforms
from caliban.records import ExperimentRecord, Outcome
from caliban.store.address import store_url
from caliban.store.checks import AlreadyOpen, AlreadyResubmitted
from caliban.store.database import Access, Store, open_store
from caliban.submission.batches import continued_by
from caliban.submission.images import Images
from caliban.submission.pipeline import ReadyJob, submit_jobs
from caliban.submission.submit import Command, Submitter
from caliban.waiting.canary import Canaries, Verdict
from caliban.waiting.flags import WaitOptions
from caliban.waiting.looks import Look, is_passing

_FOR_GOOD = frozenset({"stopped", "experiment-unknown"})
"""Ids of errors of the journal after which the experiment is not submitted by this command any more."""


@dataclass(frozen=True)
class FurtherJobs:
    """What a command may submit while it waits.

    Attributes:
        jobs: what it has submitted.
        images: those that it has built; none is built again.
        since: of its :class:`~caliban.submission.submit.Submitter`: a group that was stopped after that is not
            submitted again.
        rest: what it has not submitted yet.
        command: of its batch; None where typing it again does not continue it.
    """

    jobs: Sequence[ReadyJob]
    images: Images
    since: int
    rest: Sequence[ReadyJob] = ()
    command: Command | None = None

    @property
    def first(self) -> dict[int, int]:
        """``experiments.id`` of each job -> that of the first one of its kind."""
        firsts: dict[object, int] = {}
        jobs = (*self.jobs, *self.rest)
        return {each.experiment.id: firsts.setdefault(each.alike, each.experiment.id) for each in jobs}


def split(
    jobs: Sequence[ReadyJob], options: WaitOptions | None, images: Images
) -> tuple[Sequence[ReadyJob], Sequence[ReadyJob]]:
    """Return what is submitted at once, and the rest, whose images are built now: the code may change meanwhile.

    What has no image is not part of the rest: it fails at once.
    """
    limit = options.max_parallel if options else None
    if options and options.canary:
        firsts = {job.alike: job for job in reversed(jobs)}
        jobs = sorted(jobs, key=lambda job: firsts[job.alike] is not job)
        limit = len(firsts) if limit is None else min(limit, len(firsts))
    if limit is None or limit >= len(jobs):
        return jobs, ()
    first, rest = list(jobs[:limit]), []
    for job in jobs[limit:]:
        if _has_image(job, images):
            rest.append(_if_unchanged(job))
        else:
            first.append(job)
    return first, rest


def _has_image(job: ReadyJob, images: Images) -> bool:
    try:
        images.get(job.source, job.route.platform, job.route.registry)
    except CalibanError:  # raised again when it is submitted
        return False
    return True


def _if_unchanged(job: ReadyJob) -> ReadyJob:
    """Return a job that is not submitted when its experiment gets another one until its turn comes."""
    latest = job.experiment.latest
    if job.kind == AdditionalAttempt() and latest is not None:
        return replace(job, kind=AdditionalAttempt(after=latest.id))
    return job


class Dispatcher:
    """Submits jobs for one command.

    Attributes:
        pending: what is still to be submitted for the first time.
        outcomes: of what was submitted for the first time.
    """

    def __init__(self, further: FurtherJobs, options: WaitOptions, context: Context, platforms: Platforms) -> None:
        self._further, self._options, self._context, self._platforms = further, options, context, platforms
        self._jobs: Mapping[int, ReadyJob] = {job.experiment.id: job for job in (*further.jobs, *further.rest)}
        self.pending: Sequence[ReadyJob] = further.rest
        self.outcomes: list[Outcome] = []
        self._canaries = Canaries(further.first if options.canary else {}, options.canary_for, context.clock)
        self._number: dict[int, int] = {}  # of the next retry, by experiment
        self._given_up: set[int] = set()
        self._reported: set[tuple[int, str]] = set()

    @property
    def not_started(self) -> list[ReadyJob]:
        """What was not submitted for the first time: pending, or interrupted before its turn came."""
        known = {outcome.experiment.id for outcome in self.outcomes}
        return [job for job in self._further.rest if job.experiment.id not in known]

    def due(self, look: Look) -> list[ReadyJob]:
        """Return what is to be submitted now: retries first.

        A retry by another command counts like one of this one: two that wait for a group make as many as one.
        """
        unfinished = {each.id for each in look.unfinished}
        pending = {job.experiment.id for job in self.pending}
        retries = [
            self._retry(each)
            for each in look.experiments
            if each.id not in unfinished and each.id not in pending and self._is_due(each, look)
        ]
        allowed = self._allowed(look, pending | {job.experiment.id for job in retries})
        if self._options.max_parallel is None:
            return [*retries, *allowed]
        running = unfinished | {each.id for each in look.experiments if each.latest and each.latest.refresh_error}
        return [*retries, *allowed][: max(0, self._options.max_parallel - len(running))]

    @property
    def is_done(self) -> bool:
        """Whether the command has nothing more to do, although jobs may not have ended."""
        return not self._options.to_the_end and not self.pending

    def _allowed(self, look: Look, unsubmitted: Collection[int]) -> list[ReadyJob]:
        """Return what waits for no other job; what waits for one that has not gone well is given up."""
        verdicts = self._canaries.verdicts(look, unsubmitted)
        allowed, kept, held = [], [], Counter[int]()
        for job in self.pending:
            first = self._canaries.goes_before(job.experiment.id)
            if first is not None and verdicts[first] is Verdict.BAD:
                held[first] += 1
                continue
            kept.append(job)
            if first is None or verdicts[first] is Verdict.GOOD:
                allowed.append(job)
        self.pending = kept
        self._report_held(held, look)
        return allowed

    def _report_held(self, held: Mapping[int, int], look: Look) -> None:
        latest = {each.id: each.latest for each in look.experiments} if held else {}
        for first, count in held.items():
            canary = latest.get(first)
            name = f"job {canary.id}" if canary else f"the job of experiment {first}"
            others = "another job like it is" if count == 1 else f"{count} other jobs like it are"
            self._report(first, f"{name} went first and did not succeed: {others} not submitted")

    def _is_due(self, experiment: ExperimentRecord, look: Look) -> bool:
        ready, job = self._jobs.get(experiment.id), experiment.latest
        if ready is None or job is None:
            return False
        before = ready.experiment.latest.id if ready.experiment.latest else 0
        number = sum(job_id > before for job_id in look.attempts.get(experiment.id, ()))
        self._number[experiment.id] = number
        return (
            0 < number <= self._options.retries  # 0: this command could not submit it
            and experiment.id not in self._given_up
            and job.status.is_rerunnable
            and cause_of(job) in self._options.retry_on
        )

    def _retry(self, experiment: ExperimentRecord) -> ReadyJob:
        assert experiment.latest is not None
        return replace(self._jobs[experiment.id], experiment=experiment, kind=Rerun(experiment.latest.id))

    def submit(self, jobs: Sequence[ReadyJob]) -> bool:
        """Submit jobs, and return whether at least one was accepted.

        Raises:
            InterruptedSubmissionError: after Ctrl-C.
            StoreError: the store cannot be used, for a reason that does not pass.
        """
        pending = {job.experiment.id for job in self.pending}
        first = [job for job in jobs if job.experiment.id in pending]
        retries = [job for job in jobs if job.experiment.id not in pending]
        for job in retries:
            self._announce(job.experiment)
        url, console = store_url(self._context.environ, self._context.home), self._context.console
        try:
            with open_store(url, Access.WRITE, console) as store:
                outcomes = self._submit_retries(retries, store) if retries else []
                return any(each.job for each in [*outcomes, *(self._submit_first(first, store) if first else [])])
        except StoreError as error:
            if not is_passing(error):
                raise
            self._report(0, f"cannot submit jobs: {one_line(error)}")
            return False

    def _submit_retries(self, jobs: Sequence[ReadyJob], store: Store) -> list[Outcome]:
        outcomes = submit_jobs(jobs, self._further.images, self._submitter(store, None))
        for outcome in outcomes:
            self._take(outcome)
        return outcomes

    def _submit_first(self, jobs: Sequence[ReadyJob], store: Store) -> list[Outcome]:
        """Submit what has waited for its turn; the last of it completes the batch of the command."""
        command = self._further.command
        submitter = self._submitter(store, command and continued_by(store, command, self._context.clock))
        ids = {job.experiment.id for job in jobs}
        rest = [job for job in self.pending if job.experiment.id not in ids]
        submitter.finishes = not rest and all(outcome.job for outcome in self.outcomes)
        self.pending = rest
        try:
            return submit_jobs(jobs, self._further.images, submitter)
        finally:
            self.outcomes += submitter.outcomes

    def _submitter(self, store: Store, command: Command | None) -> Submitter:
        user, console = self._context.user, self._context.console
        return Submitter(store, self._platforms, console, user, command=command, since=self._further.since)

    def _announce(self, experiment: ExperimentRecord) -> None:
        job = experiment.latest
        assert job is not None
        number = f"retry {self._number[experiment.id]} of {self._options.retries}"
        self._report(job.id, f"job {job.id}: {cause_of(job)}; submitting it again ({number})")

    def _take(self, outcome: Outcome) -> None:
        """Report why a retry failed, and remember whether to try again."""
        error, experiment = outcome.error, outcome.experiment
        if error is None or isinstance(error, AlreadyOpen | AlreadyResubmitted):
            return  # another command was faster: its job is the one that is waited for
        self._report(experiment.id, f"experiment {experiment.id} cannot be submitted again: {one_line(error)}")
        if isinstance(error, ImageError) or error.id in _FOR_GOOD:
            self._given_up.add(experiment.id)

    def _report(self, about: int, line: str) -> None:
        if (about, line) not in self._reported:
            self._context.console.info(line)
        self._reported.add((about, line))
