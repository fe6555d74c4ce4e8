"""Finish what an interrupted command left open in the journal of a group."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from caliban.errors import CalibanError, StoreError
from caliban.platforms.base import Platforms
from caliban.records import NewJob, Submission
from caliban.reporter import Reporter
from caliban.store.journal import Journal

OTHER_HOST_PATIENCE = timedelta(hours=1)
"""How old an OPEN row of another host must be before it is taken over: nobody here can see whether its owner lives."""

_CLOCK_SLACK = timedelta(seconds=2)
_ENDED = frozenset("ZX")
"""Letters of processes that have ended, though nobody has asked after them yet."""


def reconcile(
    journal: Journal, platforms: Platforms, reporter: Reporter, *, user: str, group: str | None
) -> list[Submission]:
    """Look up every submission whose owner is gone by its token, and record the job or free the experiment.

    Args:
        journal: of the store.
        platforms: who is asked.
        reporter: is told what was found, a line each.
        user: whose groups.
        group: the group's name; None for all of the user's groups.

    Returns:
        The submissions that are still open: under way in another process, or on a platform that cannot be asked.
    """
    still_open: list[Submission] = []
    for submission in journal.open_submissions(user=user, group=group):
        if may_be_under_way(submission, datetime.now()):
            still_open.append(submission)
            continue
        try:
            job = platforms.get(submission.platform).find(submission)
        except CalibanError as error:
            reporter.warn(
                f"what became of the submission {submission.name} ({submission.platform}) is not known yet: "
                f"{error.message}"
            )
            still_open.append(submission)
            continue
        try:
            reporter.info(_finish(journal, submission, job))
        except StoreError as error:
            if error.id != "already-settled":  # several commands may find the same row, and one of them is first
                raise
    return still_open


def _finish(journal: Journal, submission: Submission, job: NewJob | None) -> str:
    """Record the job, or that there is none, and give the line that tells it."""
    if job is None:
        journal.abandon(submission, "its owner is gone, and the platform has no job with its token")
        return f"the interrupted submission {submission.name} never reached {submission.platform}"
    recorded = journal.settle(submission, job)
    return f"job {recorded.id} ({submission.name}) was started by an interrupted command; now recorded"


def may_be_under_way(submission: Submission, now: datetime) -> bool:
    """Whether a living process may still be at work on an OPEN submission."""
    if submission.host != socket.gethostname():
        return now - submission.created < OTHER_HOST_PATIENCE
    if submission.pid == os.getpid():
        return False
    try:
        os.kill(submission.pid, 0)
    except (ProcessLookupError, OverflowError, TypeError):  # the latter two: what was recorded is no process id
        return False
    except PermissionError:
        pass
    try:
        state, started = _state_and_start(submission.pid)
    except OSError:
        return True
    # process ids are used again: a process younger than the row is not its owner
    return state not in _ENDED and started <= submission.created + _CLOCK_SLACK


def _state_and_start(pid: int) -> tuple[str, datetime]:
    """The state letter of a process, and when it began, in naive local time.

    The times of the folder ``/proc/PID`` would not do: they are those of the first look at it.
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
    """Why an experiment with an OPEN submission is left alone, by ``experiments.id``."""
    return {submission.experiment_id: _describe(submission, now) for submission in submissions}


def _describe(submission: Submission, now: datetime) -> str:
    since = f"{submission.created:%Y-%m-%d %H:%M:%S}"
    if may_be_under_way(submission, now):
        return f"being submitted by {submission.user} on {submission.host} (process {submission.pid}) since {since}"
    return f"in doubt: its submission of {since} was interrupted, and {submission.platform} has yet to be asked for it"
