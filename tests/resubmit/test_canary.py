"""``caliban resubmit --canary`` on a fake platform: one job of each cause goes first."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from sqlalchemy import update

from caliban.attempts import Submission
from caliban.errors import UsageError
from caliban.records import JobRecord, JobStatus, JobUpdate, JsonObject, NewJob
from caliban.store.database import Store
from caliban.store.models import JobRow
from tests.builders import OTHER_IMAGE, add_group, latest_states, submissions
from tests.calls import call, result_of
from tests.conftest import ScreenContext
from tests.fakes import FakeEngine, FakeService, fake_details

RESUBMIT = ("resubmit", "--xgroup", "resubmit_test", "--yes", "--canary")
FAILED, SUCCEEDED, RUNNING = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.RUNNING
CAUSES = ("code_error", "code_error", "out_of_memory", "code_error", "out_of_memory")


class Machine:
    """Each job runs for two looks, or as long as ``looks`` says, and then ends as ``ends`` says, or succeeds."""

    def __init__(self, service: FakeService, *, looks: int, submissions: int) -> None:
        self.at_a_time: list[list[int]] = []
        self.ends: dict[int, str] = {}
        self.looks: dict[int, int] = {}
        self._ages: dict[int, int] = {}
        self._service = service
        service.expect("statuses", *[self.look] * looks)
        service.expect("submit", *[self.submit] * submissions)

    def submit(self, spec: JsonObject, submission: Submission) -> NewJob:
        return self._service.accept(spec, submission)

    def look(self, jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate]:
        self.at_a_time.append(sorted(job.id for job in jobs))
        return {job.id: self._update(job) for job in jobs}

    def _update(self, job: JobRecord) -> JobUpdate:
        self._ages[job.id] = self._ages.get(job.id, 0) + 1
        if self._ages[job.id] < self.looks.get(job.id, 2):
            return JobUpdate(RUNNING)
        if cause := self.ends.get(job.id):
            return JobUpdate(FAILED, fake_details(FAILED, {**job.details.raw, "cause": cause}))
        return JobUpdate(SUCCEEDED)


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
    assert machine.at_a_time == [[6, 7], [6, 7], [8, 9, 10], [8, 9, 10]]
    assert (resubmitted(failed)[:2], latest_states(failed)) == ([1, 3], ["SUCCEEDED"] * 5)
    assert len(fake_engine.built) == 1


def test_what_waits_for_a_job_that_fails_is_not_submitted(
    failed: Store, service: FakeService, context: ScreenContext
) -> None:
    machine = Machine(service, looks=4, submissions=3)
    machine.ends = {6: "code_error"}
    assert call(context, *RESUBMIT, "--wait") == 1
    assert resubmitted(failed) == [1, 3, 5]
    assert "job 6 went first and did not succeed: 2 other jobs like it are not submitted\n" in context.err
    assert "2 not started" in context.err
    assert "to submit the rest" not in context.err


def test_the_document_counts_what_was_not_started(failed: Store, service: FakeService, context: ScreenContext) -> None:
    machine = Machine(service, looks=2, submissions=2)
    machine.ends = {6: "code_error", 7: "out_of_memory"}
    document = result_of(context, *RESUBMIT, "--wait", "--json")
    assert (document["exit_code"], len(document["jobs"]), document["summary"]["not_started"]) == (1, 2, 3)


def test_a_job_that_has_run_long_enough_is_good(failed: Store, service: FakeService, context: ScreenContext) -> None:
    machine = Machine(service, looks=40, submissions=5)
    machine.looks = {6: 30, 7: 30}
    assert call(context, *RESUBMIT, "--wait", "--canary_for", "1m") == 0
    first = machine.at_a_time.index([6, 7, 8, 9, 10])
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
    assert {len(jobs) for jobs in machine.at_a_time} == {1}
    assert resubmitted(failed) == [1, 3, 2, 4, 5]
    assert latest_states(failed) == ["SUCCEEDED"] * 5


def test_a_job_that_is_retried_has_not_decided(failed: Store, service: FakeService, context: ScreenContext) -> None:
    machine = Machine(service, looks=8, submissions=6)
    machine.ends = {6: "preempted"}
    assert call(context, *RESUBMIT, "--wait", "--retries", "1") == 0
    assert latest_states(failed) == ["SUCCEEDED"] * 5
    service._expected.clear()


def test_changed_experiments_have_a_job_that_goes_first(
    failed: Store, service: FakeService, context: ScreenContext
) -> None:
    machine = Machine(service, looks=4, submissions=5)
    assert call(context, *RESUBMIT, "--wait", "--", "--seed", "11") == 0
    assert machine.at_a_time == [[6, 7], [6, 7], [8, 9, 10], [8, 9, 10]]
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
