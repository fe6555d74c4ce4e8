"""Settle the submissions that interrupted commands left open in the journal."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import NoneType

from caliban.errors import CalibanError, StoreError, one_line
from caliban.platforms.registry import Platforms
from caliban.records import NewJob, Submission
from caliban.reporter import Reporter
from caliban.store.journal import Journal
from caliban.submission.boundary import expected, platform_errors

OTHER_HOST_DELAY = timedelta(hours=1)
"""How old an OPEN row of another host must be before it is looked up: its process cannot be seen from here."""

_ABOUT_ONE_ROW = frozenset({"store-malformed-value", "store-failed"})
"""Ids of errors of the store that concern what is written; the others concern every row."""

_CLOCK_SLACK = timedelta(seconds=2)
_ENDED = frozenset("ZX")
"""State letters of processes that have ended and were not waited for yet."""


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
    still_open: list[Submission] = []
    for submission in journal.open_submissions(user=user, group=group):
        if may_be_in_progress(submission, datetime.now()):
            still_open.append(submission)
            continue
        try:
            with platform_errors(submission.platform, "look up a job"):
                job = expected(platforms.get(submission.platform).find(submission), NewJob, NoneType)
                reporter.info(_finish(journal, submission, job))
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
    return still_open


def _finish(journal: Journal, submission: Submission, job: NewJob | None) -> str:
    """Record the job, or that there is none, and return the line that reports it."""
    if job is None:
        journal.abandon(submission, "its process has ended, and the platform has no job with its token")
        return f"the interrupted submission {submission.name} did not reach {submission.platform}"
    recorded = journal.settle(submission, job)
    return f"recorded job {recorded.id} ({submission.name}), which an interrupted command had submitted"


def may_be_in_progress(submission: Submission, now: datetime) -> bool:
    """Return whether a running process may still be working on an OPEN submission."""
    if submission.host != socket.gethostname():
        return now - submission.created < OTHER_HOST_DELAY
    if submission.pid == os.getpid():
        return False
    try:
        os.kill(submission.pid, 0)
    except (ProcessLookupError, OverflowError, TypeError):  # the last two: the recorded value is not a process id
        return False
    except PermissionError:
        pass
    try:
        state, started = _state_and_start(submission.pid)
    except OSError:
        return True
    # process ids are reused: a process younger than the row did not write it
    return state not in _ENDED and started <= submission.created + _CLOCK_SLACK


def _state_and_start(pid: int) -> tuple[str, datetime]:
    """Return the state letter of a process, and its start as naive local time.

    The timestamps of the directory ``/proc/PID`` are those of the first access to it, not of the process.
    Source: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html (starttime, in clock ticks after boot) and
    https://man7.org/linux/man-pages/man5/proc_stat.5.html (btime).

    Raises:
        OSError: there is no such process, or no ``/proc``.
    """
    # the program's name, in parentheses, may hold any characters
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    lines = Path("/proc/stat").read_text("ascii").splitlines()
    boot = next(float(line.split()[1]) for line in lines if line.startswith("btime "))
    return fields[0], datetime.fromtimestamp(boot + int(fields[19]) / os.sysconf("SC_CLK_TCK"))


def describe_open(submissions: Sequence[Submission], now: datetime) -> dict[int, str]:
    """Return why experiments with an OPEN submission are skipped, by ``experiments.id``."""
    return {submission.experiment_id: _describe(submission, now) for submission in submissions}


def _describe(submission: Submission, now: datetime) -> str:
    since = f"{submission.created:%Y-%m-%d %H:%M:%S}"
    if may_be_in_progress(submission, now):
        return f"being submitted by {submission.user} on {submission.host} (process {submission.pid}) since {since}"
    return f"outcome unknown: its submission of {since} was interrupted and not looked up on {submission.platform} yet"
