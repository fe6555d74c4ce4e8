"""Submit jobs again that ended for a reason that is not their program's, while a command waits for them.

A retry is a re-run like any other: journaled before it is sent, and refused by the journal where another command was
faster. So neither a kill nor a second terminal loses or doubles a job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from caliban.attempts import Rerun
from caliban.causes import cause_of
from caliban.cli.context import Context
from caliban.errors import ImageError, StoreError, one_line
from caliban.platforms.registry import Platforms
from caliban.records import ExperimentRecord, Outcome
from caliban.store.address import store_url
from caliban.store.checks import AlreadyOpen, AlreadyResubmitted
from caliban.store.database import Access, open_store
from caliban.submission.images import Images
from caliban.submission.pipeline import ReadyJob, submit_jobs
from caliban.submission.submit import Submitter
from caliban.waiting.flags import WaitOptions
from caliban.waiting.looks import Look, is_passing

_FOR_GOOD = frozenset({"stopped", "experiment-unknown"})
"""Ids of errors of the journal after which the experiment is not submitted by this command any more."""


@dataclass(frozen=True)
class Resubmittable:
    """How a command submits its jobs once more.

    Attributes:
        jobs: what it has submitted.
        images: those that it has built; none is built again.
        since: of its :class:`~caliban.submission.submit.Submitter`: a group that was stopped after that is not
            submitted again.
    """

    jobs: Sequence[ReadyJob]
    images: Images
    since: int


class Retries:
    """The retries of one command."""

    def __init__(self, again: Resubmittable, options: WaitOptions, context: Context, platforms: Platforms) -> None:
        self._again, self._options, self._context, self._platforms = again, options, context, platforms
        self._jobs: Mapping[int, ReadyJob] = {job.experiment.id: job for job in again.jobs}
        self._number: dict[int, int] = {}  # of the next retry, by experiment
        self._given_up: set[int] = set()
        self._reported: set[tuple[int, str]] = set()

    def due(self, look: Look) -> list[ExperimentRecord]:
        """Return the experiments that are to be submitted again.

        A retry by another command counts like one of this one: two that wait for a group make as many as one.
        """
        unfinished = {each.id for each in look.unfinished}
        return [each for each in look.experiments if each.id not in unfinished and self._is_due(each, look)]

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

    def submit(self, experiments: Sequence[ExperimentRecord]) -> bool:
        """Submit experiments again, and return whether at least one got a job.

        Raises:
            InterruptedSubmissionError: after Ctrl-C.
            StoreError: the store cannot be used, for a reason that does not pass.
        """
        jobs = [self._retry(experiment) for experiment in experiments]
        for experiment in experiments:
            self._announce(experiment)
        url, console = store_url(self._context.environ, self._context.home), self._context.console
        try:
            with open_store(url, Access.WRITE, console) as store:
                submitter = Submitter(store, self._platforms, console, self._context.user, since=self._again.since)
                outcomes = submit_jobs(jobs, self._again.images, submitter)
        except StoreError as error:
            if not is_passing(error):
                raise
            self._report(0, f"cannot submit jobs again: {one_line(error)}")
            return False
        for outcome in outcomes:
            self._take(outcome)
        return any(outcome.job for outcome in outcomes)

    def _retry(self, experiment: ExperimentRecord) -> ReadyJob:
        assert experiment.latest is not None
        return replace(self._jobs[experiment.id], experiment=experiment, kind=Rerun(experiment.latest.id))

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
