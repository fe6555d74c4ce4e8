"""Format what a listing ends with: counts, causes, and the commands to run next. Does no I/O."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from caliban.cli.render import count
from caliban.summary import Summary


def summary_lines(summary: Summary, *, only_listed: bool = False) -> Iterator[str]:
    """Yield the counts by state, and a line for each cause.

    Args:
        summary: of the experiments.
        only_listed: whether the group may have other experiments than those.
    """
    yield counts_line(summary, only_listed=only_listed)
    width = max((len(str(len(each.job_ids))) for each in summary.causes), default=0)
    for each in summary.causes:
        yield f"  {len(each.job_ids):>{width}} {each.cause:15} {each.text or 'no reason recorded'}"


def counts_line(summary: Summary, *, only_listed: bool = False) -> str:
    """Return ``40 experiments: 31 succeeded, 8 failed, 1 running``."""
    experiments = count(summary.experiments, "experiment") + (" listed" if only_listed else "")
    counts = ", ".join(f"{number} {state}" for state, number in summary.counts.items())
    return f"{experiments}: {counts}" if counts else experiments


def command_lines(summary: Summary, group: str, selection: Sequence[str] = ()) -> Iterator[str]:
    """Yield the commands that show the output of failed jobs, and re-run them, each where it would do something.

    Args:
        summary: of the experiments.
        group: their experiment group.
        selection: the flags that selected them.
    """
    flag = [f"--xgroup={group}"] if group.startswith("-") else ["--xgroup", group]
    if summary.has_output:
        failed = [] if "--state" in selection else ["--failed"]  # which would add a state to those
        yield f"output:  {shlex.join(['caliban', 'logs', *flag, *selection, *failed])}"
    if summary.can_rerun:
        yield f"re-run:  {shlex.join(['caliban', 'resubmit', *flag, *selection])}"
