"""``caliban resubmit --wait --max_parallel`` on a fake platform."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from caliban.errors import ImageError, UsageError
from caliban.records import JobRecord, JobStatus, JobUpdate, StatusUnavailable
from caliban.store.database import Store
from tests.builders import OTHER_IMAGE, add_group, latest_states
from tests.calls import call, result_of
from tests.conftest import ScreenContext
from tests.fake_service import FakeService
from tests.fakes import FakeEngine
from tests.resubmit.machine import Machine

RESUBMIT = ("resubmit", "--xgroup", "resubmit_test", "--yes", "--wait", "--max_parallel", "2")
FAILED, SUCCEEDED, RUNNING = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.RUNNING
Answers = Mapping[int, JobUpdate | StatusUnavailable]


@pytest.fixture
def failed(store: Store, cwd: Path, fake_engine: FakeEngine) -> Store:
    """A store with five failed jobs, whose image is built once."""
    (cwd / "cpu.py").write_text("")
    spec = {"build_path": str(cwd), "job_mode": "CPU", "package": [["python"], ".", "cpu.py", None]}
    add_group(store, *[FAILED] * 5, container_spec=spec)
    fake_engine.expect(OTHER_IMAGE)
    return store


def test_not_more_than_so_many_jobs_are_unfinished(
    failed: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    machine = Machine(service, looks=6, submissions=5)
    assert call(context, *RESUBMIT) == 0
    assert latest_states(failed) == ["SUCCEEDED"] * 5
    assert machine.at_a_time == [2, 2, 2, 2, 1, 1]
    assert len(fake_engine.built) == 1


def test_changed_experiments_wait_for_their_turn_too(
    failed: Store, service: FakeService, context: ScreenContext
) -> None:
    machine = Machine(service, looks=6, submissions=5)
    assert call(context, *RESUBMIT, "--", "--foo", "4") == 0
    assert latest_states(failed) == ["FAILED"] * 5 + ["SUCCEEDED"] * 5
    assert machine.at_a_time == [2, 2, 2, 2, 1, 1]


def test_retries_count_and_come_first(failed: Store, service: FakeService, context: ScreenContext) -> None:
    machine = Machine(service, looks=6, submissions=6)
    machine.ends = {0: ["preempted"]}
    assert call(context, *RESUBMIT, "--retries", "1") == 0
    assert machine.at_a_time == [2, 2, 2, 2, 2, 2]
    assert latest_states(failed) == ["SUCCEEDED"] * 5


def test_a_job_that_is_refused_does_not_prevent_the_next(
    failed: Store, service: FakeService, context: ScreenContext
) -> None:
    service.expect("submit", service.refuse, service.refuse)
    machine = Machine(service, looks=4, submissions=3)
    assert call(context, *RESUBMIT) == 1
    assert machine.at_a_time == [2, 2, 1, 1]
    assert sorted(latest_states(failed)) == ["FAILED"] * 2 + ["SUCCEEDED"] * 3


def test_jobs_that_cannot_be_asked_about_may_be_running(
    failed: Store, service: FakeService, context: ScreenContext
) -> None:
    """What their platform refuses to tell ends the waiting, and lets no further job begin."""

    def refused(jobs: Sequence[JobRecord]) -> Answers:
        return {job.id: StatusUnavailable("permission denied", is_permanent=True) for job in jobs}

    service.expect("submit", service.accept, service.accept)
    service.expect("statuses", refused, refused)
    assert call(context, *RESUBMIT) == 1
    assert len(service.arguments_of("submit")) == 2
    assert "permission denied" in context.err


def test_without_an_image_all_fail_at_once_and_no_experiment_is_recorded(
    failed: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    def build(*arguments: object, **flags: object) -> str:
        raise ImageError("build-failed", "the build failed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake_engine, "build", build)
        assert call(context, *RESUBMIT, "--", "--seed", "11") == 1
    assert latest_states(failed) == ["FAILED"] * 5
    assert "5 experiments: 5 not submitted" in context.err
    fake_engine._images.clear()


def test_after_the_limit_of_waiting_the_rest_is_not_started(
    failed: Store, service: FakeService, context: ScreenContext
) -> None:
    Machine(service, looks=4, submissions=4)
    document = result_of(context, *RESUBMIT, "--wait_timeout", "6", "--json")
    assert (document["exit_code"], len(document["jobs"]), document["summary"]["not_started"]) == (3, 4, 1)
    assert "to submit the rest, run the same command again" in context.err
    service._expected.clear()


def test_ctrl_c_says_what_was_not_submitted(failed: Store, service: FakeService, context: ScreenContext) -> None:
    def wait(event: threading.Event, seconds: float) -> bool:
        raise KeyboardInterrupt

    Machine(service, looks=1, submissions=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context.clock, "wait", wait)
        with pytest.raises(KeyboardInterrupt):
            call(context, *RESUBMIT)
    assert "5 experiments: 2 running, 3 not started" in context.err
    assert context.err.endswith("to submit the rest, run the same command again\n")
    assert latest_states(failed) == ["RUNNING"] * 2 + ["FAILED"] * 3


def test_a_limit_needs_waiting(context: ScreenContext) -> None:
    with pytest.raises(UsageError, match="--max_parallel needs --wait"):
        call(context, "resubmit", "--xgroup", "resubmit_test", "--max_parallel", "2")


def test_each_of_several_changes_is_an_experiment(failed: Store, service: FakeService, context: ScreenContext) -> None:
    machine = Machine(service, looks=6, submissions=5)
    assert call(context, *RESUBMIT, "--", "--seed", "11") == 0
    assert machine.at_a_time == [2, 2, 2, 2, 1, 1]
    assert latest_states(failed) == ["FAILED"] * 5 + ["SUCCEEDED"] * 5
