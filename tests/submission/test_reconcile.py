"""Open submissions of an interrupted command are looked up and settled by the next command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from caliban.platforms.registry import Platforms
from caliban.records import ExperimentRecord, JobDetails, JobStatus, NewJob, PlatformId, Submission, SubmissionState
from caliban.store.database import Store
from caliban.store.journal import Journal
from caliban.submission.reconcile import describe_open, may_be_in_progress, reconcile
from tests.builders import IMAGE, a_submission, add_group, latest_states, leave_open, read_group, submissions
from tests.fakes import FakeService, RecordingReporter

NOW = datetime.now()


@pytest.fixture
def experiment(store: Store) -> ExperimentRecord:
    return add_group(store, JobStatus.FAILED).experiments[0]


@pytest.fixture
def ended_process() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def running_process() -> Iterator[int]:
    """The id of another process, which runs as long as the test."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate()


def settle(store: Store, platforms: Platforms, reporter: RecordingReporter) -> list[Submission]:
    return reconcile(Journal(store), platforms, reporter, user="totoro", group="resubmit_test")


def state(store: Store) -> SubmissionState:
    [submission] = submissions(store)
    return submission.state


def test_a_submission_of_a_running_process_is_not_looked_up(
    store: Store,
    experiment: ExperimentRecord,
    running_process: int,
    service: FakeService,
    platforms: Platforms,
    reporter: RecordingReporter,
) -> None:
    opened = leave_open(store, experiment, pid=running_process)
    assert settle(store, platforms, reporter) == [opened]
    assert (service.calls, state(store), reporter.lines) == ([], SubmissionState.OPEN, [])


def test_a_job_that_the_platform_has_is_recorded(
    store: Store,
    experiment: ExperimentRecord,
    ended_process: int,
    service: FakeService,
    platforms: Platforms,
    reporter: RecordingReporter,
) -> None:
    opened = leave_open(store, experiment, pid=ended_process)
    service.jobs[opened.token] = NewJob(IMAGE, JobStatus.RUNNING, JobDetails({"name": opened.name}))
    service.expect("find", service.look_up)
    assert settle(store, platforms, reporter) == []
    assert (state(store), latest_states(store)) == (SubmissionState.DONE, ["RUNNING"])
    assert reporter.lines == [f"recorded job 2 ({opened.name}), which an interrupted command had submitted"]


def test_a_job_that_was_found_is_recorded_once(
    store: Store,
    experiment: ExperimentRecord,
    ended_process: int,
    service: FakeService,
    platforms: Platforms,
    reporter: RecordingReporter,
) -> None:
    opened = leave_open(store, experiment, pid=ended_process)
    service.jobs[opened.token] = NewJob(IMAGE, JobStatus.RUNNING)
    service.expect("find", service.look_up)
    settle(store, platforms, reporter)
    assert settle(store, platforms, reporter) == []
    [again] = read_group(store, all_jobs=True).experiments
    assert len(again.jobs) == 2


def test_a_submission_that_did_not_reach_the_platform_is_abandoned(
    store: Store,
    experiment: ExperimentRecord,
    ended_process: int,
    service: FakeService,
    platforms: Platforms,
    reporter: RecordingReporter,
) -> None:
    opened = leave_open(store, experiment, pid=ended_process)
    service.expect("find", service.look_up)
    assert settle(store, platforms, reporter) == []
    assert (state(store), latest_states(store)) == (SubmissionState.ABANDONED, ["FAILED"])
    assert reporter.lines == [f"the interrupted submission {opened.name} did not reach TEST"]


def test_the_experiment_of_an_abandoned_submission_can_be_submitted_again(
    store: Store,
    experiment: ExperimentRecord,
    ended_process: int,
    service: FakeService,
    platforms: Platforms,
    reporter: RecordingReporter,
) -> None:
    leave_open(store, experiment, pid=ended_process)
    service.expect("find", service.look_up)
    settle(store, platforms, reporter)
    assert leave_open(store, experiment, token="fedcba9876543210").state is SubmissionState.OPEN


def test_a_submission_to_an_unreachable_platform_stays_open_with_a_warning(
    store: Store,
    experiment: ExperimentRecord,
    ended_process: int,
    service: FakeService,
    platforms: Platforms,
    reporter: RecordingReporter,
) -> None:
    opened = leave_open(store, experiment, pid=ended_process)
    service.expect("find", service.fail_to_connect)
    assert settle(store, platforms, reporter) == [opened]
    assert state(store) is SubmissionState.OPEN
    assert reporter.warnings == [
        f"the outcome of submission {opened.name} (TEST) is still unknown: cannot reach the fake platform: no route"
    ]


def test_a_submission_to_an_unknown_platform_stays_open(
    store: Store,
    experiment: ExperimentRecord,
    ended_process: int,
    platforms: Platforms,
    reporter: RecordingReporter,
    unknown_platform: PlatformId,
) -> None:
    opened = leave_open(store, experiment, pid=ended_process, platform=unknown_platform)
    assert settle(store, platforms, reporter) == [opened]


def test_a_failed_lookup_does_not_prevent_others(
    store: Store, ended_process: int, service: FakeService, platforms: Platforms, reporter: RecordingReporter
) -> None:
    one, two = add_group(store, JobStatus.FAILED, JobStatus.FAILED).experiments
    first = leave_open(store, one, pid=ended_process, token="1" * 16)
    leave_open(store, two, pid=ended_process, token="2" * 16)
    service.expect("find", service.fail_to_connect, service.look_up)
    assert settle(store, platforms, reporter) == [first]
    assert [row.state for row in submissions(store)] == [SubmissionState.OPEN, SubmissionState.ABANDONED]


def test_open_submissions_of_this_process_are_looked_up(
    store: Store, experiment: ExperimentRecord, service: FakeService, platforms: Platforms, reporter: RecordingReporter
) -> None:
    leave_open(store, experiment, pid=os.getpid())
    service.expect("find", service.look_up)
    settle(store, platforms, reporter)
    assert state(store) is SubmissionState.ABANDONED


def test_groups_of_other_users_are_not_touched(
    store: Store, ended_process: int, service: FakeService, platforms: Platforms, reporter: RecordingReporter
) -> None:
    [other] = add_group(store, JobStatus.FAILED, user="mei").experiments
    leave_open(store, other, pid=ended_process)
    assert settle(store, platforms, reporter) == []
    assert (service.calls, state(store)) == ([], SubmissionState.OPEN)


@pytest.mark.parametrize(("age", "in_progress"), [(timedelta(minutes=59), True), (timedelta(minutes=61), False)])
def test_a_submission_of_another_host_is_looked_up_after_an_hour(age: timedelta, in_progress: bool) -> None:
    assert may_be_in_progress(a_submission(host="elsewhere", created=NOW - age), NOW) is in_progress


def test_a_running_process_may_be_submitting(running_process: int) -> None:
    assert may_be_in_progress(a_submission(pid=running_process, created=datetime.now()), datetime.now())


def test_a_process_that_has_ended_is_not_submitting(ended_process: int) -> None:
    assert not may_be_in_progress(a_submission(pid=ended_process), NOW)


def test_a_younger_process_with_the_same_id_is_another_one(running_process: int) -> None:
    assert not may_be_in_progress(a_submission(pid=running_process, created=NOW - timedelta(days=1)), NOW)


def test_a_process_of_another_user_may_be_submitting(monkeypatch: pytest.MonkeyPatch, running_process: int) -> None:
    def forbidden(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert may_be_in_progress(a_submission(pid=running_process, created=datetime.now()), datetime.now())


def test_a_process_of_unknown_age_may_be_submitting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, which has no /proc."""
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    assert may_be_in_progress(a_submission(pid=2**22 + 1), NOW)


def test_an_open_submission_is_described_by_user_host_and_process() -> None:
    created = datetime(2020, 5, 29, 10, 53, 40)
    described = describe_open([a_submission(host="catbus", pid=4711, created=created)], created)
    assert described == {38: "being submitted by totoro on catbus (process 4711) since 2020-05-29 10:53:40"}


def test_an_interrupted_submission_is_described_with_an_unknown_outcome() -> None:
    created = datetime(2020, 5, 29, 10, 53, 40)
    described = describe_open([a_submission(host="catbus", pid=4711, created=created)], created + timedelta(days=1))
    assert described == {
        38: "outcome unknown: its submission of 2020-05-29 10:53:40 was interrupted and not looked up on TEST yet"
    }


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), RecursionError(), SystemExit(1)], ids=lambda error: type(error).__name__
)
def test_a_lookup_that_fails_in_an_unforeseen_way_does_not_prevent_others(
    error: BaseException,
    store: Store,
    ended_process: int,
    service: FakeService,
    platforms: Platforms,
    reporter: RecordingReporter,
) -> None:
    def fail(submission: Submission) -> NewJob | None:
        raise error

    one, two = add_group(store, JobStatus.FAILED, JobStatus.FAILED).experiments
    first = leave_open(store, one, pid=ended_process, token="1" * 16)
    leave_open(store, two, pid=ended_process, token="2" * 16)
    service.expect("find", fail, service.look_up)
    assert settle(store, platforms, reporter) == [first]
    assert [row.state for row in submissions(store)] == [SubmissionState.OPEN, SubmissionState.ABANDONED]
    assert "the platform TEST failed to look up a job: " + type(error).__name__ in reporter.warnings[0]


@pytest.mark.parametrize("details", [{"name": b"bytes"}, {"name": {1, 2}}])
def test_a_job_that_cannot_be_recorded_does_not_prevent_others(
    details: dict[str, object],
    store: Store,
    ended_process: int,
    service: FakeService,
    platforms: Platforms,
    reporter: RecordingReporter,
) -> None:
    one, two = add_group(store, JobStatus.FAILED, JobStatus.FAILED).experiments
    first = leave_open(store, one, pid=ended_process, token="1" * 16)
    leave_open(store, two, pid=ended_process, token="2" * 16)
    service.expect("find", lambda submission: NewJob(IMAGE, JobStatus.RUNNING, JobDetails(details)), service.look_up)
    assert settle(store, platforms, reporter) == [first]
