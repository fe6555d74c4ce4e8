"""Format what a listing ends with: counts, causes, and the commands to run next. Does no I/O."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from caliban.cli.render import count
from caliban.summary import Summary


def summary_lines(
    summary: Summary, group: str | None, *, selection: Sequence[str] = (), only_listed: bool = False
) -> Iterator[str]:
    """Yield the counts by state, a line for each cause, and the commands that show the output and re-run.

    Args:
        summary: of the experiments.
        group: their experiment group; None where no command is to be shown.
        selection: the flags that selected them; ``resubmit`` has none of those, and is not shown then.
        only_listed: whether the group may have other experiments than those.
    """
    yield counts_line(summary, only_listed=only_listed)
    width = max((len(str(len(each.job_ids))) for each in summary.causes), default=0)
    for each in summary.causes:
        yield f"  {len(each.job_ids):>{width}} {each.cause:15} {each.text}".rstrip()
    if group is not None:
        yield from _commands(summary, group, selection)


def counts_line(summary: Summary, *, only_listed: bool = False) -> str:
    """Return ``40 experiments: 31 succeeded, 8 failed, 1 running``."""
    experiments = count(summary.experiments, "experiment") + (" listed" if only_listed else "")
    counts = ", ".join(f"{number} {state}" for state, number in summary.counts.items())
    return f"{experiments}: {counts}" if counts else experiments


def _commands(summary: Summary, group: str, selection: Sequence[str]) -> Iterator[str]:
    flag = _flag("--xgroup", group)
    if summary.has_output:
        yield f"output:  {shlex.join(['caliban', 'logs', *flag, *selection, '--failed'])}"
    if summary.can_rerun and not selection:
        yield f"re-run:  {shlex.join(['caliban', 'resubmit', *flag])}"


def _flag(name: str, value: str) -> list[str]:
    """Return a flag with its value, which may look like a flag itself."""
    return [f"{name}={value}"] if value.startswith("-") else [name, value]
