"""Look at the experiments that are waited for: what the store has, what platforms report of unfinished jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from caliban.attempts import Submission
from caliban.cli.context import Context
from caliban.errors import CalibanError, StoreError
from caliban.job_filter import JobFilter
from caliban.platforms.registry import Platforms
from caliban.records import ExperimentRecord, GroupRecord, JobRecord, JobStatus
from caliban.reporter import Reporter
from caliban.store.address import store_url
from caliban.store.database import Access, Store, open_store
from caliban.submission.groups import read_group, read_recent
from caliban.submission.in_doubt import OpenSubmissions, read_open
from caliban.submission.refresh import Refreshed, refresh

UNFINISHED = JobFilter(states=frozenset({JobStatus.SUBMITTED, JobStatus.RUNNING, JobStatus.UNKNOWN}))
"""What is waited for where nothing is named."""


@dataclass(frozen=True)
class Look:
    """The experiments that are waited for, each with its latest job.

    Attributes:
        groups: their groups.
        left: the submissions of these experiments that are open.
        others: how many other experiments each group has, by its name.
        removed: how many experiments were removed from the store since the first look.
        attempts: ``jobs.id`` of the newest attempts of each experiment, by its id: as many as were asked for.
    """

    groups: tuple[GroupRecord, ...]
    left: OpenSubmissions = field(default_factory=OpenSubmissions)
    others: Mapping[str, int] = field(default_factory=dict)
    removed: int = 0
    attempts: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def experiments(self) -> list[ExperimentRecord]:
        """All of them."""
        return [experiment for group in self.groups for experiment in group.experiments]

    @property
    def unfinished(self) -> list[ExperimentRecord]:
        """Those that have not ended."""
        submitting = {each.experiment_id for each in (*self.left.in_progress, *self.left.in_doubt)}
        return [each for each in self.experiments if each.id in submitting or not _has_ended(each.latest)]

    @property
    def unreachable(self) -> list[JobRecord]:
        """The jobs whose state could not be determined."""
        return [each.latest for each in self.experiments if each.latest and each.latest.refresh_error]

    @property
    def have_succeeded(self) -> bool:
        """Whether all of them have succeeded."""
        return (
            not self.unfinished
            and not self.removed
            and all(each.latest is not None and each.latest.status is JobStatus.SUCCEEDED for each in self.experiments)
        )


def _has_ended(job: JobRecord | None) -> bool:
    """Return whether nothing more is expected of a job, or of an experiment that has none."""
    if job is None:
        return True
    if job.refresh_error is not None:
        return job.refresh_error_is_permanent
    return job.status.is_final or job.status is JobStatus.UNKNOWN


@dataclass(frozen=True)
class Wanted:
    """Which experiments are waited for. Later looks are at those that the first one has chosen.

    Attributes:
        xgroup: the experiment group; None for all groups of the user.
        filter: by the state at the first look.
        ids: ``experiments.id``; None where the filter chooses.
        if_unfinished: likewise, of those that are waited for, too, if they have not ended at the first look.
        attempts: how many attempts of each experiment are read, the newest; only the latest is waited for.
    """

    xgroup: str | None
    filter: JobFilter = field(default_factory=JobFilter)
    ids: frozenset[int] | None = None
    if_unfinished: frozenset[int] = frozenset()
    attempts: int = 1

    @property
    def takes_unfinished(self) -> bool:
        """Whether nothing is named: only what has not ended is waited for."""
        return self.xgroup is None and self.filter.takes_all and self.ids is None


class Looker:
    """Looks at the same experiments again and again. Nothing is open between two looks."""

    def __init__(self, wanted: Wanted, context: Context, platforms: Platforms, reporter: Reporter) -> None:
        """Prepare.

        Args:
            wanted: which experiments.
            context: the process.
            platforms: where they run.
            reporter: gets what is found out about submissions of interrupted commands.
        """
        self._wanted, self._context, self._platforms, self._reporter = wanted, context, platforms, reporter
        self._url = store_url(context.environ, context.home)
        self._chosen: dict[str, frozenset[int]] | None = None

    def look(self) -> Look:
        """Read the store, settle what interrupted commands left open, query the platforms, record what changed.

        Raises:
            CalibanError: the store cannot be read; a group or job that is named does not exist (any more).
        """
        read, left = self._read()
        possible = self._possible(read)
        recorded = self._record(refresh([_latest(group) for group in possible], self._platforms))
        chosen = self._choose([_merged(*each) for each in zip(possible, recorded, strict=True)], left)
        ids = {experiment.id for group in chosen for experiment in group.experiments}
        sizes = {group.name: len(group.experiments) for group in read}
        return Look(
            tuple(_latest(group) for group in chosen),
            OpenSubmissions(_of(ids, left.in_progress), _of(ids, left.in_doubt), _of(ids, left.unsent)),
            {group.name: sizes[group.name] - len(group.experiments) for group in chosen},
            sum(map(len, (self._chosen or {}).values())) - len(ids),
            {each.id: tuple(job.id for job in each.jobs) for group in chosen for each in group.experiments},
        )

    def _read(self) -> tuple[list[GroupRecord], OpenSubmissions]:
        with open_store(self._url, Access.READ, self._reporter) as store:
            groups = self._groups(store)
            left = read_open(store, self._platforms, self._context.user, self._wanted.xgroup)
        concerned = {group.name for group in groups}
        unsettled = {each.group for each in (*left.in_doubt, *left.unsent)} & concerned
        if not unsettled:
            return groups, left
        try:
            with open_store(self._url, Access.WRITE, self._reporter) as store:
                return self._settled(store, unsettled)
        except StoreError as error:
            self._reporter.warn(f"cannot settle the submissions of an interrupted command: {error.message}")
            return groups, left

    def _settled(self, store: Store, groups: Iterable[str]) -> tuple[list[GroupRecord], OpenSubmissions]:
        from caliban.store.journal import Journal
        from caliban.submission.reconcile import reconcile

        journal, user = Journal(store, self._context.clock), self._context.user
        for name in sorted(groups):
            reconcile(journal, self._platforms, self._reporter, user=user, group=name)
        return self._groups(store), read_open(store, self._platforms, user, self._wanted.xgroup)

    def _groups(self, store: Store) -> list[GroupRecord]:
        user, wanted = self._context.user, self._wanted
        if self._chosen is not None:
            return [read_group(store, user, name, per_experiment=wanted.attempts) for name in self._chosen]
        if wanted.xgroup is None:
            return read_recent(store, user, None)
        per_experiment = None if wanted.filter.needs_all_attempts else wanted.attempts
        return [read_group(store, user, wanted.xgroup, per_experiment=per_experiment)]

    def _possible(self, groups: Sequence[GroupRecord]) -> list[GroupRecord]:
        """Return what may be waited for, whatever the states are now: only that is refreshed."""
        if self._chosen is not None:
            return [_with(group, self._chosen[group.name]) for group in groups]
        if self._wanted.ids is not None:
            return [_with(group, self._wanted.ids | self._wanted.if_unfinished) for group in groups]
        return self._wanted.filter.unchanging().experiments(groups)

    def _choose(self, groups: Sequence[GroupRecord], left: OpenSubmissions) -> Sequence[GroupRecord]:
        """Return what is waited for; the first time, by its state."""
        if self._chosen is not None:
            return groups
        chosen: Sequence[GroupRecord] = groups
        if self._wanted.takes_unfinished:
            submitting = {each.experiment_id for each in (*left.in_progress, *left.in_doubt)}
            ids = submitting | {each.id for group in UNFINISHED.experiments(groups) for each in group.experiments}
            chosen = [found for group in groups if (found := _with(group, ids)).experiments]
        elif self._wanted.ids is None:
            chosen = self._wanted.filter.again().experiments(groups)
        else:
            unfinished = {each.id for each in Look(tuple(groups), left).unfinished}
            chosen = [_with(group, self._wanted.ids | (self._wanted.if_unfinished & unfinished)) for group in groups]
        self._chosen = {group.name: frozenset(each.id for each in group.experiments) for group in chosen}
        return chosen

    def _record(self, refreshed: Refreshed) -> Sequence[GroupRecord]:
        """Record new states, and return the groups as they are recorded; as they were reported if that fails."""
        if refreshed.is_recorded:
            return refreshed.groups
        try:
            with open_store(self._url, Access.WRITE, self._reporter) as store:
                return refreshed.record(store, self._platforms)
        except StoreError as error:
            self._reporter.warn(f"cannot record the states of jobs: {error.message}")
            return refreshed.groups


def _of(ids: set[int], submissions: Sequence[Submission]) -> tuple[Submission, ...]:
    return tuple(each for each in submissions if each.experiment_id in ids)


def _with(group: GroupRecord, ids: Iterable[int]) -> GroupRecord:
    wanted = frozenset(ids)
    return replace(group, experiments=tuple(each for each in group.experiments if each.id in wanted))


def _latest(group: GroupRecord) -> GroupRecord:
    return replace(group, experiments=tuple(replace(each, jobs=each.jobs[-1:]) for each in group.experiments))


def _merged(group: GroupRecord, refreshed: GroupRecord) -> GroupRecord:
    """Return a group with all attempts, and the refreshed state of the latest one of each experiment."""
    pairs = zip(group.experiments, refreshed.experiments, strict=True)
    merged = (replace(each, jobs=(*each.jobs[:-1], *new.jobs)) for each, new in pairs)
    return replace(group, experiments=tuple(merged))


def is_passing(error: CalibanError) -> bool:
    """Return whether a store that cannot be used may be usable later, without anybody changing anything."""
    return error.id in ("store-unreachable", "store-locked")
