"""An OPEN submission belongs to its process while that runs: settling it earlier would run its job twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from caliban.attempts import Batch, Owner, Submission, SubmissionState
from caliban.clock import SystemClock
from caliban.platforms.registry import Platforms
from caliban.records import JobStatus, NewJob
from caliban.store.database import Store
from caliban.store.journal import Journal
from caliban.submission.lease import in_progress
from caliban.submission.reconcile import reconcile
from tests.builders import IMAGE, a_submission, add_group, leave_open, owner, submissions
from tests.fake_service import FakeService
from tests.fakes import RecordingReporter


def owned_by(process: Owner) -> Submission:
    return a_submission(pid=process.pid, batch=Batch(1, process, 0, 10**6))


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """Another process, whose directory in /proc was not accessed yet."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.communicate()


def test_a_submission_belongs_to_its_process_also_when_first_checked_much_later(other: subprocess.Popen[bytes]) -> None:
    assert in_progress(owned_by(owner(other.pid)), SystemClock()) is True


def test_a_killed_process_that_was_not_reaped_owns_nothing(other: subprocess.Popen[bytes]) -> None:
    opened = owned_by(owner(other.pid))
    other.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)

    assert in_progress(opened, SystemClock()) is False


def test_a_submission_settled_by_another_command_meanwhile_is_left_alone(
    store: Store, service: FakeService, platforms: Platforms, reporter: RecordingReporter
) -> None:
    opened = leave_open(store, add_group(store, JobStatus.FAILED).experiments[0])
    job = NewJob(IMAGE, JobStatus.RUNNING)

    def settle_first(submission: Submission) -> NewJob:
        Journal(store).settle(opened, job)
        return job

    service.expect("find", settle_first)
    still_open = reconcile(Journal(store), platforms, reporter, user="totoro", group="resubmit_test")

    assert (still_open, reporter.lines, reporter.warnings) == ([], [], [])
    assert [row.state for row in submissions(store)] == [SubmissionState.DONE]
