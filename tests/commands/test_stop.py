"""``caliban stop`` on a fake platform; ``tests/e2e`` stops real containers."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from caliban.attempts import AdditionalAttempt, SubmissionState
from caliban.errors import CalibanError
from caliban.platforms.registry import Platforms
from caliban.records import JobDetails, JobRecord, JobStatus, JobUpdate, NewJob, Outcome
from caliban.store.database import Store
from caliban.store.journal import Journal
from caliban.submission.submit import Attempt, Submitter
from tests.builders import IMAGE, SHORT_IMAGE, add_group, elsewhere, latest_states, leave_open, submissions
from tests.calls import call
from tests.conftest import MakeContext, ScreenContext
from tests.fake_platform import end, polls
from tests.fake_service import FakeDestination, FakeService
from tests.fakes import RecordingReporter

FAILED, RUNNING, STOPPED = JobStatus.FAILED, JobStatus.RUNNING, JobStatus.STOPPED
SUCCEEDED = JobStatus.SUCCEEDED
STOP = ("stop", "--xgroup", "resubmit_test")


def test_unfinished_jobs_are_listed_confirmed_and_stopped(
    store: Store, service: FakeService, make_context: MakeContext
) -> None:
    add_group(store, RUNNING, FAILED, JobStatus.SUBMITTED)
    service.expect("statuses", polls(RUNNING=[1], SUBMITTED=[3]))
    service.expect("stop", end(STOPPED), end(STOPPED))
    context = make_context("y\n")
    assert call(context, *STOP) == 0
    assert context.out.splitlines()[:5] == [
        "the following jobs would be stopped:",
        "cpu.py --foo 3 --sleep 0",
        f"  job 1        RUNNING       TEST 2020-05-29 10:53:40 container: {SHORT_IMAGE} name: fake-1",
        "cpu.py --foo 3 --sleep 2",
        f"  job 3        SUBMITTED     TEST 2020-05-29 10:53:40 container: {SHORT_IMAGE} name: fake-3",
    ]
    assert "stop 2 jobs? [yN]" in context.err
    assert context.err.endswith("2 jobs: 2 stopped\n")
    assert latest_states(store) == ["STOPPED", "FAILED", "STOPPED"]


@pytest.mark.parametrize(("arguments", "code"), [((), 1), (("--dry_run",), 0)])
def test_without_confirmation_or_in_a_dry_run_nothing_is_stopped(
    arguments: tuple[str, ...], code: int, store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", polls(RUNNING=[1]))
    assert call(context, *STOP, *arguments) == code
    assert (service.arguments_of("stop"), latest_states(store)) == ([], ["RUNNING"])


def test_only_selected_jobs_are_asked_about_and_stopped(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, RUNNING, RUNNING)
    service.expect("statuses", polls(RUNNING=[2]))
    service.expect("stop", end(STOPPED))
    assert call(context, *STOP, "--yes", "--match", "sleep=1") == 0
    assert latest_states(store) == ["RUNNING", "STOPPED", "RUNNING"]


@pytest.mark.parametrize("flags", [("--state", "submitted"), ("--job", "1", "--match", "sleep=9")])
def test_where_no_job_matches_nothing_is_stopped(
    flags: tuple[str, ...], store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING)
    if "--match" not in flags:
        service.expect("statuses", polls(RUNNING=[1]))
    assert (call(context, *STOP, *flags), context.out) == (0, "no running or queued jobs match\n")
    assert latest_states(store) == ["RUNNING"]


def test_a_job_that_is_not_in_the_group_is_an_error(store: Store, context: ScreenContext) -> None:
    add_group(store, RUNNING)
    with pytest.raises(CalibanError) as caught:
        call(context, *STOP, "--job", "7")
    assert caught.value.id == "unknown-job"


def test_without_unfinished_jobs_there_is_no_question(store: Store, context: ScreenContext) -> None:
    add_group(store, FAILED, None)
    assert (call(context, *STOP), context.out, context.err) == (0, "no running or queued jobs\n", "")


def test_a_job_that_has_ended_meanwhile_is_not_stopped(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", polls(SUCCEEDED=[1]))
    assert (call(context, *STOP, "--yes"), context.out) == (0, "no running or queued jobs\n")


def test_the_state_that_the_platform_reports_is_recorded(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", polls(RUNNING=[1]))
    service.expect("stop", end(JobStatus.SUCCEEDED, ret_code=0))
    call(context, *STOP, "--yes")
    assert latest_states(store) == ["SUCCEEDED"]


def test_a_job_that_cannot_be_stopped_does_not_prevent_others(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", polls(RUNNING=[1, 2]))
    service.expect("stop", service.fail_to_connect, end(STOPPED))
    assert call(context, *STOP, "--yes") == 1
    assert "error: cannot reach the fake platform [fake-unreachable]" in context.err
    assert latest_states(store) == ["RUNNING", "STOPPED"]


def test_jobs_that_run_elsewhere_are_stopped_side_by_side(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, RUNNING)
    both_are_asked = threading.Barrier(2, timeout=60)

    def answer_when_both_are_asked(job: JobRecord) -> JobUpdate:
        both_are_asked.wait()
        return JobUpdate(STOPPED, None)

    remote.expect("statuses", polls(RUNNING=[1, 2]))
    remote.expect("stop", answer_when_both_are_asked, answer_when_both_are_asked)
    assert call(context, *STOP, "--yes") == 0
    assert context.out.index("job 1  ") < context.out.index("job 2  ")
    assert latest_states(store) == ["STOPPED", "STOPPED"]


def test_local_jobs_are_stopped_side_by_side(store: Store, killing: FakeService, context: ScreenContext) -> None:
    """Each may need its whole time to stop."""
    add_group(store, RUNNING, RUNNING)
    both_are_asked = threading.Barrier(2, timeout=60)

    def answer_when_both_are_asked(job: JobRecord) -> JobUpdate:
        both_are_asked.wait()
        return JobUpdate(STOPPED, None)

    killing.expect("statuses", polls(RUNNING=[1, 2]))
    killing.expect("stop", answer_when_both_are_asked, answer_when_both_are_asked)
    assert call(context, *STOP, "--yes") == 0
    assert context.out.index("job 1  ") < context.out.index("job 2  ")
    assert latest_states(store) == ["STOPPED", "STOPPED"]


def test_without_a_group_jobs_of_all_groups_are_stopped(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    for name in ("one", "two"):
        add_group(store, RUNNING, name=name)
    add_group(store, RUNNING, user="mei")
    service.expect("statuses", polls(RUNNING=[1, 2]))
    service.expect("stop", end(STOPPED), end(STOPPED))
    assert call(context, "stop", "--yes") == 0
    assert [latest_states(store, name=name) for name in ("one", "two")] == [["STOPPED"], ["STOPPED"]]


def test_a_misspelt_group_is_reported_with_a_suggestion(store: Store, context: ScreenContext) -> None:
    add_group(store, RUNNING)
    with pytest.raises(CalibanError) as caught:
        call(context, "stop", "--xgroup", "resubmit_tset")
    assert (caught.value.id, caught.value.hint) == ("unknown-xgroup", "did you mean resubmit_test?")


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


def test_a_job_whose_state_was_unknown_and_cannot_be_queried_may_run(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, JobStatus.UNKNOWN)
    service.expect("statuses", polls(unavailable=[1]))
    service.expect("stop", service.fail_to_connect)
    assert call(context, *STOP, "--yes") == 1


@pytest.mark.parametrize(("flag", "code"), [("--yes", 1), ("--dry_run", 0)])
def test_a_job_whose_platform_cannot_be_asked_has_the_way_to_give_it_up(
    store: Store, service: FakeService, context: ScreenContext, flag: str, code: int
) -> None:
    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", polls(unavailable=[1], RUNNING=[2]))
    if flag == "--yes":
        service.expect("stop", service.fail_to_connect, end(STOPPED))
    assert call(context, *STOP, flag) == code
    assert "1 job may be running: the platform cannot be asked; try again, or give up" in context.err
    assert "caliban abandon --xgroup resubmit_test\n" in context.err


def test_a_job_that_could_be_stopped_although_its_state_was_unknown_is_not_to_be_given_up(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", polls(unavailable=[1]))
    service.expect("stop", end(STOPPED))
    assert call(context, *STOP, "--yes") == 0
    assert "abandon" not in context.err


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), RecursionError(), SystemExit(0)], ids=lambda error: type(error).__name__
)
def test_a_stop_that_fails_in_an_unforeseen_way_does_not_prevent_others(
    error: BaseException, store: Store, service: FakeService, context: ScreenContext
) -> None:
    def fail(job: JobRecord) -> JobUpdate:
        raise error

    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", polls(RUNNING=[1, 2]))
    service.expect("stop", fail, end(STOPPED))
    assert call(context, *STOP, "--yes") == 1
    assert ("[internal-error]" in context.err, latest_states(store)) == (True, ["RUNNING", "STOPPED"])


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


def test_the_groups_of_other_users_are_not_stopped(
    store: Store, platforms: Platforms, service: FakeService, context: ScreenContext
) -> None:
    planned = attempts(store, 1)
    building = Submitter(store, platforms, RecordingReporter(), "totoro")
    add_group(store, FAILED, user="mei")
    call(replace(context, user="mei"), *STOP, "--yes")
    service.expect("submit", service.accept)
    assert errors(building.submit_all(planned)) == [None]


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


def test_a_job_that_had_ended_is_recorded_and_not_asked_to_stop(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", polls(RUNNING=[1], SUCCEEDED=[2]))
    service.expect("stop", end(STOPPED))
    assert (call(context, *STOP, "--yes"), latest_states(store)) == (0, ["STOPPED", "SUCCEEDED"])


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
