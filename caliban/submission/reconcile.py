"""Settle the submissions that interrupted commands left open in the journal."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType

from caliban.attempts import Submission, SubmissionState
from caliban.clock import Clock, local_text
from caliban.errors import CalibanError, StoreError, one_line
from caliban.platforms.registry import Platforms
from caliban.records import JobRecord, NewJob
from caliban.reporter import Reporter
from caliban.store.journal import Journal
from caliban.submission.boundary import expected, platform_errors
from caliban.submission.capture import capture_recorded
from caliban.submission.lease import ended_of, in_progress, seen_running

_ABOUT_ONE_ROW = frozenset({"store-malformed-value", "store-failed"})
"""Ids of errors of the store that concern what is written; the others concern every row."""

_UNSENT = "its process has ended before it was sent"
_NOT_FOUND = "its process has ended, and the platform has no job with its token"


def reconcile(
    journal: Journal, platforms: Platforms, reporter: Reporter, *, user: str, group: str | None
) -> list[Submission]:
    """Look up every submission whose process has ended by its token, and record the job or free the experiment.

    Args:
        journal: of the store.
        platforms: where they are looked up.
        reporter: gets one line for each.
        user: whose groups.
        group: the group's name; None for all of the user's groups.

    Returns:
        The submissions that are still open: in progress in another process, or on a platform that cannot be queried.
    """
    opened = journal.open_submissions(user=user, group=group)
    ended = ended_of(opened, journal, platforms.context.clock, reporter.info)
    ended_ids = {submission.id for submission in ended}
    still_open = [seen_running(submission) for submission in opened if submission.id not in ended_ids]
    still_open += _close_unsent(ended, journal, reporter)
    recorded: list[JobRecord] = []
    for submission in ended:
        if not submission.may_have_been_sent:
            continue
        try:
            with platform_errors(submission.platform, "look up a job"):
                job = expected(platforms.get(submission.platform).find(submission), NewJob, NoneType)
                line = _finish(journal, submission, job, recorded)
        except CalibanError as error:
            if error.id == "already-settled":  # another command looked the same row up, and was first
                continue
            if isinstance(error, StoreError) and error.id not in _ABOUT_ONE_ROW:
                raise
            reporter.warn(
                f"the outcome of submission {submission.name} ({submission.platform}) is still unknown: "
                f"{one_line(error)}"
            )
            still_open.append(submission)
        else:
            if line is None:
                still_open.append(seen_running(submission))
            else:
                reporter.info(line)
    capture_recorded(recorded, journal.store, platforms)
    return sorted(still_open, key=lambda submission: submission.id)


def _close_unsent(ended: Sequence[Submission], journal: Journal, reporter: Reporter) -> list[Submission]:
    """Abandon what interrupted commands never sent, without asking a platform; return what is in progress after all."""
    unsent = [each for each in ended if not each.may_have_been_sent]
    running: list[Submission] = []
    count = 0
    for batch in {each.batch.id: each.batch for each in unsent if each.batch}.values():
        closed = journal.close_unsent(batch, _UNSENT, interrupted=True)
        count += closed
        if not closed:
            now = [journal.read(each) for each in unsent if each.batch == batch]
            running += [seen_running(each) for each in now if each and each.state is SubmissionState.OPEN]
    if count:
        what = "1 submission" if count == 1 else f"{count} submissions"
        reporter.info(f"{what} of an interrupted command had not been sent")
    return running


def _finish(journal: Journal, submission: Submission, job: NewJob | None, recorded: list[JobRecord]) -> str | None:
    """Record the job, and add it to ``recorded``; or record that there is none.

    Returns:
        The line that reports it; None if there is no job and the process of the submission runs after all.
    """
    if job is not None:
        recorded.append(journal.settle(submission, job))
        return f"recorded job {recorded[-1].id} ({submission.name}), which an interrupted command had submitted"
    if not journal.abandon_interrupted(submission, _NOT_FOUND):
        return None
    return f"the interrupted submission {submission.name} did not reach {submission.platform}"


def describe_open(submissions: Sequence[Submission], clock: Clock) -> dict[int, str]:
    """Return why experiments with an OPEN submission are skipped, by ``experiments.id``.

    What an ended process never sent is left out: it does not prevent anything.
    """
    described = {submission.experiment_id: _describe(submission, clock) for submission in submissions}
    return {experiment_id: reason for experiment_id, reason in described.items() if reason}


def _describe(submission: Submission, clock: Clock) -> str | None:
    since, running = local_text(submission.created), in_progress(submission, clock)
    who = f"{submission.user} on {submission.host} (process {submission.pid})"
    if running is not False:
        unless = "" if running else ", unless that command was interrupted"
        return f"being submitted by {who} since {since}{unless}"
    if not submission.may_have_been_sent:
        return None
    return f"outcome unknown: its submission of {since} was interrupted and not looked up on {submission.platform} yet"
