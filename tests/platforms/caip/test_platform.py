"""What is special about AI Platform Training: jobs are named by the client, and old ones are not listed."""

from __future__ import annotations

import pytest

from caliban.platforms.base import RefusedError
from caliban.platforms.caip.platform import CaipPlatform
from caliban.platforms.google.errors import GoogleError
from caliban.records import JobStatus, JobUpdate
from tests.fake_service import may_send
from tests.platforms.caip.helpers import NAME, PEER_SPEC, CaipBackend
from tests.platforms.google.helpers import PROJECT
from tests.standins.faults import Fault


def fail_creation(backend: CaipBackend, kind: str, **how: object) -> None:
    backend.service.faults.add(Fault(backend.method("create"), kind, **how))  # type: ignore[arg-type]


def test_another_jobs_name_is_left_alone_and_the_next_one_used(backend: CaipBackend, platform: CaipPlatform) -> None:
    backend.accept(token="another")
    new = platform.submit(PEER_SPEC, backend.submission(), may_send)
    assert new.details.id == f"{NAME}_012345"
    assert [name for name, _ in backend.jobs()] == [NAME, f"{NAME}_012345"]


def test_a_job_with_the_next_name_is_found_again(backend: CaipBackend, platform: CaipPlatform) -> None:
    backend.accept(token="another")
    assert platform.find(backend.submission()) is None
    new = platform.submit(PEER_SPEC, backend.submission(), may_send)
    assert platform.find(backend.submission()) == new


def test_when_all_names_are_taken_the_submission_is_refused(backend: CaipBackend, platform: CaipPlatform) -> None:
    for end in ("", "_012345", "_0123456789abcdef"):
        backend.accept(NAME + end)
    with pytest.raises(RefusedError) as caught:
        platform.submit(PEER_SPEC, backend.submission(), may_send)
    assert caught.value.id == "job-name-taken"
    assert caught.value.message == f"cannot submit the job {NAME}: other jobs of project {PROJECT} have its names"
    assert platform.find(backend.submission()) is None


def test_a_lost_answer_under_a_taken_name_leads_to_the_next_name(backend: CaipBackend, platform: CaipPlatform) -> None:
    backend.accept(token="another")
    fail_creation(backend, "refuse")
    assert platform.submit(PEER_SPEC, backend.submission(), may_send).details.id == f"{NAME}_012345"


def test_after_a_taken_name_whose_job_cannot_be_seen_the_outcome_is_unknown(
    backend: CaipBackend, platform: CaipPlatform
) -> None:
    fail_creation(backend, "status", status=409, message="A job with this id already exists.")
    with pytest.raises(GoogleError) as caught:
        platform.submit(PEER_SPEC, backend.submission(), may_send)
    assert caught.value.id == "google-conflict"


def test_a_cancelled_job_is_stopped_at_once(backend: CaipBackend, platform: CaipPlatform) -> None:
    update = platform.stop(backend.accept())
    assert (update.status, backend.service.jobs.find(NAME).state) == (JobStatus.STOPPED, "CANCELLED")


@pytest.mark.parametrize(("state", "expected"), [("PREPARING", JobStatus.SUBMITTED), ("CANCELLING", JobStatus.RUNNING)])
def test_a_transitional_state_is_one_of_ours(
    backend: CaipBackend, platform: CaipPlatform, state: str, expected: JobStatus
) -> None:
    job = backend.accept()
    backend.set_state(job, state)
    assert platform.statuses([job]) == {1: JobUpdate(expected)}


def test_a_list_is_filtered_by_the_common_prefix_of_the_names(backend: CaipBackend, platform: CaipPlatform) -> None:
    platform.statuses(backend.accept_many(5))
    assert backend.service.requests[-1].query["filter"] == "jobId:caliban_totoro_20200529_110259_*"


def test_names_without_a_common_prefix_are_listed_without_a_filter(
    backend: CaipBackend, platform: CaipPlatform
) -> None:
    platform.statuses([backend.accept(name, number) for number, name in enumerate(("ant", "bee", "cat"))])
    assert "filter" not in backend.service.requests[-1].query
    assert backend.counts("list", "get") == (1, 0)


def test_jobs_too_old_to_be_listed_are_requested_one_by_one(backend: CaipBackend, platform: CaipPlatform) -> None:
    jobs = backend.accept_many(4)
    backend.service.jobs.age(str(jobs[1].details.id), days=120)
    backend.set_state(jobs[1], "SUCCEEDED")
    update = platform.statuses(jobs)[2]
    assert isinstance(update, JobUpdate)
    assert update.status is JobStatus.SUCCEEDED
    assert backend.counts("list", "get") == (1, 1)
