"""``caliban resubmit --canary`` on a fake platform: one job of each cause goes first."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from caliban.errors import UsageError
from caliban.records import JobStatus
from caliban.store.database import Store
from caliban.store.models import JobRow
from caliban.waiting.canary import Canaries, Verdict
from tests.builders import OTHER_IMAGE, add_group, latest_states, submissions
from tests.calls import call, result_of
from tests.conftest import ScreenContext
from tests.fake_platform import polls
from tests.fake_service import FakeService
from tests.fakes import FakeEngine
from tests.resubmit.machine import Machine

RESUBMIT = ("resubmit", "--xgroup", "resubmit_test", "--yes", "--canary")
FAILED, SUCCEEDED, RUNNING = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.RUNNING
CAUSES = ("code_error", "code_error", "out_of_memory", "code_error", "out_of_memory")


@pytest.fixture
def failed(store: Store, cwd: Path, fake_engine: FakeEngine) -> Store:
    """Five failed jobs: three by an error in the code, two for lack of memory; their image is built once."""
    (cwd / "cpu.py").write_text("")
    spec = {"build_path": str(cwd), "job_mode": "CPU", "package": [["python"], ".", "cpu.py", None]}
    add_group(store, *[FAILED] * 5, container_spec=spec)
    with store.writing() as session:
        for number, cause in enumerate(CAUSES, 1):
            details = {"name": f"fake-{number}", "cause": cause}
            session.execute(update(JobRow).where(JobRow.id == number).values(details=details))
    fake_engine.expect(OTHER_IMAGE)
    return store


def resubmitted(store: Store) -> list[int | None]:
    return [submission.resubmits for submission in submissions(store)]


def test_one_job_of_each_cause_goes_first_and_the_others_follow(
    failed: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    machine = Machine(service, looks=4, submissions=5)
    assert call(context, *RESUBMIT, "--wait") == 0
    assert machine.running == [[0, 2], [0, 2], [1, 3, 4], [1, 3, 4]]
    assert (resubmitted(failed)[:2], latest_states(failed)) == ([1, 3], ["SUCCEEDED"] * 5)
    assert len(fake_engine.built) == 1


def test_what_waits_for_a_job_that_fails_is_not_submitted(
    failed: Store, service: FakeService, context: ScreenContext
) -> None:
    machine = Machine(service, looks=4, submissions=3)
    machine.ends = {0: ["code_error"]}
    assert call(context, *RESUBMIT, "--wait") == 1
    assert resubmitted(failed) == [1, 3, 5]
    assert re.search(
        r"^job [67] went first and did not succeed: 2 other jobs like it are not submitted$", context.err, re.M
    )
    assert "2 not started" in context.err
    assert "to submit the rest" not in context.err


def test_the_document_counts_what_was_not_started(failed: Store, service: FakeService, context: ScreenContext) -> None:
    machine = Machine(service, looks=2, submissions=2)
    machine.ends = {0: ["code_error"], 2: ["out_of_memory"]}
    document = result_of(context, *RESUBMIT, "--wait", "--json")
    assert (document["exit_code"], len(document["jobs"]), document["summary"]["not_started"]) == (1, 2, 3)


def test_a_job_that_has_run_long_enough_is_good(failed: Store, service: FakeService, context: ScreenContext) -> None:
    machine = Machine(service, looks=40, submissions=5)
    machine.looks = {0: 30, 2: 30}
    assert call(context, *RESUBMIT, "--wait", "--canary_for", "1m") == 0
    first = machine.running.index([0, 1, 2, 3, 4])
    assert 2 < first < 20
    service._expected.clear()


def test_without_waiting_it_ends_when_all_are_submitted(
    failed: Store, service: FakeService, context: ScreenContext
) -> None:
    Machine(service, looks=3, submissions=5)
    assert call(context, *RESUBMIT) == 0
    assert sorted(latest_states(failed)) == ["RUNNING"] * 3 + ["SUCCEEDED"] * 2
    assert "go on waiting" not in context.err


def test_a_limit_of_jobs_at_a_time_holds(failed: Store, service: FakeService, context: ScreenContext) -> None:
    machine = Machine(service, looks=10, submissions=5)
    assert call(context, *RESUBMIT, "--wait", "--max_parallel", "1") == 0
    assert set(machine.at_a_time) == {1}
    assert resubmitted(failed) == [1, 3, 2, 4, 5]
    assert latest_states(failed) == ["SUCCEEDED"] * 5


def test_a_job_that_is_retried_has_not_decided(failed: Store, service: FakeService, context: ScreenContext) -> None:
    machine = Machine(service, looks=8, submissions=6)
    machine.ends = {0: ["preempted"]}
    assert call(context, *RESUBMIT, "--wait", "--retries", "1") == 0
    assert latest_states(failed) == ["SUCCEEDED"] * 5
    service._expected.clear()


def test_changed_experiments_have_a_job_that_goes_first(
    failed: Store, service: FakeService, context: ScreenContext
) -> None:
    machine = Machine(service, looks=4, submissions=5)
    assert call(context, *RESUBMIT, "--wait", "--", "--seed", "11") == 0
    assert machine.running == [[0, 2], [0, 2], [1, 3, 4], [1, 3, 4]]
    assert latest_states(failed) == ["FAILED"] * 5 + ["SUCCEEDED"] * 5


def test_after_ctrl_c_the_same_command_goes_on(failed: Store, service: FakeService, context: ScreenContext) -> None:
    def wait(event: threading.Event, seconds: float) -> bool:
        raise KeyboardInterrupt

    Machine(service, looks=1, submissions=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context.clock, "wait", wait)
        with pytest.raises(KeyboardInterrupt):
            call(context, *RESUBMIT)
    assert latest_states(failed) == ["RUNNING", "FAILED", "RUNNING", "FAILED", "FAILED"]
    assert context.err.endswith("to submit the rest, run the same command again\n")


def test_the_plan_says_what_goes_first(
    failed: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    call(context, *RESUBMIT, "--dry_run")
    fake_engine._images.clear()
    [line] = [line for line in context.out.splitlines() if line.startswith("first: ")]
    assert line == "first: cpu.py --foo 3 --sleep 0, cpu.py --foo 3 --sleep 2; then 3 other jobs"


def test_the_plan_as_json_says_what_goes_first(
    failed: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    jobs = result_of(context, *RESUBMIT, "--dry_run", "--json")["jobs"]
    fake_engine._images.clear()
    assert [job["goes_first"] for job in jobs] == [True, False, True, False, False]


def test_a_time_needs_a_job_that_goes_first(context: ScreenContext) -> None:
    with pytest.raises(UsageError, match="--canary_for needs --canary"):
        call(context, "resubmit", "--xgroup", "resubmit_test", "--canary_for", "10m")


def test_while_a_job_may_be_running_that_cannot_be_asked_about_it_ends_with_1(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, FAILED, container_spec={"image_id": "lab:1"})
    service.expect("statuses", polls(unavailable=[1]), polls(unavailable=[1]))
    service.expect("submit", service.accept)
    assert call(context, *RESUBMIT) == 1
    service._expected.clear()


def test_each_kind_is_looked_at_once_however_many_jobs_wait(
    failed: Store, service: FakeService, context: ScreenContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    verdict = Canaries._verdict

    def counted(self: Canaries, *arguments: Any, **options: Any) -> Verdict:
        asked.append(arguments)
        return verdict(self, *arguments, **options)

    monkeypatch.setattr(Canaries, "_verdict", counted)
    machine = Machine(service, looks=4, submissions=5)
    assert call(context, *RESUBMIT, "--wait") == 0
    assert len(asked) == 2 * len(machine.running)
