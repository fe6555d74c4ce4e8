"""What ``caliban status`` lists: groups as they are recorded after their states were refreshed, and selected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from caliban.cli.context import Context
from caliban.errors import StoreError
from caliban.job_filter import JobFilter
from caliban.records import GroupRecord

if TYPE_CHECKING:
    from caliban.attempts import Submission
    from caliban.platforms.registry import Platforms
    from caliban.store.database import Store
    from caliban.submission.refresh import Refreshed

RECENT_JOBS = 8


@dataclass(frozen=True)
class ListingRequest:
    """What is to be listed.

    Attributes:
        xgroup: the experiment group; None for all groups of the user.
        max_jobs: with a group, how many jobs of each experiment; without, how many jobs; 0 for all, None for the
            default.
        selected: which jobs.
        with_history: whether all attempts of the selected experiments are listed.
    """

    xgroup: str | None
    max_jobs: int | None
    selected: JobFilter
    with_history: bool = False

    @property
    def is_recent(self) -> bool:
        """Whether only the most recent jobs are listed, whatever their group."""
        return self.xgroup is None and self.selected.takes_all

    @property
    def recent_jobs(self) -> int | None:
        """How many jobs are listed without a group; None for all."""
        default = RECENT_JOBS if self.selected.takes_all else 0
        return (default if self.max_jobs is None else self.max_jobs) or None

    def read(self, user: str, store: Store) -> list[GroupRecord]:
        """Read the groups, with all jobs from which some are selected."""
        from caliban.submission.groups import read_group, read_recent

        if self.xgroup is None:
            reads_recent = self.is_recent and not self.with_history
            return read_recent(store, user, self.recent_jobs if reads_recent else None)
        per_experiment = 1 if self.max_jobs is None else self.max_jobs
        if self.with_history or self.selected.needs_all_attempts:
            per_experiment = 0
        return [read_group(store, user, self.xgroup, per_experiment=per_experiment or None)]

    def before_refresh(self, groups: Sequence[GroupRecord]) -> list[GroupRecord]:
        """Return what may be listed, whatever the states are now: only that is refreshed."""
        unchanging = self.selected.unchanging()
        if self.with_history:
            return unchanging.experiments(self._with_recent(groups))
        return unchanging.apply(self._considered(groups))

    def select(self, groups: Sequence[GroupRecord]) -> list[GroupRecord]:
        """Return what is listed of refreshed groups."""
        if self.with_history:
            return self.selected.again().experiments(groups)
        selected = self.selected.again().apply(groups)
        return selected if self.xgroup is not None or self.is_recent else _newest(selected, self.recent_jobs)

    def _considered(self, groups: Sequence[GroupRecord]) -> Sequence[GroupRecord]:
        """Without a group, the latest job of each experiment counts, unless jobs are named."""
        if self.xgroup is not None or self.is_recent or self.selected.needs_all_attempts:
            return groups
        return [
            replace(group, experiments=tuple(replace(each, jobs=each.jobs[-1:]) for each in group.experiments))
            for group in groups
        ]

    def _with_recent(self, groups: Sequence[GroupRecord]) -> Sequence[GroupRecord]:
        """Without a group, the history of the experiments of the most recent jobs is listed."""
        if not self.is_recent or self.recent_jobs is None:
            return groups
        ids = _newest_ids(groups, self.recent_jobs)
        recent = [
            replace(group, experiments=tuple(each for each in group.experiments if ids & {job.id for job in each.jobs}))
            for group in groups
        ]
        return [group for group in recent if group.experiments]


@dataclass(frozen=True)
class Listing:
    """What is listed.

    Attributes:
        groups: with the selected experiments and jobs.
        in_doubt: submissions of interrupted commands whose outcome is not known.
    """

    groups: Sequence[GroupRecord]
    in_doubt: Sequence[Submission] = ()


def look(request: ListingRequest, context: Context, platforms: Platforms) -> Listing:
    """Read the store, settle what interrupted commands left open, query the platforms, and record what changed."""
    from caliban.submission.refresh import refresh

    read, in_doubt = _read(request, context, platforms)
    recorded = _record(refresh(request.before_refresh(read), platforms), context, platforms)
    return Listing(request.select(recorded), in_doubt)


def _read(
    request: ListingRequest, context: Context, platforms: Platforms
) -> tuple[list[GroupRecord], Sequence[Submission]]:
    """Return the groups, after reconciling what interrupted commands left open, and what is still in doubt."""
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.submission.in_doubt import read_open, reconcile_open

    url = store_url(context.environ, context.home)
    with open_store(url, Access.READ, context.console) as store:
        groups = request.read(context.user, store)
        left_open = read_open(store, platforms, context.user, request.xgroup)
    if not left_open.in_doubt and not left_open.unsent:
        return groups, ()
    try:
        with open_store(url, Access.WRITE, context.console) as store:
            in_doubt = reconcile_open(store, platforms, context.user, request.xgroup).in_doubt
            return request.read(context.user, store), in_doubt
    except StoreError as error:
        context.console.warn(f"cannot settle the submissions of an interrupted command: {error.message}")
        return groups, left_open.in_doubt


def _record(refreshed: Refreshed, context: Context, platforms: Platforms) -> Sequence[GroupRecord]:
    """Record new states, and return the groups as they are recorded; as they were reported if that is not possible."""
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store

    if refreshed.is_recorded:
        return refreshed.groups
    try:
        url = store_url(context.environ, context.home)
        with open_store(url, Access.WRITE, context.console) as store:
            return refreshed.record(store, platforms)
    except StoreError as error:
        context.console.warn(f"cannot record the states below: {error.message}: {error.cause}")
        return refreshed.groups


def _newest_ids(groups: Sequence[GroupRecord], limit: int | None) -> set[int]:
    ids = sorted(job.id for group in groups for each in group.experiments for job in each.jobs)
    return set(ids[-limit:] if limit else ids)


def _newest(groups: Sequence[GroupRecord], limit: int | None) -> list[GroupRecord]:
    """Return the groups with only the newest ``limit`` of their jobs."""
    if limit is None:
        return list(groups)
    return JobFilter(job_ids=frozenset(_newest_ids(groups, limit))).apply(groups)
