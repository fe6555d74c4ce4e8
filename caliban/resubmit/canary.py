"""``--canary``: one job of each cause goes first; its lines, and its JSON field."""

from __future__ import annotations

from collections.abc import Iterator

from caliban.cli import render
from caliban.resubmit.plan import Plan

_SHOWN = 3


def first_of_each(plan: Plan) -> frozenset[int]:
    """Return the positions in ``plan.jobs`` of those that go first: the first of each kind that can be submitted."""
    firsts: dict[object, int] = {}
    for position, job in enumerate(plan.jobs):
        if job.problem is None:
            firsts.setdefault(job.alike, position)
    return frozenset(firsts.values())


def lines(plan: Plan) -> Iterator[str]:
    """Yield which jobs go first, and how many wait for them."""
    first = [render.command_line(plan.jobs[each].experiment) for each in sorted(first_of_each(plan))]
    waiting = len(plan.ready) - len(first)
    if plan.has_canaries and waiting:
        more = f" and {len(first) - _SHOWN} more" if len(first) > _SHOWN else ""
        yield f"first: {', '.join(first[:_SHOWN])}{more}; then {render.count(waiting, 'other job')}"
