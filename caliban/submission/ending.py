"""End all jobs of a group: those that run, and those that another command is about to submit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from caliban.attempts import Submission
from caliban.errors import CalibanError
from caliban.platforms.base import KillsJobs, RemotePlatform
from caliban.platforms.registry import Platforms, has_capability
from caliban.records import ExperimentRecord, GroupRecord, JobRecord, JobStatus, Outcome, PlatformId
from caliban.reporter import Progress
from caliban.store.database import Store
from caliban.store.group_stop import end_group
from caliban.submission.in_doubt import OpenSubmissions, read_open, reconcile_open
from caliban.submission.stopping import Stopper
from caliban.threads import call_on_threads

_PAUSE = 0.5
"""Seconds between two looks at the submissions of another command."""

_LONGEST_WAIT = 30.0
"""Seconds that the submissions of another command are waited for."""

_PARALLEL_STOPS = 8


@dataclass(frozen=True)
class Unfinished:
    """What there is to end.

    Attributes:
        jobs: those that run or wait, with their experiments.
        submissions: those that another command is working on.
        experiments: by ``experiments.id``.
    """

    jobs: tuple[tuple[ExperimentRecord, JobRecord], ...]
    submissions: tuple[Submission, ...]
    experiments: Mapping[int, ExperimentRecord] = field(repr=False)

    def __len__(self) -> int:
        return len(self.jobs) + len(self.submissions)


def unfinished(groups: Sequence[GroupRecord], submissions: Sequence[Submission]) -> Unfinished:
    """Return what may run, with states refreshed, and the submissions in progress."""
    experiments = {experiment.id: experiment for group in groups for experiment in group.experiments}
    return Unfinished(tuple(_running(groups)), tuple(submissions), experiments)


def _running(groups: Sequence[GroupRecord]) -> Iterator[tuple[ExperimentRecord, JobRecord]]:
    """Yield what may run. A job in an unknown state does not exist any more, unless the platform could not be asked."""
    for group in groups:
        for experiment in group.experiments:
            for job in experiment.jobs:
                is_known = job.status in (JobStatus.SUBMITTED, JobStatus.RUNNING)
                if is_known or (job.status is JobStatus.UNKNOWN and job.refresh_error):
                    yield experiment, job


def _can_stop_together(platform: PlatformId) -> bool:
    return has_capability(platform, RemotePlatform) or has_capability(platform, KillsJobs)


@dataclass(frozen=True)
class Ended:
    """The result.

    Attributes:
        outcomes: of each job.
        cancelled: how many submissions were not sent.
        left: the submissions that are open nevertheless.
    """

    outcomes: Sequence[Outcome]
    cancelled: int
    left: OpenSubmissions


@dataclass(frozen=True)
class Ending:
    """Ends what runs, then what other commands were submitting meanwhile.

    Attributes:
        store: where everything is recorded.
        platforms: where the jobs run.
        user: who asks.
        read_groups: reads the groups again.
        group: the group's name; None for all of the user's groups.
        only_found: whether to leave alone what other commands are submitting.
    """

    store: Store
    platforms: Platforms
    user: str
    read_groups: Callable[[], Sequence[GroupRecord]]
    group: str | None
    only_found: bool = False

    def end(self, found: Unfinished, progress: Progress, outcomes: dict[int, Outcome]) -> Ended:
        """Stop every job, each recorded at once. A job that cannot be stopped does not prevent the others.

        Args:
            found: what there is to end.
            progress: advanced for each job.
            outcomes: those of the jobs are added to it, by ``jobs.id``: they are known also where the rest fails.
        """
        if self.only_found:
            self._stop_all(found.jobs, outcomes, progress)
            left = read_open(self.store, self.platforms, self.user, self.group)
            return Ended(tuple(outcomes[job.id] for _, job in found.jobs), 0, replace(left, in_progress=()))
        with self.store.writing() as session:
            closed = end_group(session, self.platforms.context.clock, self.user, self.group)
        self._stop_all(found.jobs, outcomes, progress)
        left = read_open(self.store, self.platforms, self.user, self.group)
        if left.in_progress:
            left = self._await_submissions()
        submitted_since = [each for each in _running(self.read_groups()) if each[1].id not in outcomes]
        self._stop_all(submitted_since, outcomes, progress)
        ended = [job.id for _, job in (*found.jobs, *submitted_since)]
        return Ended(tuple(outcomes[job_id] for job_id in ended), len(closed), left)

    def _stop_all(
        self, jobs: Sequence[tuple[ExperimentRecord, JobRecord]], outcomes: dict[int, Outcome], progress: Progress
    ) -> None:
        """Stop jobs, several at a time where their platform can: each may need minutes, or wait for a service."""

        def stop(experiment: ExperimentRecord, job: JobRecord) -> None:
            outcomes[job.id] = self._stop(experiment, job, progress)

        together = [each for each in jobs if _can_stop_together(each[1].platform)]
        call_on_threads([partial(stop, *each) for each in together], _PARALLEL_STOPS)
        for each in jobs:
            if each[1].id not in outcomes:
                stop(*each)

    def _await_submissions(self) -> OpenSubmissions:
        """Wait until the submissions in progress are settled, and return those that are still open."""
        clock, stopping = self.platforms.context.clock, self.platforms.context.stopping
        deadline = clock.monotonic() + _LONGEST_WAIT
        while read_open(self.store, self.platforms, self.user, self.group).in_progress:
            if clock.monotonic() >= deadline:
                break
            self.platforms.context.announce("waiting for the submissions in progress ...")
            clock.wait(stopping, _PAUSE)
        return reconcile_open(self.store, self.platforms, self.user, self.group)

    def _stop(self, experiment: ExperimentRecord, job: JobRecord, progress: Progress) -> Outcome:
        try:
            return Outcome(experiment, Stopper(self.store, self.platforms, self.user).stop(job))
        except CalibanError as error:
            return Outcome(experiment, job, error)
        finally:
            progress.advance()
