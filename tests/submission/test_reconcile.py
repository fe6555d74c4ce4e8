"""Open submissions of an interrupted command are looked up and settled by the next command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from caliban.attempts import Submission, SubmissionState
from caliban.clock import SystemClock, local_text
from caliban.platforms.registry import Platforms
from caliban.records import ExperimentRecord, JobDetails, JobStatus, NewJob, OutputError, PlatformId
from caliban.store.database import Store
from caliban.store.job_logs import output_errors
from caliban.store.journal import Journal
from caliban.submission.reconcile import describe_open, reconcile
from tests.builders import IMAGE, add_group, elsewhere, latest_states, leave_open, read_group, submissions
from tests.fake_platform import writes
from tests.fake_service import FakeService
from tests.fakes import FakeClock, RecordingReporter

LONG_AGO = datetime(2020, 5, 29, tzinfo=timezone.utc)


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


@pytest.fixture
def platforms(platforms: Platforms, clock: FakeClock) -> Platforms:
    """Platforms of a command that nobody waits for."""
    return Platforms(replace(platforms.context, clock=clock))


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


def test_the_output_of_a_found_job_that_has_ended_is_recorded(
    store: Store,
    experiment: ExperimentRecord,
    ended_process: int,
    with_output: FakeService,
    platforms: Platforms,
    reporter: RecordingReporter,
) -> None:
    opened = leave_open(store, experiment, pid=ended_process)
    with_output.jobs[opened.token] = NewJob(IMAGE, JobStatus.FAILED, JobDetails({"name": opened.name}))
    with_output.expect("find", with_output.look_up)
    with_output.expect("logs", writes(b"ValueError: bad\n"))
    settle(store, platforms, reporter)
    with store.reading() as session:
        assert output_errors(session, [2]) == {2: OutputError("ValueError", "bad")}


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


def test_a_submission_that_was_never_sent_is_freed_without_a_lookup(
    store: Store,
    experiment: ExperimentRecord,
    ended_process: int,
    service: FakeService,
    platforms: Platforms,
    reporter: RecordingReporter,
) -> None:
    leave_open(store, experiment, pid=ended_process, sent=False)
    assert settle(store, platforms, reporter) == []
    assert (service.calls, state(store)) == ([], SubmissionState.ABANDONED)
    assert reporter.lines == ["1 submission of an interrupted command had not been sent"]


def test_a_submission_whose_process_wakes_up_during_the_lookup_is_left_to_it(
    store: Store, experiment: ExperimentRecord, service: FakeService, platforms: Platforms, reporter: RecordingReporter
) -> None:
    opened = leave_open(store, experiment, by=elsewhere(), renewed=LONG_AGO)

    def wake(submission: Submission) -> None:
        assert opened.batch is not None
        Journal(store, owner=elsewhere()).renew(opened.batch.id)

    service.expect("find", wake)
    assert settle(store, platforms, reporter) == [opened]
    assert state(store) is SubmissionState.OPEN


def test_a_submission_that_is_sent_during_the_lookup_is_left_to_its_process(
    store: Store, experiment: ExperimentRecord, service: FakeService, platforms: Platforms, reporter: RecordingReporter
) -> None:
    opened = leave_open(store, experiment, by=elsewhere(), renewed=LONG_AGO)
    service.expect("find", lambda submission: Journal(store, owner=elsewhere()).mark_sent(opened) and None)
    assert settle(store, platforms, reporter) == [opened]


def test_a_submission_that_was_found_ended_can_no_longer_be_sent(
    store: Store, experiment: ExperimentRecord, service: FakeService, platforms: Platforms, reporter: RecordingReporter
) -> None:
    opened = leave_open(store, experiment, by=elsewhere(), renewed=LONG_AGO)
    service.expect("find", service.look_up)
    settle(store, platforms, reporter)
    assert not Journal(store, owner=elsewhere()).mark_sent(opened)


def test_an_open_submission_is_described_by_user_host_and_process(store: Store, experiment: ExperimentRecord) -> None:
    opened = leave_open(store, experiment, host="catbus", pid=4711)
    described = describe_open([opened], SystemClock())
    since = local_text(opened.created)
    assert described == {experiment.id: f"being submitted by totoro on catbus (process 4711) since {since}"}


def test_an_interrupted_submission_is_described_with_an_unknown_outcome(
    store: Store, experiment: ExperimentRecord, ended_process: int
) -> None:
    opened = leave_open(store, experiment, pid=ended_process)
    since = local_text(opened.created)
    assert describe_open([opened], SystemClock()) == {
        experiment.id: f"outcome unknown: its submission of {since} was interrupted and not looked up on TEST yet"
    }


def test_an_interrupted_submission_that_was_never_sent_prevents_nothing(
    store: Store, experiment: ExperimentRecord, ended_process: int
) -> None:
    assert describe_open([leave_open(store, experiment, pid=ended_process, sent=False)], SystemClock()) == {}


def test_times_are_shown_in_the_local_time_zone_which_is_named(
    store: Store, experiment: ExperimentRecord, time_zone: Callable[[str], None]
) -> None:
    renewed = datetime(2026, 11, 27, 1, 25, 0, tzinfo=timezone.utc)
    opened = leave_open(store, experiment, by=elsewhere(), renewed=renewed)
    time_zone("Asia/Tokyo")
    [line] = describe_open([opened], SystemClock()).values()
    assert "since 2026-11-27 10:25:00 JST" in line


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
