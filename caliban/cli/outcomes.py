"""Report the results of the jobs that a command submitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from caliban.cli import render
from caliban.cli.console import Console
from caliban.errors import ExitCode
from caliban.records import JsonObject, Outcome

OutcomesDocument = Callable[[Sequence[Outcome], int], JsonObject]
"""Makes the document of a command from its outcomes and the number of attempts that were not started."""


def report_outcomes(
    console: Console, outcomes: Sequence[Outcome], document: OutcomesDocument | None = None, *, not_started: int = 0
) -> ExitCode:
    """List the jobs, report each error once, and count.

    Args:
        console: where to.
        outcomes: one for each attempt.
        document: what ``--json`` writes.
        not_started: the number of attempts that were planned but not started.

    Returns:
        DONE when every job was submitted and none is known to have failed.
    """
    if document is not None:
        console.document(lambda: document(outcomes, not_started))
    for line in render.outcome_lines(outcomes):
        console.print(line)
    for line in render.failure_lines(outcomes):
        console.info(line)
    console.info(render.summary_line(outcomes, not_started))
    return ExitCode.DONE if not not_started and all(outcome.is_good for outcome in outcomes) else ExitCode.NOT_DONE
