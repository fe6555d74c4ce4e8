"""``caliban status --watch``: look again and again, and show what changed."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING

from caliban.cli.context import Context
from caliban.cli.frames import Tree, change_lines, frame_lines, jobs_of
from caliban.cli.live import LiveListing
from caliban.cli.summaries import command_lines, summary_lines
from caliban.commands.listing import Listing, ListingRequest, look
from caliban.commands.status import print_listing, tree_lines
from caliban.durations import duration_text
from caliban.errors import CalibanError, ExitCode, QuietInterrupt, one_line
from caliban.records import GroupRecord, JobStatus
from caliban.summary import summary_of

if TYPE_CHECKING:
    from caliban.platforms.registry import Platforms


def watch(request: ListingRequest, interval: float, context: Context, platforms: Platforms) -> int:
    """Show the listing until Ctrl-C.

    What cannot be read or asked is reported, and tried again at the next look; only the first look may fail. Once
    nobody reads standard output any more, as in ``caliban status --watch | head``, the command has ended.

    Raises:
        QuietInterrupt: after Ctrl-C.
    """
    watched = _Watch(request, interval, context, platforms)
    try:
        listing = look(request, context, platforms)
        with context.console.live() if context.console.is_live else nullcontext() as live:
            watched.show_first(listing, live)
            while context.console.has_reader:
                context.clock.wait(watched.never, interval)
                watched.show_next(live)
        return ExitCode.DONE
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
            *((job.id, job.refresh_error) for _, job in jobs_of(self._listing.groups) if job.refresh_error),
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
