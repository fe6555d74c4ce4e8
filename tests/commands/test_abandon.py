"""``caliban abandon`` closes what no platform can answer for, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from caliban.attempts import Submission, SubmissionState
from caliban.errors import CalibanError, UsageError
from caliban.records import JobStatus
from caliban.store.database import Store
from tests.builders import IMAGE, add_group, latest_states, leave_open, read_group, submissions
from tests.calls import call
from tests.conftest import MakeContext, ScreenContext
from tests.fake_platform import polls
from tests.fake_service import FakeService

FAILED, RUNNING = JobStatus.FAILED, JobStatus.RUNNING
ABANDON = ("abandon", "--xgroup", "resubmit_test")


@pytest.fixture
def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def lost(store: Store, ended_process: int, service: FakeService) -> list[Submission]:
    """Two interrupted submissions to a platform that cannot be reached."""
    one, two = add_group(store, FAILED, FAILED).experiments
    service.expect("find", service.fail_to_connect, service.fail_to_connect)
    return [
        leave_open(store, one, pid=ended_process, token="1" * 16),
        leave_open(store, two, pid=ended_process, token="2" * 16),
    ]


def states(store: Store) -> list[str]:
    return [row.state.value for row in submissions(store)]


def test_submissions_that_cannot_be_looked_up_are_listed_confirmed_and_closed(
    lost: list[Submission], store: Store, make_context: MakeContext
) -> None:
    context = make_context("y\n")
    assert call(context, *ABANDON) == 0
    assert "is still unknown: cannot reach the fake platform: no route" in context.err
    assert "give up 2 jobs, even if still running? [yN]" in context.err
    assert f"{lost[0].name} (TEST), submitted by totoro on {lost[0].host}" in context.out
    assert context.err.endswith("2 jobs given up; to submit again, run: caliban resubmit --xgroup resubmit_test\n")
    assert states(store) == ["ABANDONED", "ABANDONED"]
    assert submissions(store)[0].error == "given up by totoro; may still be running"


@pytest.mark.parametrize("typed", ["n\n", ""])
def test_without_confirmation_nothing_is_closed(
    typed: str, lost: list[Submission], store: Store, make_context: MakeContext
) -> None:
    assert (call(make_context(typed), *ABANDON), states(store)) == (1, ["OPEN", "OPEN"])


def test_one_submission_can_be_given_up(lost: list[Submission], store: Store, context: ScreenContext) -> None:
    assert call(context, *ABANDON, "--yes", "--submission", lost[1].name) == 0
    assert states(store) == ["OPEN", "ABANDONED"]


def test_an_unknown_submission_is_an_error(lost: list[Submission], context: ScreenContext) -> None:
    with pytest.raises(CalibanError) as caught:
        call(context, *ABANDON, "--yes", "--submission", "fake-3")
    assert caught.value.id == "unknown-submission"


def test_after_it_the_experiment_can_be_submitted_again(
    store: Store, ended_process: int, service: FakeService, context: ScreenContext
) -> None:
    [experiment] = add_group(store, FAILED, container_spec={"image_id": "lab:1"}).experiments
    leave_open(store, experiment, pid=ended_process)
    service.expect("find", service.fail_to_connect, service.fail_to_connect)
    assert call(context, "resubmit", "--xgroup", "resubmit_test", "--yes") == 1
    call(context, *ABANDON, "--yes")
    service.expect("submit", service.accept)
    assert call(context, "resubmit", "--xgroup", "resubmit_test", "--yes") == 0


def test_what_the_platform_answers_for_is_settled_instead(
    store: Store, ended_process: int, service: FakeService, context: ScreenContext
) -> None:
    one, two = add_group(store, FAILED, FAILED).experiments
    service.take({"image": IMAGE}, leave_open(store, one, pid=ended_process, token="1" * 16))
    leave_open(store, two, pid=ended_process, token="2" * 16)
    service.expect("find", service.look_up, service.look_up)
    service.expect("statuses", polls(RUNNING=[3]))
    assert call(context, *ABANDON, "--yes") == 0
    assert (states(store), latest_states(store)) == (["DONE", "ABANDONED"], ["RUNNING", "FAILED"])
    assert context.out == "nothing to give up: the state of every job is known\n"


def test_the_submission_of_a_running_command_is_refused(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    [experiment] = add_group(store, FAILED).experiments
    leave_open(store, experiment, pid=os.getppid(), host="catbus", renewed=context.clock.utc_now())
    assert (call(context, *ABANDON, "--yes"), states(store)) == (1, ["OPEN"])
    assert "is not given up: it is being submitted by totoro on catbus" in context.err


def test_a_job_whose_state_cannot_be_determined_is_given_up(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, RUNNING, JobStatus.UNKNOWN)
    service.expect("statuses", polls(unavailable=[1], RUNNING=[2], UNKNOWN=[3]))
    assert call(context, *ABANDON, "--yes") == 0
    assert latest_states(store) == ["STOPPED", "RUNNING", "STOPPED"]
    latest = read_group(store).experiments[0].latest
    assert latest is not None
    assert latest.reason == "given up by totoro; may still be running"


def test_one_job_can_be_given_up(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", polls(unavailable=[1, 2]))
    assert call(context, *ABANDON, "--yes", "--submission", "fake-2") == 0
    assert latest_states(store) == ["RUNNING", "STOPPED"]


def test_a_dry_run_looks_nothing_up_and_changes_nothing(
    store: Store, ended_process: int, service: FakeService, context: ScreenContext
) -> None:
    [experiment] = add_group(store, FAILED).experiments
    opened = leave_open(store, experiment, pid=ended_process)
    assert call(context, *ABANDON, "--dry_run") == 0
    assert (states(store), service.calls, opened.name in context.out) == (["OPEN"], [], True)


def test_the_group_is_required(store: Store, context: ScreenContext) -> None:
    with pytest.raises(UsageError) as caught:
        call(context, "abandon", "--yes")
    assert caught.value.id == "no-xgroup"


def test_a_misspelt_group_creates_no_store(context: ScreenContext) -> None:
    with pytest.raises(CalibanError) as caught:
        call(context, *ABANDON, "--yes")
    assert (caught.value.id, list(context.home.iterdir())) == ("unknown-xgroup", [])


def test_submissions_of_other_groups_and_users_are_left_alone(
    store: Store, ended_process: int, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED)
    leave_open(store, add_group(store, FAILED, name="other").experiments[0], pid=ended_process, token="1" * 16)
    leave_open(store, add_group(store, FAILED, user="mei").experiments[0], pid=ended_process, token="2" * 16)
    assert (call(context, *ABANDON, "--yes"), states(store)) == (0, ["OPEN", "OPEN"])
    assert all(row.state is SubmissionState.OPEN for row in submissions(store))
