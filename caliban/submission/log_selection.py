"""Choose the jobs whose output ``caliban logs`` shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from caliban.errors import StoreError
from caliban.job_filter import JobFilter
from caliban.platforms.registry import Platforms
from caliban.records import ExperimentRecord, GroupRecord, JobRecord
from caliban.reporter import Reporter
from caliban.store.database import Access, Store, open_store
from caliban.submission.groups import read_group, read_recent
from caliban.submission.output import ChosenJob
from caliban.submission.refresh import Refreshed, refresh

_Jobs = tuple[JobRecord, ...]


@dataclass(frozen=True)
class Choice:
    """Which jobs.

    Attributes:
        filter: conditions on them.
        xgroup: their group; None for all groups of the user.
        attempt: which attempt of each experiment, from 1 on; -1 is the latest one; None for the jobs that are named,
            else for the latest ones.
    """

    filter: JobFilter
    xgroup: str | None = None
    attempt: int | None = None

    @property
    def is_default(self) -> bool:
        """Whether nothing was chosen: the most recent job is meant."""
        return self.filter.takes_all and self.xgroup is None and self.attempt is None

    @property
    def names_one(self) -> bool:
        """Whether it cannot be more than one job, whatever the store has."""
        return self.is_default or len(self.filter.job_ids) == 1

    def read(self, store: Store, user: str) -> list[GroupRecord]:
        """Return the groups with the jobs that may be meant, in one or two statements.

        Raises:
            CalibanError: ``unknown-xgroup``, ``unknown-job``.
        """
        if self.is_default:
            return read_recent(store, user, 1)
        needs_all = self.attempt is not None or self.filter.needs_all_attempts
        if self.xgroup is not None:
            groups = [read_group(store, user, self.xgroup, per_experiment=None if needs_all else 1)]
        else:
            groups = read_recent(store, user, None)
        steady = self.filter.unchanging()
        if self.attempt is not None:
            return _with_jobs(steady.experiments(groups), lambda jobs: _nth(jobs, self.attempt or -1))
        if self.filter.job_ids:
            return steady.apply(groups)
        return steady.apply(_with_jobs(groups, lambda jobs: jobs[-1:]))

    def final(self, groups: Sequence[GroupRecord]) -> list[ChosenJob]:
        """Return the jobs that satisfy all conditions, now that their states are refreshed."""
        conditions = replace(self.filter, job_ids=frozenset())
        return [
            ChosenJob(group.name, experiment, job)
            for group in conditions.apply(groups)
            for experiment in group.experiments
            for job in experiment.jobs
        ]


def choose(choice: Choice, url: str, user: str, platforms: Platforms, reporter: Reporter) -> list[ChosenJob]:
    """Return the jobs that are meant, with their states refreshed and recorded.

    Raises:
        CalibanError: ``unknown-xgroup``, ``unknown-job``; the store cannot be read.
    """
    with open_store(url, Access.READ, reporter) as store:
        groups = choice.read(store, user)
    return choice.final(_recorded(refresh(groups, platforms), url, platforms, reporter))


def _recorded(refreshed: Refreshed, url: str, platforms: Platforms, reporter: Reporter) -> Sequence[GroupRecord]:
    if refreshed.is_recorded:
        return refreshed.groups
    try:
        with open_store(url, Access.WRITE, reporter) as store:
            return refreshed.record(store, platforms)
    except StoreError as error:
        reporter.warn(f"cannot record the states of the jobs: {error.message}: {error.cause}")
        return refreshed.groups


def _with_jobs(groups: Sequence[GroupRecord], chosen: Callable[[_Jobs], _Jobs]) -> list[GroupRecord]:
    def part(experiment: ExperimentRecord) -> ExperimentRecord:
        return replace(experiment, jobs=chosen(experiment.jobs))

    return [replace(group, experiments=tuple(map(part, group.experiments))) for group in groups]


def _nth(jobs: _Jobs, number: int) -> _Jobs:
    index = number - 1 if number > 0 else len(jobs) + number
    return jobs[index : index + 1] if 0 <= index < len(jobs) else ()
