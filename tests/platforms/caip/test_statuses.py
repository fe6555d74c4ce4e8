from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from caliban.platforms.base import JobUpdate, StatusUnavailable
from caliban.platforms.caip.platform import CaipPlatform
from caliban.records import JobRecord, JobStatus
from tests.platforms.caip.helpers import NAME, PROJECT, SHORT, body, job_view, platform_context
from tests.standins.faults import Fault
from tests.standins.ml_v1 import MlV1

GET, LIST = "ml.projects.jobs.get", "ml.projects.jobs.list"


def jobs_at(service: MlV1, count: int, *, project: str = PROJECT, first: int = 1) -> list[JobRecord]:
    """Jobs that the service has, as the store has them."""
    for number in range(first, first + count):
        service.jobs.create(project, body(f"caliban_totoro_20200529_110259_{number}"))
    return [
        job_view(f"caliban_totoro_20200529_110259_{number}", id=number, project=project)
        for number in range(first, first + count)
    ]


def asked(service: MlV1) -> tuple[int, int]:
    """How many pages, and how many single jobs."""
    return service.counts[LIST], service.counts[GET]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("QUEUED", JobStatus.SUBMITTED),
        ("PREPARING", JobStatus.SUBMITTED),
        ("RUNNING", JobStatus.RUNNING),
        ("CANCELLING", JobStatus.RUNNING),
        ("SUCCEEDED", JobStatus.SUCCEEDED),
        ("FAILED", JobStatus.FAILED),
        ("CANCELLED", JobStatus.STOPPED),
    ],
)
def test_each_state_of_the_service_is_one_of_ours(
    service: MlV1, platform: CaipPlatform, state: str, expected: JobStatus
) -> None:
    [job] = jobs_at(service, 1)
    service.jobs.set_state(str(job.details["jobId"]), state)
    assert platform.statuses([job]) == {1: JobUpdate(expected)}


def test_why_a_job_failed_is_learnt_with_its_state(service: MlV1, platform: CaipPlatform) -> None:
    [job] = jobs_at(service, 1)
    words = "The replica master 0 exited with a non-zero status of 1."
    service.jobs.set_state(NAME, "FAILED", words)
    expected = JobUpdate(JobStatus.FAILED, {**job.details, "errorMessage": words})
    assert platform.statuses([job]) == {1: expected}


def test_what_is_known_of_a_failure_is_not_recorded_again(service: MlV1, platform: CaipPlatform) -> None:
    [job] = jobs_at(service, 1)
    service.jobs.set_state(NAME, "FAILED", "out of memory")
    known = replace(job, details={**job.details, "errorMessage": "out of memory"})
    assert platform.statuses([known]) == {1: JobUpdate(JobStatus.FAILED)}


def test_a_job_that_the_service_forgot_is_unknown(platform: CaipPlatform) -> None:
    assert platform.statuses([job_view()]) == {1: JobUpdate(JobStatus.UNKNOWN)}


def test_a_state_that_nobody_knows_decides_nothing(service: MlV1, platform: CaipPlatform) -> None:
    [job] = jobs_at(service, 1)
    service.jobs.set_state(NAME, "STATE_UNSPECIFIED")
    assert platform.statuses([job]) == {1: StatusUnavailable("AI Platform tells an unknown state: STATE_UNSPECIFIED")}


def test_a_job_without_a_recorded_name_decides_nothing(service: MlV1, platform: CaipPlatform) -> None:
    expected = StatusUnavailable("its name and its project are not both recorded")
    assert platform.statuses([job_view(None)]) == {1: expected}
    assert service.requests == []


def test_nothing_is_asked_for_no_jobs(service: MlV1, platform: CaipPlatform) -> None:
    assert platform.statuses([]) == {}
    assert service.requests == []


def test_two_jobs_are_asked_after_one_by_one(service: MlV1, platform: CaipPlatform) -> None:
    platform.statuses(jobs_at(service, 2))
    assert asked(service) == (0, 2)


def test_a_hundred_jobs_are_one_page(service: MlV1, platform: CaipPlatform) -> None:
    jobs = jobs_at(service, 100)
    assert platform.statuses(jobs) == {job.id: JobUpdate(JobStatus.SUBMITTED) for job in jobs}
    assert asked(service) == (1, 0)


def test_pages_are_asked_for_by_what_the_names_have_in_common(service: MlV1, platform: CaipPlatform) -> None:
    jobs = jobs_at(service, 5)
    for number in range(300):
        service.jobs.create(PROJECT, body(f"someone_else_{number}"))
    platform.statuses(jobs)
    assert asked(service) == (1, 0)
    assert service.requests[-1].query["filter"] == "jobId:caliban_totoro_20200529_110259_*"
    assert service.requests[-1].query["pageSize"] == "100"


def test_names_with_nothing_in_common_are_paged_without_a_filter(service: MlV1, platform: CaipPlatform) -> None:
    for name in ("ant", "bee", "cat"):
        service.jobs.create(PROJECT, body(name))
    platform.statuses([job_view(name, id=number) for number, name in enumerate(("ant", "bee", "cat"))])
    assert "filter" not in service.requests[-1].query
    assert asked(service) == (1, 0)


def test_several_pages_are_followed_to_the_last_wanted_job(service: MlV1, platform: CaipPlatform) -> None:
    jobs = jobs_at(service, 250)
    assert len(platform.statuses(jobs)) == 250
    assert asked(service) == (3, 0)


def test_paging_ends_where_single_questions_cost_less(service: MlV1, platform: CaipPlatform) -> None:
    jobs = jobs_at(service, 3)
    jobs_at(service, 500, first=1000)
    assert platform.statuses(jobs) == {job.id: JobUpdate(JobStatus.SUBMITTED) for job in jobs}
    assert asked(service) == (1, 3)


def test_jobs_too_old_to_be_listed_are_asked_after_one_by_one(service: MlV1, platform: CaipPlatform) -> None:
    jobs = jobs_at(service, 4)
    service.jobs.age("caliban_totoro_20200529_110259_2", days=120)
    service.jobs.set_state("caliban_totoro_20200529_110259_2", "SUCCEEDED")
    assert platform.statuses(jobs)[2] == JobUpdate(JobStatus.SUCCEEDED)
    assert asked(service) == (1, 1)


def test_jobs_of_each_project_are_asked_for_there(service: MlV1, platform: CaipPlatform) -> None:
    jobs = [*jobs_at(service, 3), *jobs_at(service, 3, project="wonder-project", first=4)]
    service.jobs.set_state("caliban_totoro_20200529_110259_5", "RUNNING")
    found = platform.statuses(jobs)
    assert found[5] == JobUpdate(JobStatus.RUNNING)
    assert asked(service) == (2, 0)


def test_a_project_that_is_closed_to_us_leaves_the_others_readable(service: MlV1, platform: CaipPlatform) -> None:
    lost = [job_view(f"lost_{number}", id=10 + number, project="no-such-project") for number in range(3)]
    found = platform.statuses([*lost, *jobs_at(service, 3)])
    assert found[1] == JobUpdate(JobStatus.SUBMITTED)
    assert isinstance(found[10], StatusUnavailable)
    assert found[10].reason == (
        "cannot list the jobs of project no-such-project: Google knows no such thing: Field: parent Error: The project "
        "no-such-project was not found, or is not visible to you."
    )


def test_a_denied_list_decides_nothing_and_says_why(service: MlV1, platform: CaipPlatform) -> None:
    service.forbidden.add("ml.jobs.list")
    found = platform.statuses(jobs_at(service, 3))
    assert {type(seen) for seen in found.values()} == {StatusUnavailable}
    assert "Permission 'ml.jobs.list' denied" in str(found[1])
    assert asked(service) == (1, 0)


def test_a_list_that_is_not_understood_is_replaced_by_single_questions(service: MlV1, platform: CaipPlatform) -> None:
    jobs = jobs_at(service, 3)
    service.faults.add(Fault(LIST, "status", status=400, message="Invalid filter."))
    assert platform.statuses(jobs) == {job.id: JobUpdate(JobStatus.SUBMITTED) for job in jobs}
    assert asked(service) == (1, 3)


def test_one_failed_question_leaves_the_other_jobs_known(service: MlV1, platform: CaipPlatform) -> None:
    jobs = jobs_at(service, 2)
    service.faults.add(Fault(GET, "status", status=403, message="Not this one."))
    kinds = sorted(type(seen).__name__ for seen in platform.statuses(jobs).values())
    assert kinds == ["JobUpdate", "StatusUnavailable"]


def test_a_service_that_fails_decides_nothing(service: MlV1, key: Path) -> None:
    service.faults.add(Fault("*", "status", times=10_000))
    failing = CaipPlatform(platform_context(service=service, cloud_key=key), SHORT)
    [seen] = failing.statuses([job_view()]).values()
    assert isinstance(seen, StatusUnavailable)


def test_a_missing_key_decides_nothing_and_says_why(service: MlV1, tmp_path: Path) -> None:
    lost = CaipPlatform(platform_context(service=service, cloud_key=tmp_path / "gone.json"))
    found = lost.statuses([job_view(f"a_{number}", id=number) for number in range(3)])
    assert found[0] == StatusUnavailable(f"there is no credentials file {tmp_path / 'gone.json'}")


def test_a_passing_failure_is_not_seen_at_all(service: MlV1, platform: CaipPlatform) -> None:
    service.faults.add(Fault(LIST, "status", times=2, status=503))
    found = platform.statuses(jobs_at(service, 3))
    assert found[3] == JobUpdate(JobStatus.SUBMITTED)
