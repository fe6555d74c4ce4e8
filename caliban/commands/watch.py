"""``caliban status --watch``: look again and again, and show what changed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from threading import Event
from typing import TYPE_CHECKING

from caliban.causes import reason_of
from caliban.cli import render
from caliban.cli.console import LiveListing
from caliban.cli.context import Context
from caliban.cli.summaries import command_lines, summary_lines
from caliban.commands.listing import Listing, ListingRequest, look
from caliban.commands.status import print_listing, tree_lines
from caliban.durations import duration_text
from caliban.errors import CalibanError, QuietInterrupt, one_line
from caliban.records import ExperimentRecord, GroupRecord, JobRecord, JobStatus
from caliban.summary import summary_of

if TYPE_CHECKING:
    from caliban.platforms.registry import Platforms


def watch(request: ListingRequest, interval: float, context: Context, platforms: Platforms) -> int:
    """Show the listing until Ctrl-C.

    What cannot be read or asked is reported, and tried again at the next look; only the first look may fail.

    Raises:
        QuietInterrupt: after Ctrl-C.
    """
    watched = _Watch(request, interval, context, platforms)
    try:
        listing = look(request, context, platforms)
        with context.console.live() if context.console.is_live else nullcontext() as live:
            watched.show_first(listing, live)
            while True:
                context.clock.wait(watched.never, interval)
                watched.show_next(live)
    except KeyboardInterrupt:
        raise QuietInterrupt from None


class _Watch:
    """What was shown last."""

    def __init__(self, request: ListingRequest, interval: float, context: Context, platforms: Platforms) -> None:
        self.never = Event()
        self._request, self._interval, self._context, self._platforms = request, interval, context, platforms
        self._listing = Listing(())
        self._problems: tuple[object, ...] = ()

    def show_first(self, listing: Listing, live: LiveListing | None) -> None:
        """Show all of the first listing."""
        self._listing = listing
        if live is None:
            print_listing(listing, self._request, self._context)
        self._report()
        self._draw(live)

    def show_next(self, live: LiveListing | None) -> None:
        """Look again, and show what changed."""
        try:
            found = look(self._request, self._context, self._platforms)
        except CalibanError as error:
            self._report_failure(error, live)
        else:
            if live is None:
                self._context.console.print(*change_lines(self._listing.groups, found.groups, self._now()))
            self._listing = found
            self._report(always=live is not None)
        self._draw(live)

    def _report_failure(self, error: CalibanError, live: LiveListing | None) -> None:
        problem = (error.id, error.message)
        if live is not None or problem != self._problems:
            self._context.console.warn(f"cannot look: {one_line(error)}; trying again every {self._every()}")
        self._problems = problem

    def _report(self, *, always: bool = False) -> None:
        """Report jobs that may be running; elsewhere than on a live listing only where that changed."""
        from caliban.submission.in_doubt import report_doubt, report_unreachable_jobs

        problems = (
            *(submission.token for submission in self._listing.in_doubt),
            *((job.id, job.refresh_error) for _, job in _jobs(self._listing.groups) if job.refresh_error),
        )
        if problems != self._problems or always:
            report_doubt(self._listing.in_doubt, self._context.console)
            report_unreachable_jobs(self._listing.groups, self._context.console)
        self._problems = problems

    def _draw(self, live: LiveListing | None) -> None:
        if live is not None:
            live.draw(frame_lines(self._title(), self._trees(), live.size().lines))

    def _title(self) -> str:
        xgroup = ["--xgroup", self._request.xgroup] if self._request.xgroup else []
        command = shlex.join(["caliban", "status", *xgroup, *self._request.selected.typed])
        return f"{self._now()}  {command}  (every {self._every()}; Ctrl-C ends)"

    def _trees(self) -> list[Tree]:
        return [_tree(group, self._request, self._context) for group in self._listing.groups]

    def _every(self) -> str:
        return duration_text(self._interval)

    def _now(self) -> str:
        return f"{self._context.now():%Y-%m-%d %H:%M:%S}"


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


def _tree(group: GroupRecord, request: ListingRequest, context: Context) -> Tree:
    rest = tuple(
        each for each in group.experiments if each.latest is None or each.latest.status is not JobStatus.SUCCEEDED
    )
    summary = summary_of(group.experiments)
    return Tree(
        tuple(tree_lines(group, request, context)),
        tuple(tree_lines(replace(group, experiments=rest), request, context)),
        (*summary_lines(summary), *command_lines(summary, group.name, request.selected.typed)),
    )


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
    known = {job.id: job for _, job in _jobs(before)}
    for experiment, job in _jobs(after):
        old = known.get(job.id)
        if old is not None and (old.status, reason_of(old)) == (job.status, reason_of(job)):
            continue
        states = f"{old.status} -> {job.status}" if old is not None and old.status != job.status else str(job.status)
        reason = f" ({found})" if (found := reason_of(job)) else ""
        yield f"{now} job {job.id}: {states}{reason}  {render.command_line(experiment)}"


def _jobs(groups: Sequence[GroupRecord]) -> Iterator[tuple[ExperimentRecord, JobRecord]]:
    for group in groups:
        for experiment in group.experiments:
            for job in experiment.jobs:
                yield experiment, job
