"""Whose an OPEN row is: taking it from a process that lives runs its job twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from caliban.platforms.base import Platforms
from caliban.records import JobStatus, NewJob, PlatformName, Submission, SubmissionState
from caliban.store.database import Store
from caliban.store.journal import Journal
from caliban.submission.reconcile import may_be_under_way, reconcile
from caliban.submission.setup import make_platforms
from tests.builders import IMAGE, add_group, leave_open, submissions
from tests.fakes import FakeService, HeardReporter


def owned_by(pid: int, created: datetime) -> Submission:
    return Submission(
        id=1,
        token="0123456789abcdef",
        experiment_id=38,
        group="resubmit_test",
        job_spec_id=1,
        resubmits=None,
        platform=PlatformName.TEST,
        target={},
        name="fake",
        user="totoro",
        host=socket.gethostname(),
        pid=pid,
        created=created,
    )


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """Another process, which nobody has asked the system about."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.communicate()


def test_an_owner_that_is_looked_at_for_the_first_time_long_after_it_wrote_its_row_still_has_it(
    other: subprocess.Popen[bytes],
) -> None:
    opened = owned_by(other.pid, datetime.now())
    time.sleep(3.2)  # more than the slack for clocks: /proc/PID itself is only as old as the first look at it

    assert may_be_under_way(opened, datetime.now())


def test_an_owner_that_was_killed_has_nothing_even_while_its_parent_does_not_know(
    other: subprocess.Popen[bytes],
) -> None:
    opened = owned_by(other.pid, datetime.now())
    other.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)

    assert not may_be_under_way(opened, datetime.now())


@pytest.fixture
def platforms(heard: HeardReporter, home: Path) -> Platforms:
    return make_platforms({}, home, heard)


def test_whoever_comes_second_to_an_interrupted_submission_leaves_it_to_the_first(
    store: Store, service: FakeService, platforms: Platforms, heard: HeardReporter
) -> None:
    opened = leave_open(store, add_group(store, JobStatus.FAILED).experiments[0])
    job = NewJob(IMAGE, JobStatus.RUNNING)

    def another_is_quicker(submission: Submission) -> NewJob:
        Journal(store).settle(opened, job)
        return job

    service.expect("find", another_is_quicker)
    still_open = reconcile(Journal(store), platforms, heard, user="totoro", group="resubmit_test")

    assert (still_open, heard.said, heard.warned) == ([], [], [])
    assert [row.state for row in submissions(store)] == [SubmissionState.DONE]
