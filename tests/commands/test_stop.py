"""``caliban stop`` on a fake platform; ``tests/e2e`` stops real containers."""

from __future__ import annotations

import threading

import pytest

from caliban.errors import CalibanError
from caliban.records import JobRecord, JobStatus, JobUpdate
from caliban.store.database import Store
from tests.builders import SHORT_IMAGE, add_group, latest_states
from tests.calls import call
from tests.conftest import MakeContext, ScreenContext
from tests.fake_platform import end, polls
from tests.fake_service import FakeService

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


def test_a_job_that_had_ended_is_recorded_and_not_asked_to_stop(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", polls(RUNNING=[1], SUCCEEDED=[2]))
    service.expect("stop", end(STOPPED))
    assert (call(context, *STOP, "--yes"), latest_states(store)) == (0, ["STOPPED", "SUCCEEDED"])
