from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import CalibanError, PlatformError
from caliban.platforms.base import NotSentError, RefusedError
from caliban.platforms.google.errors import GoogleError
from caliban.platforms.vertex.platform import VertexPlatform
from caliban.records import JobStatus, NewJob
from tests.platforms.caip.helpers import HeardReporter
from tests.platforms.vertex.helpers import (
    IMAGE,
    NAME,
    PROJECT,
    QUICK,
    REGION,
    SHORT,
    SPEC,
    TOKEN,
    body,
    job_view,
    platform_context,
    submission,
)
from tests.standins.aiplatform_v1 import AiplatformV1
from tests.standins.faults import Fault, Kind
from tests.standins.training import Quota

JOBS = "aiplatform.projects.locations.customJobs"
CREATE, GET, LIST, CANCEL = f"{JOBS}.create", f"{JOBS}.get", f"{JOBS}.list", f"{JOBS}.cancel"
OTHER_NAME, OTHER_TOKEN = "caliban_totoro_20261125_110259_2", "fedcba9876543210"


def details(service: AiplatformV1, name: str = NAME) -> dict[str, str]:
    """What is recorded of the one job of that display name."""
    return {
        "project_id": PROJECT,
        "region": REGION,
        "name": service.jobs.find(name).name,
        "displayName": name,
    }


def test_the_recorded_spec_is_sent_with_its_full_name_and_the_token(
    service: AiplatformV1, platform: VertexPlatform
) -> None:
    new = platform.submit(SPEC, submission())
    assert new == NewJob(IMAGE, JobStatus.SUBMITTED, details(service))
    assert service.bodies(CREATE) == [
        {
            "displayName": "caliban_totoro_20261125_110259_1",
            "labels": {
                "gpu_enabled": "false",
                "tpu_enabled": "false",
                "job_name": "caliban_totoro",
                "docker_image": "us-docker_pkg_devtotoro-projectlabcffd1475aacalatest",
                "foo": "3",
                "caliban_token": "0123456789abcdef",
            },
            "jobSpec": {
                "workerPoolSpecs": [
                    {
                        "machineSpec": {"machineType": "e2-standard-8"},
                        "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 100},
                        "containerSpec": {"imageUri": IMAGE, "args": ["--foo", "3"]},
                        "replicaCount": "1",
                    }
                ]
            },
        }
    ]


def test_a_submission_is_one_request(service: AiplatformV1, platform: VertexPlatform) -> None:
    platform.submit(SPEC, submission())
    assert (service.counts[CREATE], service.counts[LIST], service.counts[GET]) == (1, 0, 0)


def test_it_goes_to_the_project_and_region_that_were_written_down(
    service: AiplatformV1, platform: VertexPlatform
) -> None:
    new = platform.submit(SPEC, submission(project="wonder-project", region="europe-west4"))
    assert (new.details["project_id"], new.details["region"]) == ("wonder-project", "europe-west4")
    assert [(job.project, job.location) for job in service.jobs.all()] == [("wonder-project", "europe-west4")]


def test_submitting_twice_with_one_token_adopts_the_first_job(service: AiplatformV1, platform: VertexPlatform) -> None:
    service.jobs.lag_s = 0.2
    first, second = platform.submit(SPEC, submission()), platform.submit(SPEC, submission())
    assert first == second
    assert len(service.jobs.all()) == 1


@pytest.mark.parametrize("kind", ["drop", "garbage"])
def test_after_a_lost_answer_the_job_is_found_by_its_token(
    service: AiplatformV1, platform: VertexPlatform, kind: Kind
) -> None:
    service.faults.add(Fault(CREATE, kind))
    assert platform.submit(SPEC, submission()) == NewJob(IMAGE, JobStatus.SUBMITTED, details(service))
    assert (service.counts[CREATE], service.counts[LIST]) == (1, 1)
    assert service.requests[-1].query["filter"] == f"labels.caliban_token={TOKEN}"


def test_a_job_that_the_list_shows_late_is_waited_for_and_not_submitted_again(service: AiplatformV1, key: Path) -> None:
    service.jobs.lag_s = 0.7
    service.faults.add(Fault(CREATE, "drop"))
    patient = VertexPlatform(platform_context(service=service, cloud_key=key), replace(QUICK, consistency_delay=5))
    patient.submit(SPEC, submission())
    assert service.counts[CREATE] == 1
    assert service.counts[LIST] > 1


def test_after_a_timeout_the_job_is_looked_up(service: AiplatformV1, key: Path) -> None:
    service.faults.add(Fault(CREATE, "delay", seconds=1))
    hurried = VertexPlatform(
        platform_context(service=service, cloud_key=key), replace(QUICK, read_timeout=0.3, consistency_delay=5)
    )
    hurried.submit(SPEC, submission())
    assert len(service.jobs.all()) == 1


def test_a_request_that_never_arrived_is_sent_again_once_the_list_has_settled(
    service: AiplatformV1, platform: VertexPlatform
) -> None:
    service.faults.add(Fault(CREATE, "refuse"))
    begun = time.monotonic()
    platform.submit(SPEC, submission())
    assert time.monotonic() - begun >= QUICK.consistency_delay
    assert (service.counts[CREATE], len(service.jobs.all())) == (2, 1)


def test_a_job_that_turns_up_after_it_was_sent_again_stays_and_the_later_one_is_cancelled(
    service: AiplatformV1, platform: VertexPlatform, reporter: HeardReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = service.jobs.create

    def create_and_catch_up(project: str, location: str, sent: Mapping[str, Any]) -> dict[str, Any]:
        service.jobs.lag_s = 3600 if service.counts[CREATE] == 1 else 0
        return create(project, location, sent)

    monkeypatch.setattr(service.jobs, "create", create_and_catch_up)
    service.faults.add(Fault(CREATE, "drop"))
    new = platform.submit(SPEC, submission())
    first, second = service.jobs.all()
    assert (new.details["name"], first.state, second.state) == (first.name, "JOB_STATE_PENDING", "JOB_STATE_CANCELLING")
    assert reporter.lines == [f"warning: the job {second.name} was one too many, and is stopped"]


def test_a_surplus_job_that_cannot_be_stopped_is_told(
    service: AiplatformV1, platform: VertexPlatform, reporter: HeardReporter
) -> None:
    for _ in range(2):
        service.jobs.create(PROJECT, REGION, body(token=TOKEN))
    service.forbidden.add("aiplatform.customJobs.cancel")
    platform.find(submission())
    [line] = reporter.lines
    assert line.startswith(
        f"warning: the job {service.jobs.all()[1].name} is one too many, and still runs: cannot stop"
    )


def test_a_surplus_job_that_has_ended_is_left_alone(service: AiplatformV1, platform: VertexPlatform) -> None:
    for _ in range(2):
        service.jobs.create(PROJECT, REGION, body(token=TOKEN))
    service.jobs.set_state(service.jobs.all()[1].name, "JOB_STATE_FAILED")
    platform.find(submission())
    assert service.counts[CANCEL] == 0


def test_a_quota_is_waited_for_without_looking(service: AiplatformV1, platform: VertexPlatform) -> None:
    service.faults.add(Fault(CREATE, "status", times=2, status=429))
    platform.submit(SPEC, submission())
    assert (service.counts[CREATE], service.counts[LIST]) == (3, 0)


def test_a_quota_that_stays_used_up_is_a_refusal_in_googles_words(tmp_path: Path) -> None:
    with AiplatformV1(quota=Quota(submissions=1, window_s=600)) as service:
        busy = VertexPlatform(
            platform_context(service=service, cloud_key=service.write_key_file(tmp_path / "other.json")), SHORT
        )
        busy.submit(SPEC, submission())
        with pytest.raises(RefusedError) as caught:
            busy.submit(SPEC, submission(OTHER_NAME, OTHER_TOKEN))
    assert caught.value.id == "google-quota-exhausted"
    assert "Resource management (CRUD) requests" in str(caught.value.cause)


def test_waiting_for_a_quota_is_told_once(
    service: AiplatformV1, platform: VertexPlatform, reporter: HeardReporter
) -> None:
    service.faults.add(Fault(CREATE, "status", times=3, status=429))
    platform.submit(SPEC, submission())
    assert reporter.lines == ["Vertex AI takes only so many requests a minute; the others wait for their turn ..."]


def test_waiting_for_a_quota_ends_when_the_person_wants_to_stop(service: AiplatformV1, key: Path) -> None:
    service.faults.add(Fault(CREATE, "status", times=1000, status=429, retry_after="5"))
    around = platform_context(service=service, cloud_key=key)
    around.stopping.set()
    with pytest.raises(NotSentError):
        VertexPlatform(around, QUICK).submit(SPEC, submission())


def test_waiting_for_the_list_ends_in_doubt_when_the_person_wants_to_stop(service: AiplatformV1, key: Path) -> None:
    service.faults.add(Fault(CREATE, "refuse"))
    around = platform_context(service=service, cloud_key=key)
    around.stopping.set()
    with pytest.raises(GoogleError) as caught:
        VertexPlatform(around, replace(QUICK, consistency_delay=600)).submit(SPEC, submission())
    assert caught.value.id == "google-unreachable"
    assert service.counts[CREATE] == 1


def test_a_denied_permission_is_a_refusal_with_the_jobs_place_and_name_to_record(
    service: AiplatformV1, platform: VertexPlatform
) -> None:
    service.forbidden.add("aiplatform.customJobs.create")
    with pytest.raises(RefusedError) as caught:
        platform.submit(SPEC, submission())
    assert caught.value.id == "google-permission-denied"
    assert caught.value.details == {"project_id": PROJECT, "region": REGION, "displayName": NAME}
    assert "Permission 'aiplatform.customJobs.create' denied" in str(caught.value.cause)


def test_an_api_that_is_not_enabled_is_a_refusal_with_googles_advice(
    service: AiplatformV1, platform: VertexPlatform
) -> None:
    service.disabled.add(PROJECT)
    with pytest.raises(RefusedError) as caught:
        platform.submit(SPEC, submission())
    assert "Vertex AI API has not been used in project" in str(caught.value.cause)


def test_a_spec_that_the_service_does_not_accept_is_a_refusal(service: AiplatformV1, platform: VertexPlatform) -> None:
    with pytest.raises(RefusedError) as caught:
        platform.submit({**SPEC, "jobSpec": {**SPEC["jobSpec"], "serviceAccount": "me"}}, submission())
    assert "The service account must be given by its email address." in str(caught.value.cause)
    assert service.counts[LIST] == 0


def test_refused_credentials_are_a_refusal_since_nothing_was_sent(
    service: AiplatformV1, platform: VertexPlatform
) -> None:
    service.account.refusal = ("invalid_grant", "Token has been expired or revoked.")
    with pytest.raises(RefusedError):
        platform.submit(SPEC, submission())
    assert service.counts[CREATE] == 0


def test_a_service_that_keeps_failing_leaves_the_submission_in_doubt(service: AiplatformV1, key: Path) -> None:
    service.faults.add(Fault(CREATE, "status", times=1000, status=503))
    with pytest.raises(GoogleError) as caught:
        VertexPlatform(platform_context(service=service, cloud_key=key), SHORT).submit(SPEC, submission())
    assert caught.value.id == "google-unavailable"
    assert not isinstance(caught.value, RefusedError)


def test_a_refusal_after_a_lost_answer_leaves_the_submission_in_doubt(
    service: AiplatformV1, platform: VertexPlatform
) -> None:
    service.faults.add(Fault(CREATE, "refuse"))
    service.faults.add(Fault(CREATE, "status", status=403, message="not any more"))
    with pytest.raises(GoogleError) as caught:
        platform.submit(SPEC, submission())
    assert not isinstance(caught.value, RefusedError)


def test_a_lost_answer_that_cannot_be_looked_up_leaves_the_submission_in_doubt(
    service: AiplatformV1, platform: VertexPlatform
) -> None:
    service.faults.add(Fault(CREATE, "drop"))
    service.forbidden.add("aiplatform.customJobs.list")
    with pytest.raises(CalibanError) as caught:
        platform.submit(SPEC, submission())
    assert not isinstance(caught.value, RefusedError)
    service.forbidden.clear()
    assert platform.find(submission()) == NewJob(IMAGE, JobStatus.SUBMITTED, details(service))


def test_a_spec_without_an_image_is_told_before_anything_is_sent(
    service: AiplatformV1, platform: VertexPlatform
) -> None:
    with pytest.raises(PlatformError) as caught:
        platform.submit({"displayName": "x", "jobSpec": {"workerPoolSpecs": [{"containerSpec": {}}]}}, submission())
    assert caught.value.id == "malformed-job-spec"
    assert service.requests == []


def test_many_threads_submit_many_jobs_with_one_token_request(service: AiplatformV1, platform: VertexPlatform) -> None:
    tokens = [f"{number:016x}" for number in range(24)]
    threads = [
        threading.Thread(target=platform.submit, args=(SPEC, submission(f"{NAME}{number}", token)))
        for number, token in enumerate(tokens)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {job.labels["caliban_token"] for job in service.jobs.all()} == set(tokens)
    assert (service.counts["oauth.token"], service.counts[CREATE]) == (1, 24)


def test_a_name_is_base_time_and_index_of_the_recorded_one(platform: VertexPlatform) -> None:
    assert re.fullmatch(r"caliban_totoro_\d{8}_\d{6}_1", platform.job_name(SPEC, TOKEN))


def test_siblings_with_one_recorded_name_are_asked_for_under_different_names(platform: VertexPlatform) -> None:
    assert len({platform.job_name(SPEC, f"{number:016x}"[::-1]) for number in range(10)}) == 10


def test_connecting_fetches_a_token(service: AiplatformV1, platform: VertexPlatform) -> None:
    platform.connect({})
    assert (service.counts["oauth.token"], len(service.requests)) == (1, 1)


def test_a_re_run_goes_to_the_recorded_project_and_region(platform: VertexPlatform, reporter: HeardReporter) -> None:
    last = job_view(project="wonder-project", region="europe-west4")
    assert platform.target(last) == {"project": "wonder-project", "region": "europe-west4"}
    assert reporter.lines == []


def test_an_experiment_without_a_job_goes_to_the_project_of_the_credentials(platform: VertexPlatform) -> None:
    assert platform.target(None) == {"project": PROJECT, "region": "us-central1"}


def test_the_environment_names_the_region_of_what_has_none(service: AiplatformV1, key: Path) -> None:
    platform = VertexPlatform(platform_context({"REGION": "asia-east1"}, service=service, cloud_key=key))
    assert [platform.target(job)["region"] for job in (None, job_view())] == ["asia-east1", "us-central1"]


def test_the_flag_moves_a_re_run_to_another_project_in_the_same_region(reporter: HeardReporter) -> None:
    platform = VertexPlatform(platform_context(project_id="wonder-project", reporter=reporter))
    assert platform.target(job_view(region="asia-east1")) == {"project": "wonder-project", "region": "asia-east1"}
    assert reporter.lines == [
        "jobs of project totoro-project are re-run in project wonder-project, as --project_id says"
    ]


def test_where_to_look_at_a_job_is_told_by_its_number(platform: VertexPlatform) -> None:
    assert platform.links(job_view()) == (
        "https://console.cloud.google.com/ai/platform/locations/us-central1/training/42?project=totoro-project",
        "gcloud ai custom-jobs stream-logs 42 --region us-central1 --project totoro-project",
    )
