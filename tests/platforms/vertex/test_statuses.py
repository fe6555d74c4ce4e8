"""What is special about states on Vertex AI."""

from __future__ import annotations

import pytest

from caliban.platforms.vertex.platform import VertexPlatform
from caliban.records import JobRecord, JobStatus, JobUpdate
from tests.platforms.vertex.helpers import VertexBackend, recorded_job


def raw_of(update: object) -> dict[str, object]:
    assert isinstance(update, JobUpdate)
    assert update.details is not None
    return dict(update.details.raw)


def test_a_new_job_is_pending(backend: VertexBackend, platform: VertexPlatform) -> None:
    assert platform.statuses([backend.accept()]) == {1: JobUpdate(JobStatus.SUBMITTED)}


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
def test_a_state_that_is_more_specific_than_ours_is_recorded_and_shown(
    backend: VertexBackend, platform: VertexPlatform, state: str, expected: JobStatus, reason: str
) -> None:
    job = backend.accept()
    backend.set_state(job, state.removeprefix("JOB_STATE_"))
    [update] = platform.statuses([job]).values()
    assert isinstance(update, JobUpdate)
    assert (update.status, job.updated(update).reason) == (expected, reason)
    assert raw_of(update)["state"] == state


def test_every_state_of_the_api_except_unspecified_is_known(backend: VertexBackend, platform: VertexPlatform) -> None:
    job = backend.accept()
    schema = backend.service.discovery.document["schemas"]["GoogleCloudAiplatformV1CustomJob"]
    for state in schema["properties"]["state"]["enum"]:
        backend.set_state(job, state.removeprefix("JOB_STATE_"))
        [update] = platform.statuses([job]).values()
        assert isinstance(update, JobUpdate) == (state != "JOB_STATE_UNSPECIFIED")


def test_the_first_line_of_an_error_is_recorded_with_its_cause(
    backend: VertexBackend, platform: VertexPlatform
) -> None:
    job = backend.accept()
    line = "The replica workerpool0-0 exited with a non-zero status of 1."
    backend.set_state(job, "FAILED", f"{line}\nSee logs.")
    raw = raw_of(platform.statuses([job])[1])
    assert (raw["reason"], raw["cause"]) == (line, "code_error")


def test_a_job_that_continues_is_no_longer_shown_as_paused(backend: VertexBackend, platform: VertexPlatform) -> None:
    name = str(backend.accept().details.id)
    paused = recorded_job(name, status=JobStatus.RUNNING, state="JOB_STATE_PAUSED", reason="paused")
    backend.set_state(paused, "RUNNING")
    [update] = platform.statuses([paused]).values()
    assert isinstance(update, JobUpdate)
    assert paused.updated(update).reason is None


def test_a_list_returns_no_more_than_is_read(backend: VertexBackend, platform: VertexPlatform) -> None:
    platform.statuses(backend.accept_many(100))
    assert backend.service.requests[-1].query == {
        "filter": 'display_name:"caliban_totoro_20261125_110259_*"',
        "readMask": "name,displayName,state,error,createTime,startTime,endTime,updateTime",
        "pageSize": "100",
        "alt": "json",
    }


def test_names_without_a_common_prefix_are_listed_by_the_label_that_all_jobs_have(
    backend: VertexBackend, platform: VertexPlatform
) -> None:
    platform.statuses([backend.accept(name, number) for number, name in enumerate(("ant", "bee", "cat"))])
    assert backend.service.requests[-1].query["filter"] == "labels.caliban_token:*"
    assert backend.counts("list", "get") == (1, 0)


def test_jobs_that_are_not_listed_yet_are_requested_one_by_one(
    backend: VertexBackend, platform: VertexPlatform
) -> None:
    backend.service.jobs.lag_s = 3600
    assert platform.statuses(backend.accept_many(3))[3] == JobUpdate(JobStatus.SUBMITTED)
    assert backend.counts("list", "get") == (1, 3)


def test_jobs_of_each_region_are_requested_there(backend: VertexBackend, platform: VertexPlatform) -> None:
    def accept_in(region: str, first: int) -> list[JobRecord]:
        return [backend.accept(f"caliban_{number}", number, region=region) for number in range(first, first + 3)]

    jobs = [*accept_in("us-central1", 1), *accept_in("europe-west4", 4)]
    backend.set_state(jobs[4], "PAUSED")
    update = platform.statuses(jobs)[5]
    assert isinstance(update, JobUpdate)
    assert update.status is JobStatus.RUNNING
    assert backend.counts("list", "get") == (2, 0)


def test_a_cancelled_job_is_stopping_until_it_has_ended(backend: VertexBackend, platform: VertexPlatform) -> None:
    job = backend.accept()
    update = platform.stop(job)
    assert (update.status, raw_of(update)["state"]) == (JobStatus.RUNNING, "JOB_STATE_CANCELLING")
    backend.service.jobs.end_cancelled()
    [after] = platform.statuses([job.updated(update)]).values()
    assert isinstance(after, JobUpdate)
    assert after.status is JobStatus.STOPPED
    assert "state" not in raw_of(after)
