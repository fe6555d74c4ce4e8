"""The states of jobs on both training services: with as few requests as possible, whatever goes wrong."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import CalibanError
from caliban.platforms.google.training_platform import TrainingPlatform
from caliban.records import FailureCause, JobExit, JobRecord, JobStatus, JobUpdate, StatusUnavailable
from tests.platforms.google.helpers import OTHER_PROJECT, Backend
from tests.standins.faults import Fault, Hold

Platform = TrainingPlatform[Any]
EXIT_1 = "The replica workerpool0-0 exited with a non-zero status of 1."


def pages_and_single_jobs(backend: Backend) -> tuple[int, ...]:
    """Return how many pages were requested, and how many single jobs."""
    return backend.counts("list", "get")


def all_submitted(jobs: list[JobRecord]) -> dict[int, JobUpdate]:
    return {job.id: JobUpdate(JobStatus.SUBMITTED) for job in jobs}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("QUEUED", JobStatus.SUBMITTED),
        ("RUNNING", JobStatus.RUNNING),
        ("SUCCEEDED", JobStatus.SUCCEEDED),
        ("CANCELLED", JobStatus.STOPPED),
        ("FAILED", JobStatus.FAILED),
    ],
)
def test_a_state_of_the_service_is_one_of_ours(
    backend: Backend, platform: Platform, state: str, expected: JobStatus
) -> None:
    job = backend.accept()
    backend.set_state(job, state)
    [update] = platform.statuses([job]).values()
    assert isinstance(update, JobUpdate)
    assert update.status is expected


def test_why_a_job_failed_is_reported_with_its_state(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    backend.set_state(job, "FAILED", EXIT_1)
    [update] = platform.statuses([job]).values()
    assert isinstance(update, JobUpdate)
    assert update.details is not None
    assert update.details.exit == JobExit(1, FailureCause.CODE_ERROR, EXIT_1)
    assert job.updated(update).reason == EXIT_1


def test_when_a_job_started_and_ended_is_recorded(backend: Backend, platform: Platform) -> None:
    before = datetime.now(timezone.utc).replace(microsecond=0)
    job = backend.accept()
    for state in ("RUNNING", "SUCCEEDED"):
        backend.set_state(job, state)
        [update] = platform.statuses([job]).values()
        job = job.updated(update)
    assert job.details.started
    assert job.details.ended
    assert before <= job.details.started <= job.details.ended


def test_times_are_in_pages_too(backend: Backend, platform: Platform) -> None:
    jobs = backend.accept_many(3)
    backend.set_state(jobs[1], "RUNNING")
    update = platform.statuses(jobs)[2]
    assert isinstance(update, JobUpdate)
    assert update.details is not None
    assert update.details.started is not None
    assert pages_and_single_jobs(backend) == (1, 0)


def test_what_is_recorded_of_a_failure_is_not_recorded_again(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    backend.set_state(job, "FAILED", "out of memory")
    [update] = platform.statuses([job]).values()
    assert platform.statuses([job.updated(update)]) == {1: JobUpdate(JobStatus.FAILED)}


def test_the_state_of_a_job_that_the_service_does_not_have_is_unknown(backend: Backend, platform: Platform) -> None:
    [update] = platform.statuses([backend.job()]).values()
    assert isinstance(update, JobUpdate)
    assert update.details is not None
    reason = f"{backend.service_name} no longer has the job"
    assert (update.status, update.details.reason) == (JobStatus.UNKNOWN, reason)
    assert platform.statuses([backend.job().updated(update)]) == {1: JobUpdate(JobStatus.UNKNOWN)}


def test_the_reason_is_removed_when_the_service_has_the_job_again(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    raw = {**job.details.raw, "reason": f"{backend.service_name} no longer has the job"}
    gone = replace(job, status=JobStatus.UNKNOWN, details=platform.parse_details(JobStatus.UNKNOWN, raw))
    backend.set_state(job, "RUNNING")
    [update] = platform.statuses([gone]).values()
    assert isinstance(update, JobUpdate)
    assert gone.updated(update).reason is None


def test_an_unknown_state_of_the_service_changes_nothing(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    state = f"{backend.prefix or 'STATE_'}UNSPECIFIED"
    backend.set_state(job, state.removeprefix(backend.prefix))
    expected = StatusUnavailable(f"{backend.service_name} reports an unknown state: {state}")
    assert platform.statuses([job]) == {1: expected}


def test_a_job_without_a_recorded_id_is_not_queried(backend: Backend, platform: Platform) -> None:
    job = replace(backend.job(), details=platform.parse_details(JobStatus.SUBMITTED, {}))
    assert platform.statuses([job]) == {1: StatusUnavailable(platform.not_recorded, is_permanent=True)}
    assert backend.service.requests == []


def test_two_jobs_are_requested_one_by_one(backend: Backend, platform: Platform) -> None:
    platform.statuses(backend.accept_many(2))
    assert pages_and_single_jobs(backend) == (0, 2)


def test_a_hundred_jobs_are_one_page(backend: Backend, platform: Platform) -> None:
    jobs = backend.accept_many(100)
    assert platform.statuses(jobs) == all_submitted(jobs)
    assert pages_and_single_jobs(backend) == (1, 0)
    assert backend.service.requests[-1].query["pageSize"] == "100"


def test_jobs_of_others_are_not_listed(backend: Backend, platform: Platform) -> None:
    jobs = backend.accept_many(5)
    for number in range(300):
        backend.accept(f"someone_else_{number}")
    platform.statuses(jobs)
    assert pages_and_single_jobs(backend) == (1, 0)


def test_all_pages_are_requested_until_the_last_wanted_job(backend: Backend, platform: Platform) -> None:
    assert len(platform.statuses(backend.accept_many(250))) == 250
    assert pages_and_single_jobs(backend) == (3, 0)


def test_no_more_pages_are_requested_where_single_jobs_are_fewer_requests(backend: Backend, platform: Platform) -> None:
    jobs = backend.accept_many(3)
    backend.accept_many(500, first=1000)
    assert platform.statuses(jobs) == all_submitted(jobs)
    assert pages_and_single_jobs(backend) == (1, 3)


def test_jobs_of_each_project_are_requested_there(backend: Backend, platform: Platform) -> None:
    jobs = [*backend.accept_many(3), *backend.accept_many(3, project=OTHER_PROJECT, first=4)]
    backend.set_state(jobs[4], "SUCCEEDED")
    update = platform.statuses(jobs)[5]
    assert isinstance(update, JobUpdate)
    assert update.status is JobStatus.SUCCEEDED
    assert pages_and_single_jobs(backend) == (2, 0)


def test_a_project_without_access_does_not_hide_the_others(backend: Backend, platform: Platform) -> None:
    lost = [backend.job(f"lost_{number}", 10 + number, "no-such-project") for number in range(3)]
    found = platform.statuses([*lost, *backend.accept_many(3)])
    assert found[1] == JobUpdate(JobStatus.SUBMITTED)
    assert isinstance(found[10], StatusUnavailable)
    assert found[10].reason.startswith(f"cannot list the jobs of {lost[0].details.destination}: ")


def test_a_denied_list_changes_nothing_and_the_reason_is_given(backend: Backend, platform: Platform) -> None:
    backend.service.forbidden.add(backend.permission("list"))
    found = platform.statuses(backend.accept_many(3))
    assert {type(update) for update in found.values()} == {StatusUnavailable}
    assert f"Permission '{backend.permission('list')}' denied" in str(found[1])
    assert pages_and_single_jobs(backend) == (1, 0)


def test_a_filter_that_is_not_accepted_is_replaced_by_single_jobs(backend: Backend, platform: Platform) -> None:
    jobs = backend.accept_many(3)
    backend.service.faults.add(Fault(backend.method("list"), "status", status=400, message="Invalid filter."))
    assert platform.statuses(jobs) == all_submitted(jobs)
    assert pages_and_single_jobs(backend) == (1, 3)


def test_one_failed_request_leaves_the_other_jobs_known(backend: Backend, platform: Platform) -> None:
    jobs = backend.accept_many(2)
    backend.service.faults.add(Fault(backend.method("get"), "status", status=403, message="Not this one."))
    kinds = sorted(type(update).__name__ for update in platform.statuses(jobs).values())
    assert kinds == ["JobUpdate", "StatusUnavailable"]


def test_a_missing_key_changes_nothing_and_the_reason_is_given(backend: Backend, tmp_path: Path) -> None:
    found = backend.platform(cloud_key=tmp_path / "gone.json").statuses([backend.job("x", n) for n in range(3)])
    assert found[0] == StatusUnavailable(f"file not found: {tmp_path / 'gone.json'}")


def test_a_transient_failure_is_not_noticed(backend: Backend, platform: Platform) -> None:
    backend.service.faults.add(Fault(backend.method("list"), "status", times=2, status=503))
    jobs = backend.accept_many(3)
    assert platform.statuses(jobs) == all_submitted(jobs)


def test_a_running_job_is_cancelled(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    update = platform.stop(job)
    assert update.status in (JobStatus.RUNNING, JobStatus.STOPPED)
    assert backend.service.bodies(backend.method("cancel")) == [{}]


def test_a_job_that_cannot_be_cancelled_though_it_runs_is_an_error(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    backend.service.faults.add(Fault(backend.method("cancel"), "status", status=400, message="Not now."))
    with pytest.raises(CalibanError) as caught:
        platform.stop(job)
    assert re.fullmatch(rf"cannot stop the job \S+ of {job.details.destination}: bad request", caught.value.message)
    assert caught.value.cause == "Not now."


def test_a_job_without_a_recorded_id_cannot_be_stopped(backend: Backend, platform: Platform) -> None:
    job = replace(backend.job(), details=platform.parse_details(JobStatus.SUBMITTED, {}))
    with pytest.raises(CalibanError) as caught:
        platform.stop(job)
    assert caught.value.id == "malformed-job-details"


def test_destinations_are_queried_side_by_side(backend: Backend, platform: Platform) -> None:
    hold = Hold()
    backend.service.faults.add(Fault(backend.method("get"), "hold", times=2, hold=hold))
    jobs = [backend.accept(id=1), backend.accept(id=2, project=OTHER_PROJECT)]
    found: dict[int, object] = {}
    thread = threading.Thread(target=lambda: found.update(platform.statuses(jobs)))
    thread.start()
    hold.wait_for(2)
    hold.released.set()
    thread.join()
    assert found.keys() == {1, 2}
