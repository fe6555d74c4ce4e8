"""Open submissions: those that another command is working on, and those whose outcome is unknown."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from caliban.attempts import Submission
from caliban.platforms.registry import Platforms
from caliban.records import GroupRecord
from caliban.reporter import Reporter
from caliban.store.database import Store
from caliban.store.journal import Journal
from caliban.submission.lease import in_progress
from caliban.submission.reconcile import reconcile


@dataclass(frozen=True)
class OpenSubmissions:
    """The open submissions of a group, or of all groups of a user.

    Attributes:
        in_progress: another command is working on them.
        in_doubt: their command was interrupted; whether the platform has their jobs is unknown.
        unsent: their command was interrupted before it sent them.
    """

    in_progress: tuple[Submission, ...] = ()
    in_doubt: tuple[Submission, ...] = ()
    unsent: tuple[Submission, ...] = ()


def read_open(store: Store, platforms: Platforms, user: str, group: str | None) -> OpenSubmissions:
    """Return the open submissions as the journal has them. Nothing is connected to."""
    return _classified(Journal(store, platforms.context.clock).open_submissions(user=user, group=group), platforms)


def reconcile_open(store: Store, platforms: Platforms, user: str, group: str | None) -> OpenSubmissions:
    """Look up the submissions of interrupted commands, and return those that are open afterwards."""
    context = platforms.context
    left = reconcile(Journal(store, context.clock), platforms, context.reporter, user=user, group=group)
    return _classified(left, platforms)


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
            f"experiment group {group}: {jobs} may be running: the platform cannot be asked; {_what_to_do(group)}"
        )


def report_unreachable_jobs(
    groups: Iterable[GroupRecord], reporter: Reporter, *, stopped: Collection[int] = frozenset()
) -> None:
    """Do the same for the jobs of some groups; leave out those that were stopped nevertheless."""
    for group in groups:
        jobs = [job for experiment in group.experiments for job in experiment.jobs]
        report_unreachable(group.name, sum(1 for job in jobs if job.refresh_error and job.id not in stopped), reporter)


def _what_to_do(group: str) -> str:
    return f"try again, or give up what can never be asked again: caliban abandon --xgroup {shlex.quote(group)}"


def _classified(submissions: Iterable[Submission], platforms: Platforms) -> OpenSubmissions:
    clock = platforms.context.clock
    running: list[Submission] = []
    in_doubt: list[Submission] = []
    unsent: list[Submission] = []
    for submission in submissions:
        if in_progress(submission, clock):
            running.append(submission)
        else:
            (in_doubt if submission.may_have_been_sent else unsent).append(submission)
    return OpenSubmissions(tuple(running), tuple(in_doubt), tuple(unsent))
