from __future__ import annotations

import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.errors import CalibanError, PlatformError
from caliban.platforms.base import NotSentError, RefusedError
from caliban.platforms.caip.platform import CaipPlatform
from caliban.platforms.google.errors import GoogleError
from caliban.records import JobStatus, NewJob
from tests.platforms.caip.helpers import (
    IMAGE,
    NAME,
    PEER_SPEC,
    PROJECT,
    QUICK,
    SHORT,
    TOKEN,
    HeardReporter,
    body,
    job_view,
    platform_context,
    submission,
)
from tests.standins.faults import Fault
from tests.standins.ml_v1 import MlV1
from tests.standins.training import Quota

CREATE, GET = "ml.projects.jobs.create", "ml.projects.jobs.get"
OURS = {"caliban_token": TOKEN}
DETAILS = {"jobId": NAME, "project_id": PROJECT}


def calls(service: MlV1) -> tuple[int, int]:
    """How often a job was submitted, and looked up."""
    return service.counts[CREATE], service.counts[GET]


def test_the_recorded_spec_is_sent_with_its_full_name_and_the_token(service: MlV1, platform: CaipPlatform) -> None:
    new = platform.submit(PEER_SPEC, submission())
    assert new == NewJob(IMAGE, JobStatus.SUBMITTED, DETAILS)
    assert service.bodies(CREATE) == [
        {
            "jobId": "caliban_totoro_20200529_110259_1",
            "labels": {
                "gpu_enabled": "false",
                "tpu_enabled": "false",
                "job_name": "caliban_totoro",
                "docker_image": "gcr_iototoro-projectcffd1475aacalatest",
                "foo": "3",
                "caliban_token": "0123456789abcdef",
            },
            "trainingInput": {
                "masterConfig": {
                    "imageUri": "gcr.io/totoro-project/cffd1475aaca:latest",
                    "acceleratorConfig": {"count": 0, "type": "ACCELERATOR_TYPE_UNSPECIFIED"},
                },
                "scaleTier": "CUSTOM",
                "masterType": "n1-highcpu-32",
                "region": "us-central1",
                "args": ["--foo", "3", "--sleep", "1"],
            },
        }
    ]


def test_a_submission_is_one_request(service: MlV1, platform: CaipPlatform) -> None:
    platform.submit(PEER_SPEC, submission())
    assert calls(service) == (1, 0)


def test_it_goes_to_the_project_that_was_written_down(service: MlV1, platform: CaipPlatform) -> None:
    new = platform.submit(PEER_SPEC, submission(project="wonder-project"))
    assert new.details["project_id"] == "wonder-project"
    assert [job.project for job in service.jobs.all()] == ["wonder-project"]


def test_submitting_twice_with_one_token_adopts_the_first_job(service: MlV1, platform: CaipPlatform) -> None:
    first, second = platform.submit(PEER_SPEC, submission()), platform.submit(PEER_SPEC, submission())
    assert first == second
    assert len(service.jobs.all()) == 1


def test_another_jobs_name_is_left_alone_and_the_next_one_taken(service: MlV1, platform: CaipPlatform) -> None:
    service.jobs.create(PROJECT, body(labels={"caliban_token": "another"}))
    new = platform.submit(PEER_SPEC, submission())
    assert new.details["jobId"] == f"{NAME}_012345"
    assert [job.id for job in service.jobs.all()] == [NAME, f"{NAME}_012345"]


def test_a_job_that_took_the_next_name_is_found_again(service: MlV1, platform: CaipPlatform) -> None:
    service.jobs.create(PROJECT, body(labels={"caliban_token": "another"}))
    assert platform.find(submission()) is None
    new = platform.submit(PEER_SPEC, submission())
    assert platform.find(submission()) == new


def test_when_every_name_is_taken_the_error_says_so(service: MlV1, platform: CaipPlatform) -> None:
    for end in ("", "_012345", "_0123456789abcdef"):
        service.jobs.create(PROJECT, body(NAME + end))
    with pytest.raises(RefusedError) as caught:
        platform.submit(PEER_SPEC, submission())
    assert caught.value.id == "job-name-taken"
    assert caught.value.message == f"cannot submit the job {NAME}: other jobs of project {PROJECT} have its names"
    assert platform.find(submission()) is None


def test_after_a_lost_answer_the_job_is_looked_up_before_it_is_asked_for_again(
    service: MlV1, platform: CaipPlatform
) -> None:
    service.faults.add(Fault(CREATE, "drop"))
    assert platform.submit(PEER_SPEC, submission()).details == DETAILS
    assert calls(service) == (1, 1)


def test_after_a_timeout_the_job_is_looked_up(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(CREATE, "delay", seconds=1))
    hurried = CaipPlatform(platform_context(service=service, cloud_key=key), replace(QUICK, read_timeout=0.3))
    hurried.submit(PEER_SPEC, submission())
    assert len(service.jobs.all()) == 1


def test_a_broken_connection_without_a_job_is_followed_by_another_request(
    service: MlV1, platform: CaipPlatform
) -> None:
    service.faults.add(Fault(CREATE, "refuse"))
    platform.submit(PEER_SPEC, submission())
    assert calls(service) == (2, 1)


def test_a_failing_service_is_asked_again_after_looking(service: MlV1, platform: CaipPlatform) -> None:
    service.faults.add(Fault(CREATE, "status", times=2, status=503))
    platform.submit(PEER_SPEC, submission())
    assert calls(service) == (3, 2)


def test_a_lost_answer_under_a_taken_name_leads_to_the_next_name(service: MlV1, platform: CaipPlatform) -> None:
    service.jobs.create(PROJECT, body(labels={"caliban_token": "another"}))
    service.faults.add(Fault(CREATE, "refuse"))
    assert platform.submit(PEER_SPEC, submission()).details["jobId"] == f"{NAME}_012345"


def test_a_quota_is_waited_for_without_looking(service: MlV1, platform: CaipPlatform) -> None:
    service.faults.add(Fault(CREATE, "status", times=2, status=429))
    platform.submit(PEER_SPEC, submission())
    assert calls(service) == (3, 0)


def test_a_quota_that_stays_used_up_is_a_refusal_in_googles_words(key: Path, tmp_path: Path) -> None:
    with MlV1(quota=Quota(submissions=1, window_s=600)) as service:
        busy = CaipPlatform(
            platform_context(service=service, cloud_key=service.write_key_file(tmp_path / "other.json")), SHORT
        )
        busy.submit(PEER_SPEC, submission())
        with pytest.raises(RefusedError) as caught:
            busy.submit(PEER_SPEC, submission("caliban_totoro_20200529_110259_2", "fedcba9876543210"))
    assert caught.value.id == "google-quota-exhausted"
    assert str(caught.value.cause).startswith("Quota exceeded for quota metric 'Job submission requests'.")
    assert "the service asks to wait" in str(caught.value.cause)


def test_waiting_for_a_quota_is_told_once(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(CREATE, "status", times=3, status=429))
    heard = HeardReporter()
    CaipPlatform(platform_context(service=service, cloud_key=key, reporter=heard), QUICK).submit(
        PEER_SPEC, submission()
    )
    assert heard.lines == ["AI Platform takes only so many requests a minute; the others wait for their turn ..."]


def test_a_quota_that_one_job_waited_for_in_vain_is_not_waited_for_by_the_next(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(CREATE, "status", times=1000, status=429))
    platform = CaipPlatform(platform_context(service=service, cloud_key=key), replace(QUICK, quota_deadline=0.5))
    with pytest.raises(RefusedError):
        platform.submit(PEER_SPEC, submission())
    asked = calls(service)[0]
    with pytest.raises(RefusedError):
        platform.submit(PEER_SPEC, submission("caliban_totoro_20200529_110259_2", "fedcba9876543210"))
    assert calls(service)[0] - asked == 1


def test_waiting_for_a_quota_ends_when_the_person_wants_to_stop(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(CREATE, "status", times=1000, status=429, retry_after="5"))
    around = platform_context(service=service, cloud_key=key)
    around.stopping.set()
    with pytest.raises(NotSentError):
        CaipPlatform(around, QUICK).submit(PEER_SPEC, submission())


def test_a_denied_permission_is_a_refusal_with_the_jobs_name_to_record(service: MlV1, platform: CaipPlatform) -> None:
    service.forbidden.add("ml.jobs.create")
    with pytest.raises(RefusedError) as caught:
        platform.submit(PEER_SPEC, submission())
    assert caught.value.id == "google-permission-denied"
    assert caught.value.details == DETAILS
    assert "Permission 'ml.jobs.create' denied" in str(caught.value.cause)


def test_a_spec_that_the_service_does_not_accept_is_a_refusal(service: MlV1, platform: CaipPlatform) -> None:
    spec = {**PEER_SPEC, "trainingInput": {**PEER_SPEC["trainingInput"], "scaleTier": "LARGE"}}
    with pytest.raises(RefusedError) as caught:
        platform.submit(spec, submission())
    assert "Invalid value at 'job.training_input.scale_tier'" in str(caught.value.cause)


def test_refused_credentials_are_a_refusal_since_nothing_was_sent(service: MlV1, platform: CaipPlatform) -> None:
    service.account.refusal = ("invalid_grant", "Token has been expired or revoked.")
    with pytest.raises(RefusedError) as caught:
        platform.submit(PEER_SPEC, submission())
    assert caught.value.cause == "invalid_grant: Token has been expired or revoked."
    assert service.counts[CREATE] == 0


def test_a_missing_key_is_a_refusal_since_nothing_was_sent(service: MlV1, tmp_path: Path) -> None:
    lost = CaipPlatform(platform_context(service=service, cloud_key=tmp_path / "gone.json"), QUICK)
    with pytest.raises(RefusedError) as caught:
        lost.submit(PEER_SPEC, submission())
    assert caught.value.id == "key-not-found"


def test_a_service_that_keeps_failing_leaves_the_submission_in_doubt(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(CREATE, "status", times=1000, status=503))
    with pytest.raises(GoogleError) as caught:
        CaipPlatform(platform_context(service=service, cloud_key=key), SHORT).submit(PEER_SPEC, submission())
    assert caught.value.id == "google-unavailable"


def test_a_refusal_after_a_lost_answer_leaves_the_submission_in_doubt(service: MlV1, platform: CaipPlatform) -> None:
    service.faults.add(Fault(CREATE, "refuse"))
    service.faults.add(Fault(CREATE, "status", status=403, message="not any more"))
    with pytest.raises(CalibanError) as caught:
        platform.submit(PEER_SPEC, submission())
    assert not isinstance(caught.value, RefusedError)


def test_a_lost_answer_that_cannot_be_looked_up_leaves_the_submission_in_doubt(
    service: MlV1, platform: CaipPlatform
) -> None:
    service.faults.add(Fault(CREATE, "drop"))
    service.forbidden.add("ml.jobs.get")
    with pytest.raises(CalibanError) as caught:
        platform.submit(PEER_SPEC, submission())
    assert not isinstance(caught.value, RefusedError)
    service.forbidden.clear()
    assert platform.find(submission()) == NewJob(IMAGE, JobStatus.SUBMITTED, DETAILS)


def test_a_taken_name_whose_job_cannot_be_seen_leaves_the_submission_in_doubt(
    service: MlV1, platform: CaipPlatform
) -> None:
    service.faults.add(Fault(CREATE, "status", status=409, message="A job with this id already exists."))
    with pytest.raises(GoogleError) as caught:
        platform.submit(PEER_SPEC, submission())
    assert caught.value.id == "google-conflict"
    assert not isinstance(caught.value, RefusedError)


def test_a_spec_without_an_image_is_told_before_anything_is_sent(service: MlV1, platform: CaipPlatform) -> None:
    with pytest.raises(PlatformError) as caught:
        platform.submit({"jobId": "x", "trainingInput": {"masterConfig": {}}}, submission())
    assert caught.value.id == "malformed-job-spec"
    assert service.counts[CREATE] == 0


def test_many_threads_submit_many_jobs_with_one_token_request(service: MlV1, platform: CaipPlatform) -> None:
    tokens = [f"{number:016x}" for number in range(24)]
    threads = [
        threading.Thread(target=platform.submit, args=(PEER_SPEC, submission(f"{NAME}{number}", token)))
        for number, token in enumerate(tokens)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {job.body["labels"]["caliban_token"] for job in service.jobs.all()} == set(tokens)
    assert (service.counts["oauth.token"], service.counts[CREATE]) == (1, 24)


@pytest.mark.parametrize(
    ("state", "expected"), [("RUNNING", JobStatus.RUNNING), ("STATE_UNSPECIFIED", JobStatus.UNKNOWN)]
)
def test_a_job_is_found_with_its_present_state(
    service: MlV1, platform: CaipPlatform, state: str, expected: JobStatus
) -> None:
    platform.submit(PEER_SPEC, submission())
    service.jobs.set_state(NAME, state)
    assert platform.find(submission()) == NewJob(IMAGE, expected, DETAILS)


def test_a_job_that_never_arrived_is_not_found(platform: CaipPlatform) -> None:
    assert platform.find(submission()) is None


def test_a_service_that_cannot_be_asked_for_a_job_is_an_error(service: MlV1, platform: CaipPlatform) -> None:
    service.forbidden.add("ml.jobs.get")
    with pytest.raises(GoogleError):
        platform.find(submission())


def test_a_name_is_base_time_and_index_of_the_recorded_one(platform: CaipPlatform) -> None:
    assert re.fullmatch(r"caliban_totoro_\d{8}_\d{6}_1", platform.job_name(PEER_SPEC, TOKEN))


def test_siblings_with_one_recorded_name_are_asked_for_under_different_names(platform: CaipPlatform) -> None:
    names = {platform.job_name(PEER_SPEC, f"{number:016x}"[::-1]) for number in range(10)}
    assert len(names) == 10


def test_a_running_job_is_cancelled(service: MlV1, platform: CaipPlatform) -> None:
    platform.submit(PEER_SPEC, submission())
    platform.stop(job_view())
    assert service.jobs.find(NAME).state == "CANCELLED"
    assert service.bodies("ml.projects.jobs.cancel") == [{}]


def test_a_job_that_has_ended_is_left_alone(service: MlV1, platform: CaipPlatform) -> None:
    platform.submit(PEER_SPEC, submission())
    service.jobs.set_state(NAME, "SUCCEEDED")
    platform.stop(job_view())
    assert service.jobs.find(NAME).state == "SUCCEEDED"


def test_a_job_that_cannot_be_cancelled_though_it_runs_is_told(service: MlV1, platform: CaipPlatform) -> None:
    platform.submit(PEER_SPEC, submission())
    service.faults.add(Fault("ml.projects.jobs.cancel", "status", status=400, message="Not now."))
    with pytest.raises(GoogleError) as caught:
        platform.stop(job_view())
    assert caught.value.message == (
        f"cannot stop the job {NAME} of project {PROJECT}: Google does not accept the request"
    )
    assert caught.value.cause == "Not now."


def test_a_job_that_the_service_forgot_cannot_be_stopped(platform: CaipPlatform) -> None:
    with pytest.raises(GoogleError) as caught:
        platform.stop(job_view())
    assert caught.value.id == "google-not-found"


def test_a_job_whose_name_is_not_recorded_cannot_be_stopped(platform: CaipPlatform) -> None:
    with pytest.raises(PlatformError) as caught:
        platform.stop(job_view(None))
    assert caught.value.id == "malformed-job-details"


def test_connecting_fetches_a_token(service: MlV1, platform: CaipPlatform) -> None:
    platform.connect({"project": PROJECT})
    assert service.counts["oauth.token"] == 1


def test_a_re_run_goes_to_the_recorded_project(platform: CaipPlatform, reporter: HeardReporter) -> None:
    assert platform.target(job_view(project="wonder-project")) == {"project": "wonder-project"}
    assert reporter.lines == []


def test_an_experiment_without_a_job_goes_to_the_project_of_the_credentials(platform: CaipPlatform) -> None:
    assert platform.target(None) == {"project": PROJECT}


def test_a_recorded_project_wins_over_the_environment_and_says_so_once(reporter: HeardReporter) -> None:
    platform = CaipPlatform(platform_context({"PROJECT_ID": "wonder-project"}, reporter=reporter))
    assert [platform.target(job_view()) for _ in range(2)] == [{"project": PROJECT}] * 2
    assert reporter.lines == [
        "jobs of project totoro-project are re-run there, not in wonder-project; --project_id moves them"
    ]


def test_the_flag_moves_a_re_run_to_another_project_and_says_so(reporter: HeardReporter) -> None:
    platform = CaipPlatform(platform_context(project_id="wonder-project", reporter=reporter))
    assert platform.target(job_view()) == {"project": "wonder-project"}
    assert reporter.lines == [
        "jobs of project totoro-project are re-run in project wonder-project, as --project_id says"
    ]
