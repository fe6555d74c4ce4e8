"""States of jobs, and stopping them."""

from __future__ import annotations

import pytest

from caliban.errors import CalibanError
from caliban.platforms.base import RemotePlatform
from caliban.records import FailureCause, JobStatus, StatusUnavailable
from tests.platforms.contract.case import ContractCase

UNFINISHED = (JobStatus.SUBMITTED, JobStatus.RUNNING)


def test_a_job_that_has_not_ended_is_unfinished(case: ContractCase) -> None:
    job = case.submit()
    assert case.status(job).status in UNFINISHED
    assert case.updated(job).details.exit is None


def test_a_job_that_succeeded(case: ContractCase) -> None:
    job = case.submit()
    case.end(job, succeeded=True)
    ended = case.updated(job)
    assert ended.status is JobStatus.SUCCEEDED
    assert ended.details.exit is None or ended.details.exit.cause is None


def test_a_job_that_failed_has_a_cause(case: ContractCase) -> None:
    job = case.submit()
    case.end(job, succeeded=False)
    ended = case.updated(job)
    assert ended.status is JobStatus.FAILED
    assert ended.details.exit is not None
    assert ended.details.exit.cause is not None
    assert ended.details.exit.cause is not FailureCause.REFUSED


def test_a_job_that_vanished_is_unknown_with_a_reason(case: ContractCase) -> None:
    job = case.submit()
    case.remove(job)
    ended = case.updated(job)
    assert ended.status is JobStatus.UNKNOWN
    assert ended.reason


@pytest.mark.parametrize("how", ["succeeded", "failed", "removed", "stopped"])
def test_an_ended_job_keeps_its_name_and_destination(case: ContractCase, how: str) -> None:
    job = case.submit()
    if how == "removed":
        case.remove(job)
    elif how == "stopped":
        case.stop(job)
    else:
        case.end(job, succeeded=how == "succeeded")
    ended = case.updated(job)
    assert ended.details.display_name == job.details.display_name
    assert ended.details.destination == job.details.destination


def test_jobs_in_different_states_have_a_state_each(case: ContractCase) -> None:
    running, succeeded, failed, removed = (case.submit() for _ in range(4))
    case.end(succeeded, succeeded=True)
    case.end(failed, succeeded=False)
    case.remove(removed)
    answers = case.platform.statuses([running, succeeded, failed, removed])
    states = {job_id: getattr(answer, "status", None) for job_id, answer in answers.items()}
    assert states.pop(running.id) in UNFINISHED
    assert states == {
        succeeded.id: JobStatus.SUCCEEDED,
        failed.id: JobStatus.FAILED,
        removed.id: JobStatus.UNKNOWN,
    }


def test_no_jobs_are_no_requests(case: ContractCase) -> None:
    before = case.requests()
    assert dict(case.platform.statuses([])) == {}
    assert case.requests() == before


def test_states_of_many_jobs_take_as_many_requests_as_that_of_one(case: ContractCase) -> None:
    jobs = [case.submit() for _ in range(8)]
    case.platform.statuses(jobs[:1])  # some platforms log in first
    counts = []
    for queried in (jobs[:1], jobs):
        before = case.requests()
        assert set(case.platform.statuses(queried)) == {job.id for job in queried}
        counts.append(case.requests() - before)
    assert counts[0] == counts[1]


def test_while_the_service_is_unreachable_each_state_is_unavailable_with_a_reason(case: ContractCase) -> None:
    jobs = [case.submit(), case.submit()]
    case.disconnect()
    answers = case.platform.statuses(jobs)
    assert set(answers) == {job.id for job in jobs}
    for answer in answers.values():
        assert isinstance(answer, StatusUnavailable)
        assert answer.reason
        assert "\n" not in answer.reason
        assert not answer.is_permanent, "a network that is lost comes back"


def test_while_the_service_is_unreachable_connect_raises(case: ContractCase) -> None:
    case.disconnect()
    with pytest.raises(CalibanError):
        case.new_platform().connect(case.destination)


def test_a_running_job_is_stopped(case: ContractCase) -> None:
    job = case.submit()
    stopped = case.stop(job)
    assert stopped.status is JobStatus.STOPPED
    assert case.status(job).status not in (JobStatus.SUCCEEDED, *UNFINISHED)  # not every platform remembers why
    assert stopped.details.exit is None or stopped.details.exit.cause in (FailureCause.STOPPED, None)


def test_a_job_that_is_stopped_twice_did_not_succeed(case: ContractCase) -> None:
    job = case.submit()
    case.stop(job)
    assert case.platform.stop(job).status not in (JobStatus.SUCCEEDED, *UNFINISHED)


@pytest.mark.parametrize(("succeeded", "status"), [(True, JobStatus.SUCCEEDED), (False, JobStatus.FAILED)])
def test_stop_of_an_ended_job_reports_how_it_ended(case: ContractCase, succeeded: bool, status: JobStatus) -> None:
    job = case.submit()
    case.end(job, succeeded=succeeded)
    assert case.platform.stop(job).status is status
    case.finish_stopping()
    assert case.status(job).status is status


def test_stop_of_a_vanished_job_leaves_it_unknown_with_a_reason(case: ContractCase) -> None:
    job = case.submit()
    case.remove(job)
    vanished = job.updated(case.platform.stop(job))
    assert vanished.status is JobStatus.UNKNOWN
    assert vanished.reason


def test_while_the_service_is_unreachable_stop_raises(case: ContractCase) -> None:
    job = case.submit()
    case.disconnect()
    with pytest.raises(CalibanError):
        case.platform.stop(job)


def test_a_remote_platform_shows_where_to_view_a_job(case: ContractCase) -> None:
    if isinstance(case.platform, RemotePlatform):
        lines = case.platform.links(case.submit())
        assert lines
        assert all(line.strip() for line in lines)
