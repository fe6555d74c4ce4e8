"""Open submissions: those that another command is working on, and those whose outcome is unknown."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from caliban.platforms.registry import Platforms
from caliban.records import Submission
from caliban.reporter import Reporter
from caliban.store.database import Store
from caliban.store.journal import Journal
from caliban.submission.reconcile import may_be_in_progress, reconcile


@dataclass(frozen=True)
class OpenSubmissions:
    """The open submissions of a group, or of all groups of a user.

    Attributes:
        in_progress: another command is working on them.
        in_doubt: their command was interrupted; whether the platform has their jobs is unknown.
    """

    in_progress: tuple[Submission, ...] = ()
    in_doubt: tuple[Submission, ...] = ()


def read_open(store: Store, platforms: Platforms, user: str, group: str | None) -> OpenSubmissions:
    """Return the open submissions as the journal has them. Nothing is connected to."""
    return _classified(Journal(store).open_submissions(user=user, group=group), platforms)


def reconcile_open(store: Store, platforms: Platforms, user: str, group: str | None) -> OpenSubmissions:
    """Look up the submissions of interrupted commands, and return those that are open afterwards."""
    left = reconcile(Journal(store), platforms, platforms.context.reporter, user=user, group=group)
    return _classified(left, platforms)


def report_doubt(submissions: Sequence[Submission], reporter: Reporter) -> None:
    """Report how to give up submissions that cannot be looked up; why they cannot was reported before."""
    for group in dict.fromkeys(submission.group for submission in submissions):
        number = sum(submission.group == group for submission in submissions)
        jobs = "1 job of it was" if number == 1 else f"{number} jobs of it were"
        reporter.warn(
            f"experiment group {group}: {jobs} perhaps submitted, and may be running; to look again, repeat this "
            f"command; if the platform can never be asked again, run: {abandon_command(group)}"
        )


def abandon_command(group: str) -> str:
    """Return the command that gives up what cannot be looked up."""
    return f"caliban abandon --xgroup {shlex.quote(group)}"


def _classified(submissions: Iterable[Submission], platforms: Platforms) -> OpenSubmissions:
    now = platforms.context.clock.now()
    in_progress, in_doubt = [], []
    for submission in submissions:
        (in_progress if may_be_in_progress(submission, now) else in_doubt).append(submission)
    return OpenSubmissions(tuple(in_progress), tuple(in_doubt))
