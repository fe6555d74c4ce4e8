"""``caliban stop`` on a fake platform; ``tests/e2e`` stops real containers."""

from __future__ import annotations

import pytest

from caliban.errors import CalibanError
from caliban.records import JobStatus
from caliban.store.database import Store
from tests.builders import IMAGE, add_group, latest_states
from tests.calls import call
from tests.conftest import MakeContext, ScreenContext
from tests.fakes import FakeService, end, polls

FAILED, RUNNING, STOPPED = JobStatus.FAILED, JobStatus.RUNNING, JobStatus.STOPPED
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
        f"  job 1        RUNNING       TEST 2020-05-29 10:53:40 container: {IMAGE} name: fake-1",
        "cpu.py --foo 3 --sleep 2",
        f"  job 3        SUBMITTED     TEST 2020-05-29 10:53:40 container: {IMAGE} name: fake-3",
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
