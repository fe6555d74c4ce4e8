"""Convert counted rows of the store to :class:`caliban.summary.GroupCounts`."""

from __future__ import annotations

from collections.abc import Iterable

from caliban.records import JobStatus
from caliban.store.views import TreeRow, text
from caliban.summary import NEVER_RUN, GroupCounts, ordered


def group_counts_of(rows: Iterable[TreeRow]) -> list[GroupCounts]:
    """Merge the rows of each group: one for each state of its experiments. The group with the newest job is last."""
    by_name: dict[str, list[TreeRow]] = {}
    for row in rows:
        by_name.setdefault(text(row.name), []).append(row)
    latest = {name: max((row.last or row.created, row.group_id) for row in found) for name, found in by_name.items()}
    return [_counts(name, by_name[name]) for name in sorted(by_name, key=latest.__getitem__)]


def _counts(name: str, rows: Iterable[TreeRow]) -> GroupCounts:
    counts: dict[str, int] = {}
    last = None
    for row in rows:
        state = (row.status or JobStatus.UNKNOWN).value.lower() if row.has_job else NEVER_RUN
        counts[state] = counts.get(state, 0) + row.experiments
        if row.last is not None and (last is None or row.last > last):
            last = row.last
    return GroupCounts(name, ordered(counts), last)
