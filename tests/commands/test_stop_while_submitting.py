"""``caliban stop`` while another command submits jobs, or was interrupted while it did."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest

from caliban.attempts import AdditionalAttempt, SubmissionState
from caliban.platforms.registry import Platforms
from caliban.records import JobDetails, JobRecord, JobStatus, JobUpdate, NewJob, Outcome
from caliban.store.database import Store
from caliban.store.journal import Journal
from caliban.submission.submit import Attempt, Submitter
from tests.builders import IMAGE, add_group, elsewhere, latest_states, leave_open, submissions
from tests.calls import call
from tests.conftest import MakeContext, ScreenContext
from tests.fake_platform import end, polls
from tests.fake_service import FakeDestination, FakeService
from tests.fakes import RecordingReporter

FAILED, RUNNING, STOPPED = JobStatus.FAILED, JobStatus.RUNNING, JobStatus.STOPPED
SUCCEEDED = JobStatus.SUCCEEDED


STOP = ("stop", "--xgroup", "resubmit_test")


@pytest.fixture
def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_job_of_an_interrupted_command_is_recorded_and_stopped(
    store: Store, ended_process: int, service: FakeService, context: ScreenContext
) -> None:
    [experiment] = add_group(store, None).experiments
    service.take({"image": IMAGE}, leave_open(store, experiment, pid=ended_process))
    service.expect("find", service.look_up)
    service.expect("statuses", polls(RUNNING=[1]))
    service.expect("stop", end(STOPPED))
    assert call(context, *STOP, "--yes") == 0
    assert (latest_states(store), context.err.endswith("1 job: 1 stopped\n")) == (["STOPPED"], True)


def test_a_job_of_an_interrupted_command_is_stopped_without_a_group_too(
    store: Store, ended_process: int, service: FakeService, context: ScreenContext
) -> None:
    [experiment] = add_group(store, None).experiments
    service.take({"image": IMAGE}, leave_open(store, experiment, pid=ended_process))
    service.expect("find", service.look_up)
    service.expect("statuses", polls(RUNNING=[1]))
    service.expect("stop", end(STOPPED))
    assert (call(context, "stop", "--yes"), latest_states(store)) == (0, ["STOPPED"])


def test_while_a_job_may_run_that_cannot_be_looked_up_nothing_is_done(
    store: Store, ended_process: int, service: FakeService, context: ScreenContext
) -> None:
    [experiment] = add_group(store, None).experiments
    leave_open(store, experiment, pid=ended_process)
    service.expect("find", service.fail_to_connect)
    assert (call(context, *STOP, "--yes"), context.out) == (1, "no running or queued jobs are known\n")
    assert "is still unknown: cannot reach the fake platform: no route" in context.err
    assert "caliban abandon --xgroup resubmit_test" in context.err


def test_other_jobs_are_stopped_while_one_cannot_be_looked_up(
    store: Store, ended_process: int, service: FakeService, context: ScreenContext
) -> None:
    leave_open(store, add_group(store, RUNNING, None).experiments[1], pid=ended_process)
    service.expect("find", service.fail_to_connect)
    service.expect("statuses", polls(RUNNING=[1]))
    service.expect("stop", end(STOPPED))
    assert (call(context, *STOP, "--yes"), latest_states(store)) == (1, ["STOPPED", "-"])


def test_a_dry_run_settles_nothing(
    store: Store, ended_process: int, service: FakeService, context: ScreenContext
) -> None:
    [experiment] = add_group(store, None).experiments
    leave_open(store, experiment, pid=ended_process)
    call(context, *STOP, "--dry_run")
    assert (service.calls, submissions(store)[0].state) == ([], SubmissionState.OPEN)


def test_a_job_that_another_command_submits_meanwhile_is_stopped_too(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    """Its request was under way when the user asked; the other command records it, and the wait for it ends."""
    experiment = add_group(store, RUNNING, None).experiments[1]
    opened = leave_open(store, experiment, host="catbus", pid=4711, renewed=context.clock.utc_now())

    def stop_first(job: JobRecord) -> JobUpdate:
        Journal(store).settle(opened, NewJob(IMAGE, RUNNING, JobDetails({"name": "fake-2"})))
        return JobUpdate(STOPPED)

    service.expect("statuses", polls(RUNNING=[1]))
    service.expect("stop", stop_first, end(STOPPED))
    assert (call(context, *STOP, "--yes"), latest_states(store)) == (0, ["STOPPED", "STOPPED"])


def test_a_submission_that_stays_in_progress_is_reported(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    [experiment] = add_group(store, None).experiments
    leave_open(store, experiment, host="catbus", pid=4711, renewed=context.clock.utc_now())
    assert call(context, *STOP, "--yes") == 1
    assert "being submitted by totoro on catbus (process 4711): run this command again" in context.err


def attempts(store: Store, number: int) -> list[Attempt]:
    """Return an attempt for each of so many experiments."""
    group = add_group(store, *[None] * number)
    spec = {"image": IMAGE, "arguments": []}
    return [
        Attempt(experiment, "TEST", spec, IMAGE, FakeDestination(), AdditionalAttempt())
        for experiment in group.experiments
    ]


def errors(outcomes: Sequence[Outcome]) -> list[str | None]:
    return [outcome.error.id if outcome.error else None for outcome in outcomes]


def test_an_open_run_begins_nothing_more(
    store: Store,
    platforms: Platforms,
    foreground: FakeService,
    context: ScreenContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes = []
    monkeypatch.setattr("caliban.submission.lease.this_process", elsewhere)  # the test is two commands

    def follow(job: JobRecord) -> JobUpdate:
        codes.append(call(context, *STOP, "--yes"))
        return JobUpdate(SUCCEEDED)

    foreground.expect("submit", foreground.accept)
    foreground.expect("follow", follow)
    foreground.expect("statuses", polls(SUBMITTED=[1]))
    foreground.expect("stop", end(STOPPED))
    outcomes = Submitter(store, platforms, RecordingReporter(), "totoro").submit_all(attempts(store, 3))
    assert (codes, latest_states(store)) == ([0], ["STOPPED", "-", "-"])
    assert errors(outcomes) == [None, "stopped", "stopped"]
    assert str(outcomes[1].error).startswith("not submitted: stopped by totoro on ")
    assert "2 queued jobs cancelled before submission" in context.err


def test_an_open_run_goes_on_when_only_selected_jobs_are_stopped(
    store: Store,
    platforms: Platforms,
    foreground: FakeService,
    context: ScreenContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("caliban.submission.lease.this_process", elsewhere)  # the test is two commands
    codes = []

    def follow(job: JobRecord) -> JobUpdate:
        codes.append(call(context, *STOP, "--yes", "--job", "1"))
        return JobUpdate(SUCCEEDED)

    foreground.expect("submit", *[foreground.accept] * 2)
    foreground.expect("follow", follow, end(SUCCEEDED))
    foreground.expect("statuses", polls(SUBMITTED=[1]))
    foreground.expect("stop", end(STOPPED))
    Submitter(store, platforms, RecordingReporter(), "totoro").submit_all(attempts(store, 2))
    assert (codes, latest_states(store)) == ([0], ["STOPPED", "SUCCEEDED"])


def test_after_a_stop_the_next_command_submits_again(
    store: Store, platforms: Platforms, service: FakeService, context: ScreenContext
) -> None:
    planned = attempts(store, 1)
    call(context, *STOP, "--yes")
    service.expect("submit", service.accept)
    assert errors(Submitter(store, platforms, RecordingReporter(), "totoro").submit_all(planned)) == [None]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (STOP, ["stopped", "stopped"]),
        (("stop",), ["stopped", "stopped"]),
        (("stop", "--xgroup", "other"), [None, None]),
        ((*STOP, "--dry_run"), [None, None]),
    ],
)
def test_a_command_that_still_builds_its_image_submits_nothing_of_a_stopped_group(
    words: Sequence[str],
    expected: list[str | None],
    store: Store,
    platforms: Platforms,
    service: FakeService,
    context: ScreenContext,
) -> None:
    add_group(store, FAILED, name="other")
    planned = attempts(store, 2)
    building = Submitter(store, platforms, RecordingReporter(), "totoro", parallel=1)
    assert (call(context, *words), context.out.splitlines()[0]) == (0, "no running or queued jobs")
    service.expect("submit", *[service.accept] * expected.count(None))
    assert errors(building.submit_all(planned)) == expected


def test_a_job_that_was_submitted_while_the_user_was_asked_is_stopped_too(
    store: Store, service: FakeService, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = add_group(store, RUNNING, SUCCEEDED, None).experiments[2]
    context = make_context()

    def agree(question: str, what: str) -> bool:
        opened = leave_open(store, experiment, host="catbus", pid=4711)
        Journal(store).settle(opened, NewJob(IMAGE, RUNNING, JobDetails({"name": "fake-3"})))
        return True

    monkeypatch.setattr(context.console, "agreed", agree)
    service.expect("statuses", polls(RUNNING=[1]))
    service.expect("stop", end(STOPPED), end(STOPPED))
    assert (call(context, *STOP), latest_states(store)) == (0, ["STOPPED", "SUCCEEDED", "STOPPED"])


def test_a_job_that_was_submitted_while_states_were_refreshed_is_stopped_too(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    experiment = add_group(store, RUNNING, None).experiments[1]

    def submit_meanwhile(jobs: Sequence[JobRecord]) -> dict[int, JobUpdate]:
        opened = leave_open(store, experiment, host="catbus", pid=4711)
        Journal(store).settle(opened, NewJob(IMAGE, RUNNING, JobDetails({"name": "fake-2"})))
        return {1: JobUpdate(SUCCEEDED)}

    service.expect("statuses", submit_meanwhile)
    service.expect("stop", end(STOPPED))
    assert (call(context, *STOP, "--yes"), latest_states(store)) == (0, ["SUCCEEDED", "STOPPED"])


def test_the_groups_of_other_users_are_not_stopped(
    store: Store, platforms: Platforms, service: FakeService, context: ScreenContext
) -> None:
    planned = attempts(store, 1)
    building = Submitter(store, platforms, RecordingReporter(), "totoro")
    add_group(store, FAILED, user="mei")
    call(replace(context, user="mei"), *STOP, "--yes")
    service.expect("submit", service.accept)
    assert errors(building.submit_all(planned)) == [None]
