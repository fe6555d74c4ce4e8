"""What is shown of groups that are watched: as many lines as a terminal has, or a line per change. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from caliban.causes import reason_of
from caliban.cli import render
from caliban.records import ExperimentRecord, GroupRecord, JobRecord


@dataclass(frozen=True)
class Tree:
    """The lines of a group.

    Attributes:
        full: its experiments.
        short: those of them that have not succeeded.
        summary: what follows.
    """

    full: Sequence[str]
    short: Sequence[str]
    summary: Sequence[str]


def frame_lines(title: str, trees: Sequence[Tree], rows: int) -> list[str]:
    """Return what fits on a terminal: where not all does, experiments that have succeeded are left out first.

    Args:
        title: the first line.
        trees: of the groups.
        rows: of the terminal.
    """
    full = [line for tree in trees for line in (*tree.full, *tree.summary)]
    if 1 + len(full) <= rows:
        return [title, *full]
    foot = list(trees[0].summary) if len(trees) == 1 else []
    body = [line for tree in trees for line in (*tree.short, *(() if foot else tree.summary))]
    room = rows - 1 - len(foot)
    if room < 1:
        return [title, *foot][:rows]
    if len(body) > room:
        body = [*body[: room - 1], f"... {len(body) - room + 1} more lines"]
    return [title, *body, *foot]


def change_lines(before: Sequence[GroupRecord], after: Sequence[GroupRecord], now: str) -> Iterator[str]:
    """Yield a line for each job that is new, or whose state or reason changed."""
    known = {job.id: job for _, job in jobs_of(before)}
    for experiment, job in jobs_of(after):
        old = known.get(job.id)
        if old is not None and (old.status, reason_of(old)) == (job.status, reason_of(job)):
            continue
        states = f"{old.status} -> {job.status}" if old is not None and old.status != job.status else str(job.status)
        reason = f" ({found})" if (found := reason_of(job)) else ""
        yield f"{now} job {job.id}: {states}{reason}  {render.command_line(experiment)}"


def jobs_of(groups: Iterable[GroupRecord]) -> Iterator[tuple[ExperimentRecord, JobRecord]]:
    """Yield the jobs of groups, each with its experiment."""
    for group in groups:
        for experiment in group.experiments:
            for job in experiment.jobs:
                yield experiment, job
