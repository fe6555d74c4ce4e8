"""Submitting and finding jobs: one submission is one job, or none."""

from __future__ import annotations

import pytest

from caliban.errors import CalibanError
from caliban.platforms.base import NotSentError, RefusedError
from caliban.records import FailureCause, JobDetails, JobStatus
from tests.fake_service import may_not_send, may_send
from tests.platforms.contract.case import ContractCase

UNFINISHED = (JobStatus.SUBMITTED, JobStatus.RUNNING)


def test_submit_starts_one_job_with_the_image_of_the_spec(case: ContractCase) -> None:
    spec = case.spec()
    job = case.platform.submit(spec, case.submission(spec), may_send)
    assert (case.started(), job.container) == (1, case.images[0])
    assert job.status in UNFINISHED


def test_details_of_a_new_job_have_its_name_and_destination(case: ContractCase) -> None:
    job = case.submit()
    assert job.details.display_name
    assert job.details.destination == case.destination
    assert job.details.exit is None


def test_stored_details_are_read_as_they_were_written(case: ContractCase) -> None:
    spec = case.spec()
    job = case.platform.submit(spec, case.submission(spec), may_send)
    assert case.record(job, spec).details == job.details


def test_submit_twice_with_one_token_starts_one_job(case: ContractCase) -> None:
    spec = case.spec()
    submission = case.submission(spec)
    first, second = case.platform.submit(spec, submission, may_send), case.platform.submit(spec, submission, may_send)
    assert case.started() == 1
    assert second.details.display_name == first.details.display_name
    assert second.container == first.container


def test_submit_with_the_token_of_a_job_that_has_ended_starts_no_other_job(case: ContractCase) -> None:
    spec = case.spec()
    submission = case.submission(spec)
    case.end(case.record(case.platform.submit(spec, submission, may_send), spec), succeeded=True)
    assert case.platform.submit(spec, submission, may_send).status is JobStatus.SUCCEEDED
    assert case.started() == 1


def test_permission_is_asked_for_before_a_job_is_started(case: ContractCase) -> None:
    spec = case.spec()
    started: list[int] = []
    case.platform.submit(spec, case.submission(spec), lambda: started.append(case.started()))
    assert set(started) == {0}


def test_nothing_is_started_for_a_submission_that_another_process_settled(case: ContractCase) -> None:
    spec = case.spec()
    submission = case.submission(spec)
    with pytest.raises(NotSentError):
        case.platform.submit(spec, submission, may_not_send)
    assert case.started() == 0
    assert case.platform.find(submission) is None


def test_jobs_with_different_tokens_are_different_jobs(case: ContractCase) -> None:
    first, second = case.submit(), case.submit()
    assert case.started() == 2
    assert first.details.display_name != second.details.display_name


def test_after_a_lost_answer_the_job_is_found_and_not_submitted_again(case: ContractCase) -> None:
    spec = case.spec()
    submission = case.submission(spec)
    case.lose_answer()
    try:
        job = case.platform.submit(spec, submission, may_send)
    except (RefusedError, NotSentError):
        raise  # which says that no job runs
    except CalibanError:
        job = case.platform.submit(spec, submission, may_send)
    assert case.started() == 1
    assert job.status in UNFINISHED


def test_another_process_finds_the_job_by_its_token(case: ContractCase) -> None:
    spec = case.spec()
    submission = case.submission(spec)
    submitted = case.platform.submit(spec, submission, may_send)
    found = case.new_platform().find(submission)
    assert found is not None
    assert (found.container, found.details.display_name) == (submitted.container, submitted.details.display_name)
    assert found.details.destination == submitted.details.destination
    assert found.status in UNFINISHED


def test_a_job_that_is_found_can_be_queried_and_stopped(case: ContractCase) -> None:
    spec = case.spec()
    submission = case.submission(spec)
    case.platform.submit(spec, submission, may_send)
    found = case.new_platform().find(submission)
    assert found is not None
    job = case.record(found, spec)
    assert case.status(job).status in UNFINISHED
    assert case.stop(job).status is JobStatus.STOPPED


def test_find_of_an_unknown_token_is_none(case: ContractCase) -> None:
    case.submit()
    assert case.platform.find(case.submission(case.spec())) is None


def test_a_refused_job_is_not_started(case: ContractCase) -> None:
    spec = case.spec()
    submission = case.submission(spec)
    case.refuse()
    with pytest.raises(RefusedError):
        case.platform.submit(spec, submission, may_send)
    assert case.started() == 0
    assert case.platform.find(submission) is None


def test_details_of_a_refusal_have_cause_and_reason(case: ContractCase) -> None:
    details = refused(case)
    assert details.exit is not None
    assert details.exit.cause is FailureCause.REFUSED
    assert details.reason
    assert "\n" not in details.reason


def refused(case: ContractCase) -> JobDetails:
    """Return the details of a refused job, as they are stored."""
    spec = case.spec()
    submission = case.submission(spec)
    case.refuse()
    with pytest.raises(RefusedError) as caught:
        case.platform.submit(spec, submission, may_send)
    error = caught.value
    text = f"{error.message}: {error.cause}" if error.cause else error.message
    return case.platform.parse_details(JobStatus.FAILED, {"error": text, **error.details})


def test_the_platform_of_a_refused_job_takes_the_next_one(case: ContractCase) -> None:
    assert refused(case).destination in (None, case.destination)


def test_while_the_service_is_unreachable_the_outcome_of_submit_is_unknown(case: ContractCase) -> None:
    spec = case.spec()
    submission = case.submission(spec)
    case.disconnect()
    with pytest.raises(CalibanError) as caught:
        case.platform.submit(spec, submission, may_send)
    assert not isinstance(caught.value, RefusedError | NotSentError)


def test_while_the_service_is_unreachable_find_raises(case: ContractCase) -> None:
    submission = case.submission(case.spec())
    case.disconnect()
    with pytest.raises(CalibanError):
        case.platform.find(submission)


def test_when_the_user_wants_to_stop_nothing_waits_for_the_service(case: ContractCase) -> None:
    spec = case.spec()
    submission = case.submission(spec)
    case.throttle()
    case.stopping.set()
    try:
        case.platform.submit(spec, submission, may_send)
    except NotSentError:
        assert case.started() == 0
    else:
        assert case.started() == 1
