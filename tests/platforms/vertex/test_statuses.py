from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from caliban.errors import PlatformError
from caliban.platforms.base import JobUpdate, StatusUnavailable
from caliban.platforms.google.errors import GoogleError
from caliban.platforms.vertex.platform import VertexPlatform
from caliban.records import JobRecord, JobStatus
from tests.platforms.vertex.helpers import PROJECT, REGION, SHORT, body, job_view, platform_context
from tests.standins.aiplatform_v1 import AiplatformV1
from tests.standins.faults import Fault

JOBS = "aiplatform.projects.locations.customJobs"
GET, LIST, CANCEL = f"{JOBS}.get", f"{JOBS}.list", f"{JOBS}.cancel"


def jobs_at(
    service: AiplatformV1, count: int, *, project: str = PROJECT, region: str = REGION, first: int = 1
) -> list[JobRecord]:
    """Jobs that the service has, as the store has them."""
    names = {number: f"caliban_totoro_20261125_110259_{number}" for number in range(first, first + count)}
    return [
        job_view(
            str(service.jobs.create(project, region, body(name, f"{number:016x}"))["name"]),
            id=number,
            display_name=name,
            project=project,
            region=region,
        )
        for number, name in names.items()
    ]


def asked(service: AiplatformV1) -> tuple[int, int]:
    """How many pages, and how many single jobs."""
    return service.counts[LIST], service.counts[GET]


def moved(service: AiplatformV1, job: JobRecord, state: str, error: str = "") -> None:
    service.jobs.set_state(str(job.details["name"]), state, error)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("JOB_STATE_QUEUED", JobStatus.SUBMITTED),
        ("JOB_STATE_PENDING", JobStatus.SUBMITTED),
        ("JOB_STATE_RUNNING", JobStatus.RUNNING),
        ("JOB_STATE_SUCCEEDED", JobStatus.SUCCEEDED),
        ("JOB_STATE_CANCELLED", JobStatus.STOPPED),
    ],
)
def test_each_state_of_the_service_is_one_of_ours(
    service: AiplatformV1, platform: VertexPlatform, state: str, expected: JobStatus
) -> None:
    [job] = jobs_at(service, 1)
    moved(service, job, state)
    assert platform.statuses([job]) == {1: JobUpdate(expected)}


@pytest.mark.parametrize(
    ("state", "expected", "reason"),
    [
        ("JOB_STATE_CANCELLING", JobStatus.RUNNING, "cancelling"),
        ("JOB_STATE_PAUSED", JobStatus.RUNNING, "paused"),
        ("JOB_STATE_UPDATING", JobStatus.RUNNING, "updating"),
        ("JOB_STATE_EXPIRED", JobStatus.FAILED, "expired"),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", JobStatus.FAILED, "partially succeeded"),
    ],
)
def test_a_state_that_says_more_than_ours_is_kept_and_shown(
    service: AiplatformV1, platform: VertexPlatform, state: str, expected: JobStatus, reason: str
) -> None:
    [job] = jobs_at(service, 1)
    moved(service, job, state)
    expected_details = {**job.details, "state": state, "reason": reason}
    assert platform.statuses([job]) == {1: JobUpdate(expected, expected_details)}


def test_every_state_of_the_api_but_the_unspecified_one_is_understood(
    service: AiplatformV1, platform: VertexPlatform
) -> None:
    [job] = jobs_at(service, 1)
    for state in service.discovery.document["schemas"]["GoogleCloudAiplatformV1CustomJob"]["properties"]["state"][
        "enum"
    ]:
        moved(service, job, state)
        [seen] = platform.statuses([job]).values()
        assert isinstance(seen, JobUpdate) == (state != "JOB_STATE_UNSPECIFIED")


def test_why_a_job_failed_is_learnt_with_its_state(service: AiplatformV1, platform: VertexPlatform) -> None:
    [job] = jobs_at(service, 1)
    moved(service, job, "JOB_STATE_FAILED", "The replica workerpool0-0 exited with a non-zero status of 1.\nSee logs.")
    reason = "The replica workerpool0-0 exited with a non-zero status of 1."
    assert platform.statuses([job]) == {1: JobUpdate(JobStatus.FAILED, {**job.details, "reason": reason})}


def test_what_is_known_of_a_failure_is_not_recorded_again(service: AiplatformV1, platform: VertexPlatform) -> None:
    [job] = jobs_at(service, 1)
    moved(service, job, "JOB_STATE_FAILED", "out of memory")
    known = replace(job, details={**job.details, "reason": "out of memory"})
    assert platform.statuses([known]) == {1: JobUpdate(JobStatus.FAILED)}


def test_a_job_that_goes_on_is_no_longer_shown_as_paused(service: AiplatformV1, platform: VertexPlatform) -> None:
    [job] = jobs_at(service, 1)
    moved(service, job, "JOB_STATE_RUNNING")
    paused = replace(job, details={**job.details, "state": "JOB_STATE_PAUSED", "reason": "paused"})
    assert platform.statuses([paused]) == {1: JobUpdate(JobStatus.RUNNING, job.details)}


def test_a_job_that_the_service_forgot_is_unknown(platform: VertexPlatform) -> None:
    assert platform.statuses([job_view()]) == {1: JobUpdate(JobStatus.UNKNOWN)}


def test_a_state_that_nobody_knows_decides_nothing(service: AiplatformV1, platform: VertexPlatform) -> None:
    [job] = jobs_at(service, 1)
    moved(service, job, "JOB_STATE_UNSPECIFIED")
    assert platform.statuses([job]) == {1: StatusUnavailable("Vertex AI tells an unknown state: JOB_STATE_UNSPECIFIED")}


def test_a_job_without_a_recorded_name_decides_nothing(service: AiplatformV1, platform: VertexPlatform) -> None:
    expected = StatusUnavailable("its project, its region and its name are not all recorded")
    assert platform.statuses([job_view(None)]) == {1: expected}
    assert service.requests == []


def test_two_jobs_are_asked_after_one_by_one(service: AiplatformV1, platform: VertexPlatform) -> None:
    platform.statuses(jobs_at(service, 2))
    assert asked(service) == (0, 2)


def test_a_hundred_jobs_are_one_page_with_no_more_than_is_read(service: AiplatformV1, platform: VertexPlatform) -> None:
    jobs = jobs_at(service, 100)
    assert platform.statuses(jobs) == {job.id: JobUpdate(JobStatus.SUBMITTED) for job in jobs}
    assert asked(service) == (1, 0)
    assert service.requests[-1].query == {
        "filter": 'display_name:"caliban_totoro_20261125_110259_*"',
        "readMask": "name,displayName,state,error",
        "pageSize": "100",
        "alt": "json",
    }


def test_others_jobs_are_not_listed(service: AiplatformV1, platform: VertexPlatform) -> None:
    jobs = jobs_at(service, 5)
    for number in range(300):
        service.jobs.create(PROJECT, REGION, body(f"someone_else_{number}"))
    platform.statuses(jobs)
    assert asked(service) == (1, 0)


def test_names_with_nothing_in_common_are_paged_by_the_label_that_all_jobs_carry(
    service: AiplatformV1, platform: VertexPlatform
) -> None:
    made = [service.jobs.create(PROJECT, REGION, body(name, "a")) for name in ("ant", "bee", "cat")]
    jobs = [job_view(job["name"], id=number, display_name=job["displayName"]) for number, job in enumerate(made)]
    platform.statuses(jobs)
    assert service.requests[-1].query["filter"] == "labels.caliban_token:*"
    assert asked(service) == (1, 0)


def test_several_pages_are_followed_to_the_last_wanted_job(service: AiplatformV1, platform: VertexPlatform) -> None:
    assert len(platform.statuses(jobs_at(service, 250))) == 250
    assert asked(service) == (3, 0)


def test_paging_ends_where_single_questions_cost_less(service: AiplatformV1, platform: VertexPlatform) -> None:
    jobs = jobs_at(service, 3)
    jobs_at(service, 500, first=1000)
    assert platform.statuses(jobs) == {job.id: JobUpdate(JobStatus.SUBMITTED) for job in jobs}
    assert asked(service) == (1, 3)


def test_jobs_that_the_list_does_not_show_yet_are_asked_after_one_by_one(
    service: AiplatformV1, platform: VertexPlatform
) -> None:
    service.jobs.lag_s = 3600
    jobs = jobs_at(service, 3)
    assert platform.statuses(jobs)[3] == JobUpdate(JobStatus.SUBMITTED)
    assert asked(service) == (1, 3)


def test_jobs_of_each_project_and_region_are_asked_for_there(service: AiplatformV1, platform: VertexPlatform) -> None:
    jobs = [
        *jobs_at(service, 3),
        *jobs_at(service, 3, project="wonder-project", first=4),
        *jobs_at(service, 3, region="europe-west4", first=7),
    ]
    moved(service, jobs[7], "JOB_STATE_RUNNING")
    assert platform.statuses(jobs)[8] == JobUpdate(JobStatus.RUNNING)
    assert asked(service) == (3, 0)


def test_a_project_that_is_closed_to_us_leaves_the_others_readable(
    service: AiplatformV1, platform: VertexPlatform
) -> None:
    lost = [job_view(id=10 + number, project="no-such-project") for number in range(3)]
    lost = [replace(job, details={**job.details, "name": f"x/{job.id}"}) for job in lost]
    found = platform.statuses([*lost, *jobs_at(service, 3)])
    assert found[1] == JobUpdate(JobStatus.SUBMITTED)
    assert isinstance(found[10], StatusUnavailable)
    assert found[10].reason == (
        "cannot list the jobs of project no-such-project in us-central1: permission denied: Permission denied on "
        "resource project no-such-project."
    )


def test_a_list_that_is_not_understood_is_replaced_by_single_questions(
    service: AiplatformV1, platform: VertexPlatform
) -> None:
    jobs = jobs_at(service, 3)
    service.faults.add(Fault(LIST, "status", status=400, message="Invalid filter."))
    assert platform.statuses(jobs) == {job.id: JobUpdate(JobStatus.SUBMITTED) for job in jobs}
    assert asked(service) == (1, 3)


def test_one_failed_question_leaves_the_other_jobs_known(service: AiplatformV1, platform: VertexPlatform) -> None:
    jobs = jobs_at(service, 2)
    service.faults.add(Fault(GET, "status", status=403, message="Not this one."))
    kinds = sorted(type(seen).__name__ for seen in platform.statuses(jobs).values())
    assert kinds == ["JobUpdate", "StatusUnavailable"]


def test_a_service_that_fails_decides_nothing(service: AiplatformV1, key: Path) -> None:
    service.faults.add(Fault("*", "status", times=10_000))
    failing = VertexPlatform(platform_context(service=service, cloud_key=key), SHORT)
    [seen] = failing.statuses([job_view()]).values()
    assert isinstance(seen, StatusUnavailable)


def test_a_running_job_is_cancelled_and_seen_to_be_ending(service: AiplatformV1, platform: VertexPlatform) -> None:
    [job] = jobs_at(service, 1)
    expected = {**job.details, "state": "JOB_STATE_CANCELLING", "reason": "cancelling"}
    assert platform.stop(job) == JobUpdate(JobStatus.RUNNING, expected)
    assert service.bodies(CANCEL) == [{}]


def test_a_job_that_was_cancelled_is_stopped(service: AiplatformV1, platform: VertexPlatform) -> None:
    [job] = jobs_at(service, 1)
    platform.stop(job)
    service.jobs.end_cancelled()
    assert platform.statuses([job]) == {1: JobUpdate(JobStatus.STOPPED)}


def test_a_job_that_has_ended_is_left_alone(service: AiplatformV1, platform: VertexPlatform) -> None:
    [job] = jobs_at(service, 1)
    moved(service, job, "JOB_STATE_SUCCEEDED")
    assert platform.stop(job) == JobUpdate(JobStatus.SUCCEEDED)


def test_a_job_that_cannot_be_cancelled_though_it_runs_is_told(service: AiplatformV1, platform: VertexPlatform) -> None:
    [job] = jobs_at(service, 1)
    service.faults.add(Fault(CANCEL, "status", status=400, message="Not now."))
    with pytest.raises(GoogleError) as caught:
        platform.stop(job)
    assert caught.value.cause == "Not now."


def test_a_job_that_the_service_forgot_cannot_be_stopped(platform: VertexPlatform) -> None:
    with pytest.raises(GoogleError) as caught:
        platform.stop(job_view())
    assert caught.value.id == "google-not-found"


def test_a_job_whose_name_is_not_recorded_cannot_be_stopped(platform: VertexPlatform) -> None:
    with pytest.raises(PlatformError) as caught:
        platform.stop(job_view(None))
    assert caught.value.id == "malformed-job-details"
