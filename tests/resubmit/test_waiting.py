"""``caliban resubmit --wait`` on a fake platform."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from caliban.errors import UsageError
from caliban.records import JobStatus, JobUpdate, JsonObject, StatusUnavailable
from caliban.store.database import Store
from tests.builders import OTHER_IMAGE, add_group, latest_states
from tests.calls import call, result_of
from tests.conftest import ScreenContext
from tests.fake_platform import polls
from tests.fake_service import FakeService
from tests.fakes import FakeClock, FakeEngine

RESUBMIT = ("resubmit", "--xgroup", "resubmit_test", "--yes")
FAILED, SUCCEEDED, STOPPED, RUNNING = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.STOPPED, JobStatus.RUNNING
Answers = Mapping[int, JobUpdate | StatusUnavailable]


@pytest.fixture
def project(cwd: Path) -> JsonObject:
    """The recorded container spec of an existing project."""
    (cwd / "cpu.py").write_text("")
    return {"build_path": str(cwd), "job_mode": "CPU", "package": [["python"], ".", "cpu.py", None]}


@pytest.fixture
def failed(store: Store, project: JsonObject, service: FakeService, fake_engine: FakeEngine) -> FakeService:
    """A service with two failed jobs, 1 and 2, which accepts that they are run again, as 3 and 4."""
    add_group(store, FAILED, STOPPED, container_spec=project)
    fake_engine.expect(OTHER_IMAGE)
    service.expect("submit", service.accept, service.accept)
    return service


@pytest.mark.parametrize(("end", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("UNKNOWN", 1)])
def test_the_exit_code_says_how_the_jobs_ended(
    end: str, code: int, failed: FakeService, store: Store, context: ScreenContext
) -> None:
    failed.expect("statuses", polls(RUNNING=[3, 4]), polls(**{end: [4], "SUCCEEDED": [3]} if code else {end: [3, 4]}))
    assert call(context, *RESUBMIT, "--wait") == code
    assert sorted(latest_states(store)) == sorted(["SUCCEEDED", end])
    assert "job 3: RUNNING -> SUCCEEDED" in context.out


def test_after_the_limit_of_waiting_it_is_3(failed: FakeService, clock: FakeClock, context: ScreenContext) -> None:
    failed.expect("statuses", *[polls(RUNNING=[3, 4])] * 3)
    assert call(context, *RESUBMIT, "--wait", "--wait_timeout", "10s") == 3
    assert context.err.splitlines()[-2:] == [
        "timeout after 10s: 2 jobs not ended, and still running or queued",
        "to go on waiting, run: caliban wait --xgroup resubmit_test",
    ]


def test_ctrl_c_reports_the_states_and_how_to_go_on_waiting(failed: FakeService, context: ScreenContext) -> None:
    def wait(event: threading.Event, seconds: float) -> bool:
        raise KeyboardInterrupt

    failed.expect("statuses", polls(RUNNING=[3], SUCCEEDED=[4]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context.clock, "wait", wait)
        with pytest.raises(KeyboardInterrupt):
            call(context, *RESUBMIT, "--wait")
    assert context.err.splitlines()[-3:] == [
        "2 experiments: 1 succeeded, 1 running",
        "not waiting any longer: 1 job not ended, and still running or queued",
        "to go on waiting, run: caliban wait --xgroup resubmit_test",
    ]


def test_the_document_has_the_final_states(failed: FakeService, context: ScreenContext) -> None:
    failed.expect("statuses", polls(RUNNING=[3, 4]), polls(SUCCEEDED=[3], FAILED=[4]))
    document = result_of(context, *RESUBMIT, "--wait", "--json")
    found = {each["job"]["id"]: (each["job"]["state"], each["ok"]) for each in document["jobs"]}
    assert found == {3: ("SUCCEEDED", True), 4: ("FAILED", False)}
    assert {each["resubmits"] for each in document["jobs"]} == {1, 2}  # they are submitted side by side


def test_typed_again_it_goes_on_waiting(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, RUNNING, SUCCEEDED)
    service.expect("statuses", polls(RUNNING=[1]), polls(RUNNING=[1]), polls(FAILED=[1]))
    assert call(context, *RESUBMIT, "--wait") == 1
    assert "nothing to resubmit" in context.out


def test_what_another_command_submits_meanwhile_is_waited_for(
    store: Store, project: JsonObject, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    """Its job is the one that counts, and that it was first is no error."""

    def build(*arguments: object, **flags: object) -> str:
        add_group(store, RUNNING, container_spec=project)
        return OTHER_IMAGE

    add_group(store, FAILED, container_spec=project)
    service.expect("statuses", polls(RUNNING=[2]), polls(SUCCEEDED=[2]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake_engine, "build", build)
        assert call(context, *RESUBMIT, "--wait") == 0
    assert latest_states(store) == ["SUCCEEDED"]


@pytest.mark.parametrize("command", ["resubmit", "cloud", "run"])
def test_a_limit_without_waiting_is_wrong_usage(command: str, context: ScreenContext, cwd: Path) -> None:
    (cwd / "cpu.py").write_text("")
    words = RESUBMIT if command == "resubmit" else (command, "--nogpu", "cpu.py")
    with pytest.raises(UsageError, match="--wait_timeout needs --wait"):
        call(context, words[0], "--wait_timeout", "1h", *words[1:])
