"""What an interrupted command left open, looked up and finished by the next one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from caliban.platforms.registry import Platforms
from caliban.records import ExperimentRecord, JobStatus, NewJob, PlatformId, Submission, SubmissionState
from caliban.store.database import Store
from caliban.store.journal import Journal
from caliban.submission.reconcile import describe_open, may_be_in_progress, reconcile
from tests.builders import IMAGE, add_group, latest_states, leave_open, read_group, submissions
from tests.fakes import FakeService, HeardReporter

NOW = datetime.now()


@pytest.fixture
def experiment(store: Store) -> ExperimentRecord:
    return add_group(store, JobStatus.FAILED).experiments[0]


@pytest.fixture
def gone() -> int:
    """The id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def alive() -> Iterator[int]:
    """The id of another process, which lives as long as the test."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate()


def finish(store: Store, platforms: Platforms, heard: HeardReporter) -> list[Submission]:
    return reconcile(Journal(store), platforms, heard, user="totoro", group="resubmit_test")


def state(store: Store) -> SubmissionState:
    [submission] = submissions(store)
    return submission.state


def test_a_submission_whose_owner_lives_is_left_alone(
    store: Store,
    experiment: ExperimentRecord,
    alive: int,
    service: FakeService,
    platforms: Platforms,
    heard: HeardReporter,
) -> None:
    opened = leave_open(store, experiment, pid=alive)
    assert finish(store, platforms, heard) == [opened]
    assert (service.calls, state(store), heard.said) == ([], SubmissionState.OPEN, [])


def test_a_job_that_the_platform_has_is_recorded(
    store: Store,
    experiment: ExperimentRecord,
    gone: int,
    service: FakeService,
    platforms: Platforms,
    heard: HeardReporter,
) -> None:
    opened = leave_open(store, experiment, pid=gone)
    service.jobs[opened.token] = NewJob(IMAGE, JobStatus.RUNNING, {"name": opened.name})
    service.expect("find", service.look_up)
    assert finish(store, platforms, heard) == []
    assert (state(store), latest_states(store)) == (SubmissionState.DONE, ["RUNNING"])
    assert heard.said == [f"job 2 ({opened.name}) was started by an interrupted command; now recorded"]


def test_a_job_that_was_found_is_recorded_once(
    store: Store,
    experiment: ExperimentRecord,
    gone: int,
    service: FakeService,
    platforms: Platforms,
    heard: HeardReporter,
) -> None:
    opened = leave_open(store, experiment, pid=gone)
    service.jobs[opened.token] = NewJob(IMAGE, JobStatus.RUNNING)
    service.expect("find", service.look_up)
    finish(store, platforms, heard)
    assert finish(store, platforms, heard) == []
    [again] = read_group(store, all_jobs=True).experiments
    assert len(again.jobs) == 2


def test_a_job_that_the_platform_never_got_is_given_up(
    store: Store,
    experiment: ExperimentRecord,
    gone: int,
    service: FakeService,
    platforms: Platforms,
    heard: HeardReporter,
) -> None:
    opened = leave_open(store, experiment, pid=gone)
    service.expect("find", service.look_up)
    assert finish(store, platforms, heard) == []
    assert (state(store), latest_states(store)) == (SubmissionState.ABANDONED, ["FAILED"])
    assert heard.said == [f"the interrupted submission {opened.name} never reached TEST"]


def test_an_experiment_that_was_given_up_is_free_again(
    store: Store,
    experiment: ExperimentRecord,
    gone: int,
    service: FakeService,
    platforms: Platforms,
    heard: HeardReporter,
) -> None:
    leave_open(store, experiment, pid=gone)
    service.expect("find", service.look_up)
    finish(store, platforms, heard)
    assert leave_open(store, experiment, token="fedcba9876543210").state is SubmissionState.OPEN


def test_a_platform_out_of_reach_leaves_the_submission_open_and_is_told(
    store: Store,
    experiment: ExperimentRecord,
    gone: int,
    service: FakeService,
    platforms: Platforms,
    heard: HeardReporter,
) -> None:
    opened = leave_open(store, experiment, pid=gone)
    service.expect("find", service.be_unreachable)
    assert finish(store, platforms, heard) == [opened]
    assert state(store) is SubmissionState.OPEN
    assert heard.warned == [
        f"what became of the submission {opened.name} (TEST) is not known yet: the fake platform cannot be reached"
    ]


def test_a_platform_of_a_later_version_leaves_the_submission_open(
    store: Store,
    experiment: ExperimentRecord,
    gone: int,
    platforms: Platforms,
    heard: HeardReporter,
    unknown_platform: PlatformId,
) -> None:
    opened = leave_open(store, experiment, pid=gone, platform=unknown_platform)
    assert finish(store, platforms, heard) == [opened]


def test_one_platform_out_of_reach_does_not_keep_the_others_from_being_finished(
    store: Store, gone: int, service: FakeService, platforms: Platforms, heard: HeardReporter
) -> None:
    one, two = add_group(store, JobStatus.FAILED, JobStatus.FAILED).experiments
    first = leave_open(store, one, pid=gone, token="1" * 16)
    leave_open(store, two, pid=gone, token="2" * 16)
    service.expect("find", service.be_unreachable, service.look_up)
    assert finish(store, platforms, heard) == [first]
    assert [row.state for row in submissions(store)] == [SubmissionState.OPEN, SubmissionState.ABANDONED]


def test_what_this_very_process_left_open_is_finished(
    store: Store, experiment: ExperimentRecord, service: FakeService, platforms: Platforms, heard: HeardReporter
) -> None:
    leave_open(store, experiment, pid=os.getpid())
    service.expect("find", service.look_up)
    finish(store, platforms, heard)
    assert state(store) is SubmissionState.ABANDONED


def test_groups_of_others_are_left_alone(
    store: Store, gone: int, service: FakeService, platforms: Platforms, heard: HeardReporter
) -> None:
    [other] = add_group(store, JobStatus.FAILED, user="mei").experiments
    leave_open(store, other, pid=gone)
    assert finish(store, platforms, heard) == []
    assert (service.calls, state(store)) == ([], SubmissionState.OPEN)


def a_submission(**more: object) -> Submission:
    plain = Submission(
        id=1,
        token="0123456789abcdef",
        experiment_id=38,
        group="resubmit_test",
        job_spec_id=1,
        resubmits=None,
        platform="TEST",
        target={},
        name="fake",
        user="totoro",
        host=os.uname().nodename,
        pid=os.getpid(),
        created=NOW,
    )
    return replace(plain, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("age", "in_progress"), [(timedelta(minutes=59), True), (timedelta(minutes=61), False)])
def test_another_machine_is_given_an_hour(age: timedelta, in_progress: bool) -> None:
    assert may_be_in_progress(a_submission(host="elsewhere", created=NOW - age), NOW) is in_progress


def test_a_process_that_lives_may_be_at_work(alive: int) -> None:
    assert may_be_in_progress(a_submission(pid=alive, created=datetime.now()), datetime.now())


def test_a_process_that_is_gone_is_not_at_work(gone: int) -> None:
    assert not may_be_in_progress(a_submission(pid=gone), NOW)


def test_a_younger_process_with_the_same_id_is_not_the_owner(alive: int) -> None:
    assert not may_be_in_progress(a_submission(pid=alive, created=NOW - timedelta(days=1)), NOW)


def test_a_process_of_somebody_else_may_be_at_work(monkeypatch: pytest.MonkeyPatch, alive: int) -> None:
    def forbidden(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert may_be_in_progress(a_submission(pid=alive, created=datetime.now()), datetime.now())


def test_where_the_age_of_a_process_is_not_known_it_counts_as_the_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, which has no /proc."""
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    assert may_be_in_progress(a_submission(pid=2**22 + 1), NOW)


def test_an_open_submission_is_described_by_who_and_where() -> None:
    created = datetime(2020, 5, 29, 10, 53, 40)
    described = describe_open([a_submission(host="catbus", pid=4711, created=created)], created)
    assert described == {38: "being submitted by totoro on catbus (process 4711) since 2020-05-29 10:53:40"}


def test_an_interrupted_submission_is_described_as_in_doubt() -> None:
    created = datetime(2020, 5, 29, 10, 53, 40)
    described = describe_open([a_submission(host="catbus", pid=4711, created=created)], created + timedelta(days=1))
    assert described == {
        38: "in doubt: its submission of 2020-05-29 10:53:40 was interrupted, and TEST has yet to be asked for it"
    }
