"""What is special about submitting to Vertex AI: the service names jobs, and its lists show new ones late."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from caliban.platforms.base import RefusedError
from caliban.platforms.google.errors import GoogleError
from caliban.platforms.vertex.details import VertexDestination
from caliban.platforms.vertex.platform import VertexPlatform
from tests.fake_service import may_send
from tests.fakes import FakeClock
from tests.platforms.google.helpers import OTHER_TOKEN, POLICY, PROJECT, TOKEN
from tests.platforms.vertex.helpers import NAME, SPEC, VertexBackend, recorded_job, submission
from tests.standins.faults import Fault, Kind


def fail_creation(backend: VertexBackend, kind: Kind, **how: Any) -> None:
    backend.service.faults.add(Fault(backend.method("create"), kind, **how))


def test_the_place_and_both_names_of_a_job_are_recorded(backend: VertexBackend, platform: VertexPlatform) -> None:
    new = platform.submit(SPEC, submission(region="europe-west4"), may_send)
    [job] = backend.service.jobs.all()
    assert new.details.raw == {
        "project_id": PROJECT,
        "region": "europe-west4",
        "name": job.name,
        "displayName": NAME,
    }
    assert (job.project, job.location) == (PROJECT, "europe-west4")


def test_a_second_submission_with_the_same_token_waits_for_the_list(
    backend: VertexBackend, platform: VertexPlatform
) -> None:
    backend.service.jobs.lag_s = 7
    first, second = (platform.submit(SPEC, submission(), may_send) for _ in range(2))
    assert (first, len(backend.jobs())) == (second, 1)


@pytest.mark.parametrize("kind", ["drop", "garbage"])
def test_after_a_lost_answer_the_job_is_found_by_its_token(
    backend: VertexBackend, platform: VertexPlatform, kind: Kind
) -> None:
    fail_creation(backend, kind)
    assert platform.submit(SPEC, submission(), may_send).details.id == backend.service.jobs.find(NAME).name
    assert backend.counts("create", "list") == (1, 1)
    assert backend.service.requests[-1].query["filter"] == f"labels.caliban_token={TOKEN}"


def test_a_job_that_is_listed_late_is_waited_for_and_not_submitted_again(
    backend: VertexBackend, platform: VertexPlatform
) -> None:
    backend.service.jobs.lag_s = 7
    fail_creation(backend, "drop")
    platform.submit(SPEC, submission(), may_send)
    created, listed = backend.counts("create", "list")
    assert (created, listed > 1) == (1, True)


def test_a_request_that_never_arrived_is_sent_again_once_the_list_is_consistent(
    backend: VertexBackend, platform: VertexPlatform, clock: FakeClock
) -> None:
    fail_creation(backend, "refuse")
    platform.submit(SPEC, submission(), may_send)
    assert clock.seconds >= POLICY.consistency_delay
    assert (backend.counts("create"), len(backend.jobs())) == ((2,), 1)


def test_a_job_that_is_listed_after_a_second_request_is_kept_and_the_later_one_cancelled(
    backend: VertexBackend, platform: VertexPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = backend.service.jobs.create

    def create_and_catch_up(project: str, location: str, sent: Mapping[str, Any]) -> dict[str, Any]:
        backend.service.jobs.lag_s = 3600 if backend.counts("create") == (1,) else 0
        return create(project, location, sent)

    monkeypatch.setattr(backend.service.jobs, "create", create_and_catch_up)
    fail_creation(backend, "drop")
    new = platform.submit(SPEC, submission(), may_send)
    first, second = backend.service.jobs.all()
    assert (new.details.id, first.state, second.state) == (first.name, "JOB_STATE_PENDING", "JOB_STATE_CANCELLING")
    assert backend.reporter.warnings == [f"the job {second.name} was a duplicate and is being cancelled"]


def test_a_duplicate_that_cannot_be_cancelled_is_reported(backend: VertexBackend, platform: VertexPlatform) -> None:
    _, duplicate = (backend.accept(token=TOKEN) for _ in range(2))
    backend.service.forbidden.add(backend.permission("cancel"))
    platform.find(submission())
    [line] = backend.reporter.warnings
    assert line.startswith(f"the job {duplicate.details.id} is a duplicate and still runs: cannot stop")


def test_a_duplicate_that_has_ended_is_left_alone(backend: VertexBackend, platform: VertexPlatform) -> None:
    _, duplicate = (backend.accept(token=TOKEN) for _ in range(2))
    backend.set_state(duplicate, "FAILED")
    platform.find(submission())
    assert backend.counts("cancel") == (0,)


def test_when_the_user_stops_the_wait_for_the_list_the_outcome_is_unknown(
    backend: VertexBackend, platform: VertexPlatform
) -> None:
    fail_creation(backend, "refuse")
    platform.context.stopping.set()
    with pytest.raises(GoogleError) as caught:
        platform.submit(SPEC, submission(), may_send)
    assert (caught.value.id, backend.counts("create")) == ("google-unreachable", (1,))


def test_an_api_that_is_not_enabled_is_a_refusal_with_googles_advice(
    backend: VertexBackend, platform: VertexPlatform
) -> None:
    backend.service.disabled.add(PROJECT)
    with pytest.raises(RefusedError) as caught:
        platform.submit(SPEC, submission(), may_send)
    assert "Vertex AI API has not been used in project" in str(caught.value.cause)


def test_the_environment_sets_the_region_of_a_job_without_one(backend: VertexBackend) -> None:
    platform = backend.platform(environ={"REGION": "asia-east1"})
    assert [platform.destination(job).region for job in (None, recorded_job())] == ["asia-east1", "us-central1"]


def test_the_flag_for_the_project_keeps_the_region(backend: VertexBackend) -> None:
    platform = backend.platform(project_id="wonder-project")
    job = recorded_job(region="asia-east1")
    assert platform.destination(job) == VertexDestination("wonder-project", "asia-east1")


def test_a_platform_without_retries_of_its_own_uses_the_policy_it_is_given(backend: VertexBackend) -> None:
    impatient = backend.platform(replace(POLICY, deadline=0))
    fail_creation(backend, "status", times=2, status=503)
    with pytest.raises(GoogleError):
        impatient.submit(SPEC, submission(), may_send)
    assert backend.counts("create") == (1,)


def test_a_quota_of_gpus_is_a_refusal_at_once_in_googles_words(
    backend: VertexBackend, platform: VertexPlatform, clock: FakeClock
) -> None:
    backend.service.gpu_quota["NVIDIA_L4"] = 1
    spec = gpu_spec(2)
    with pytest.raises(RefusedError) as caught:
        platform.submit(spec, submission(), may_send)
    metric = "aiplatform.googleapis.com/custom_model_training_nvidia_l4_gpus"
    assert caught.value.id == "google-quota-exhausted"
    assert caught.value.cause == f"The following quota metrics exceed quota limits: {metric}"
    assert (backend.counts("create", "list"), clock.seconds, backend.reporter.lines) == ((1, 0), 0, [])


def test_after_a_quota_of_gpus_a_quota_of_requests_is_still_waited_for(
    backend: VertexBackend, platform: VertexPlatform
) -> None:
    backend.service.gpu_quota["NVIDIA_L4"] = 1
    with pytest.raises(RefusedError):
        platform.submit(gpu_spec(2), submission(), may_send)
    backend.service.faults.add(Fault(backend.method("create"), "status", times=3, status=429))
    platform.submit(gpu_spec(1), submission(token=OTHER_TOKEN), may_send)
    assert backend.counts("create") == (5,)


def gpu_spec(count: int) -> dict[str, Any]:
    [pool] = SPEC["jobSpec"]["workerPoolSpecs"]
    machine = {"machineType": "g2-standard-24", "acceleratorType": "NVIDIA_L4", "acceleratorCount": count}
    return {**SPEC, "jobSpec": {**SPEC["jobSpec"], "workerPoolSpecs": [{**pool, "machineSpec": machine}]}}
