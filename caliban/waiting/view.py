"""What is shown while jobs are waited for: a listing that is redrawn on a terminal, elsewhere a line per change."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from caliban.cli import render
from caliban.cli.context import Context
from caliban.cli.frames import Tree, change_lines, frame_lines
from caliban.cli.live import LiveListing
from caliban.cli.summaries import command_lines, counts_line, summary_lines
from caliban.durations import duration_text
from caliban.records import GroupRecord, JobStatus
from caliban.summary import summary_of
from caliban.waiting.looks import Look, Wanted

_MAX_NAMED = 100


class View:
    """Shows looks."""

    def __init__(self, context: Context) -> None:
        self._context, self._console = context, context.console
        self._live: LiveListing | None = None
        self._open = ExitStack()
        self._last: Look | None = None

    def show(self, look: Look, seconds: float) -> bool:
        """Show a look, and return whether something has changed since the one before.

        Args:
            look: what was found.
            seconds: how long has been waited.
        """
        lines = [] if self._last is None else list(change_lines(self._last.groups, look.groups, self._now()))
        if self._last is None and look.unfinished:
            self._console.info(_begin_line(look))
        self._last = look
        if self._console.is_live and not self._console.writes_document:
            if look.unfinished:
                self._draw(look, seconds)
        elif self._console.writes_document:
            self._console.info(*lines)
        else:
            self._console.print(*lines)
        return bool(lines)

    def close(self) -> None:
        """Show the terminal as it was before."""
        self._open.close()
        self._live = None

    def _draw(self, look: Look, seconds: float) -> None:
        if self._live is None:
            self._live = self._open.enter_context(self._console.live())
        trees = [self._tree(group) for group in look.groups]
        counts = f"{len(look.unfinished)} of {render.count(len(look.experiments), 'experiment')}"
        title = (
            f"{self._now()}  waiting for {counts}, {duration_text(seconds)}  (Ctrl-C ends the waiting, not the jobs)"
        )
        self._live.draw(frame_lines(title, trees, self._live.size().lines))

    def _tree(self, group: GroupRecord) -> Tree:
        rest = [each for each in group.experiments if not each.latest or each.latest.status is not JobStatus.SUCCEEDED]
        short = replace(group, experiments=tuple(rest))
        summary = tuple(summary_lines(summary_of(group.experiments)))
        return Tree(self._lines(group), self._lines(short), summary)

    def _lines(self, group: GroupRecord) -> Sequence[str]:
        return tuple(render.group_lines(group, self._context.home, self._console.width))

    def _now(self) -> str:
        return f"{self._context.now():%Y-%m-%d %H:%M:%S}"


def _begin_line(look: Look) -> str:
    names = ", ".join(group.name for group in look.groups[:3]) + (", ..." if len(look.groups) > 3 else "")
    groups = f"experiment group{'s' if len(look.groups) > 1 else ''} {names}"
    number, total = len(look.unfinished), len(look.experiments)
    what = render.count(total, "experiment")
    return f"waiting for {what if number == total else f'{number} of {what}'} of the {groups} ..."


def end_lines(look: Look, selection: Sequence[str]) -> Iterator[str]:
    """Yield the summary of each group.

    Args:
        look: the last one.
        selection: the flags that chose the experiments, for the commands to run next.
    """
    if len(look.groups) > 1:
        yield f"{counts_line(summary_of(look.experiments))}, in {len(look.groups)} experiment groups"
    for group in look.groups:
        summary = summary_of(group.experiments)
        if len(look.groups) > 1:
            yield f"xgroup {group.name}:"
        yield from summary_lines(summary)
        yield from command_lines(summary, group.name, selection)


def unknown_lines(look: Look) -> Iterator[str]:
    """Yield the jobs of which is not known how they ended, with the reason."""
    for experiment in look.experiments:
        job = experiment.latest
        if job is not None and (job.refresh_error or job.status is JobStatus.UNKNOWN):
            reason = job.refresh_error or job.details.reason or "no reason reported"
            yield f"job {job.id}: state unknown: {reason}"
    if look.removed:
        yield f"{render.count(look.removed, 'experiment')} removed from the store meanwhile"


def going_on(look: Look, wanted: Wanted, flags: Sequence[str]) -> str:
    """Return the command that goes on to wait for the same experiments.

    Args:
        look: the last one.
        wanted: what was chosen.
        flags: others that were given to this command.
    """
    name = wanted.xgroup or (look.groups[0].name if len(look.groups) == 1 else None)
    xgroup = [] if name is None else [f"--xgroup={name}"] if name.startswith("-") else ["--xgroup", name]
    changing = wanted.filter.unchanging() != wanted.filter or wanted.takes_unfinished
    jobs = [each.latest.id for each in look.experiments if each.latest]
    if wanted.ids is not None:
        changing = sum(look.others.values()) > 0
    selection = list(wanted.filter.typed)
    if changing and 0 < len(jobs) <= _MAX_NAMED and len(jobs) == len(look.experiments):
        selection = ["--job", ",".join(map(str, jobs))]
    return shlex.join(["caliban", "wait", *xgroup, *selection, *flags])
