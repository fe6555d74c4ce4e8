"""Open submissions: those that another command is working on, and those whose outcome is unknown."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from caliban.platforms.registry import Platforms
from caliban.records import Submission
from caliban.reporter import Reporter
from caliban.store.database import Store
from caliban.store.journal import Journal
from caliban.submission.lease import in_progress
from caliban.submission.reconcile import OpenSubmissions, settle_open


def read_open(store: Store, platforms: Platforms, user: str, group: str | None) -> OpenSubmissions:
    """Return the open submissions as far as one look at the journal tells. Nothing is connected to or written.

    Those that an ended command never sent are left out: no platform has them.
    """
    clock = platforms.context.clock
    opened = _journal(store, platforms).open_submissions(user=user, group=group)
    ended = [each for each in opened if in_progress(each, clock) is False]
    return OpenSubmissions(
        tuple(each for each in opened if each not in ended),
        tuple(each for each in ended if each.may_have_been_sent),
    )


def needs_settling(store: Store, platforms: Platforms, user: str, group: str | None) -> list[Submission]:
    """Return the open submissions of which :func:`settle` would do more than leave them alone."""
    clock = platforms.context.clock
    opened = _journal(store, platforms).open_submissions(user=user, group=group)
    return [submission for submission in opened if in_progress(submission, clock) is not True]


def settle(store: Store, platforms: Platforms, user: str, group: str | None) -> OpenSubmissions:
    """Look up the submissions of interrupted commands, and return those that are open afterwards."""
    journal = _journal(store, platforms)
    return settle_open(journal, platforms, platforms.context.reporter, user=user, group=group)


def _journal(store: Store, platforms: Platforms) -> Journal:
    return Journal(store, platforms.context.clock)


def report_doubt(submissions: Sequence[Submission], reporter: Reporter) -> None:
    """Report how to give up submissions that cannot be looked up; why they cannot was reported before."""
    for group, number in Counter(submission.group for submission in submissions).items():
        jobs = "1 job may be running that" if number == 1 else f"{number} jobs may be running that"
        reporter.warn(f"experiment group {group}: {jobs} an interrupted command submitted; {_what_to_do(group)}")


def report_unreachable(group: str, number: int, reporter: Reporter) -> None:
    """Report how to give up ``number`` jobs whose state cannot be determined; why is part of the listing."""
    if number:
        jobs = "1 job" if number == 1 else f"{number} jobs"
        reporter.warn(
            f"experiment group {group}: {jobs} may be running: their platform cannot be asked; {_what_to_do(group)}"
        )


def _what_to_do(group: str) -> str:
    return f"try again, or give up what can never be asked again: caliban abandon --xgroup {shlex.quote(group)}"
