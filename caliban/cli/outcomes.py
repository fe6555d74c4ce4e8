"""Report the results of the jobs that a command submitted."""

from __future__ import annotations

from collections.abc import Sequence

from caliban.cli import render
from caliban.cli.console import Console
from caliban.cli.summaries import command_lines, summary_lines
from caliban.errors import ExitCode
from caliban.records import Outcome
from caliban.summary import outcomes_summary


def report_outcomes(console: Console, outcomes: Sequence[Outcome], group: str, *, not_started: int = 0) -> ExitCode:
    """List the jobs, report each error once, and summarize.

    Args:
        console: where to.
        outcomes: one for each attempt.
        group: the experiment group of all of them.
        not_started: the number of attempts that were planned but not started.

    Returns:
        DONE when every job was submitted and none is known to have failed.
    """
    console.print(*render.outcome_lines(outcomes))
    summary = outcomes_summary(outcomes, not_started)
    console.info(*render.failure_lines(outcomes))
    console.info(*summary_lines(summary), *command_lines(summary, group))
    return ExitCode.DONE if not not_started and all(outcome.is_good for outcome in outcomes) else ExitCode.NOT_DONE
