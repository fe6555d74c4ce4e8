"""``resubmit --wait``: what is waited for after the submission, and the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from caliban.cli.context import Context
from caliban.cli.outcomes import report_outcomes
from caliban.errors import ExitCode
from caliban.platforms.registry import Platforms
from caliban.records import Outcome
from caliban.resubmit.documents import resubmit_document
from caliban.resubmit.plan import Plan
from caliban.waiting.dispatching import FurtherJobs
from caliban.waiting.submitted import Submitted, wait_for

if TYPE_CHECKING:
    from caliban.resubmit.command import ResubmitRequest
    from caliban.resubmit.selection import Choice


def ended(
    plan: Plan,
    request: ResubmitRequest,
    outcomes: Sequence[Outcome],
    context: Context,
    platforms: Platforms,
    further: FurtherJobs | None = None,
    *,
    is_in_doubt: bool,
) -> int:
    """Report the outcomes; with ``--wait``, when the jobs have ended.

    Experiments of the choice that run already, or that another command is submitting, are waited for too: the command
    typed again goes on waiting.
    """
    if request.wait is None:
        code = report_outcomes(context.console, outcomes, plan.group) if outcomes else ExitCode.DONE
        return ExitCode.NOT_DONE if is_in_doubt else code
    others = frozenset(_others(plan, request.choice))
    code = wait_for(
        Submitted(plan.group, outcomes, if_unfinished=others),
        request.wait,
        context,
        platforms,
        lambda found, rest: context.console.document(lambda: resubmit_document(plan, found, rest)),
        further,
    )
    was_waited_for = request.wait.to_the_end and others
    return ExitCode.NOT_DONE if code is ExitCode.DONE and is_in_doubt and not was_waited_for else code


def _others(plan: Plan, choice: Choice) -> Iterator[int]:
    """Yield the experiments that are left out only because of the state of their job; none where states are named."""
    conditions = choice.filter
    if not conditions.states and not conditions.never_run:
        yield from (each.experiment.id for each in plan.skipped if conditions.left_out(each.experiment) is None)
