"""Why jobs of both training services failed: what their errors, codes and times say."""

from __future__ import annotations

from typing import Any

import pytest

from caliban.platforms.caip import details as caip
from caliban.platforms.google.details import exit_code, failure_cause, summary
from caliban.platforms.vertex import details as vertex
from caliban.platforms.vertex.platform import VertexPlatform
from caliban.records import FailureCause, JobStatus, JobUpdate
from tests.platforms.vertex.helpers import VertexBackend

CODE_ERROR, OUT_OF_MEMORY = FailureCause.CODE_ERROR, FailureCause.OUT_OF_MEMORY
INFRASTRUCTURE, IMAGE, REFUSED = FailureCause.INFRASTRUCTURE, FailureCause.IMAGE, FailureCause.REFUSED
TIMEOUT, PREEMPTED, UNKNOWN = FailureCause.TIMEOUT, FailureCause.PREEMPTED, FailureCause.UNKNOWN
FAILED, STOPPED = JobStatus.FAILED, JobStatus.STOPPED
STOCKOUT = "Resources are insufficient in region: us-central1. Try a different region or use a different accelerator."
RAW = {"project_id": "p", "region": "r", "name": "projects/1/locations/r/customJobs/42", "displayName": "lab_1"}


@pytest.mark.parametrize(
    ("message", "code", "cause"),
    [
        ("The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error. \nx", 3, CODE_ERROR),
        ("The replica workerpool0-0 exited with a non-zero status of 137.", 3, CODE_ERROR),
        (
            "The replica workerpool0-0 exited with a non-zero status of 137. Termination reason: OOMKilled.",
            3,
            OUT_OF_MEMORY,
        ),
        (
            "Replicas low on memory: workerpool0. Specify a machine with larger memory and try again.",
            8,
            OUT_OF_MEMORY,
        ),
        ("The replica master 0 ran out of memory and exited with a non-zero status of 137 .", None, OUT_OF_MEMORY),
        (
            "The replica workerpool0-0 exited with a non-zero status of 128. Termination reason: StartError. \n "
            "Termination log message: failed to create containerd task",
            3,
            IMAGE,
        ),
        (
            "The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Evicted.",
            3,
            INFRASTRUCTURE,
        ),
        (STOCKOUT, 8, INFRASTRUCTURE),
        ("The following quota metrics exceed quota limits: aiplatform.googleapis.com/x", 8, INFRASTRUCTURE),
        ("The zone does not have enough resources available to fulfill the request.", 14, INFRASTRUCTURE),
        ("Internal error occurred for the current attempt.", 13, INFRASTRUCTURE),
        ('Image "gcr.io/p/x:1" not found.', 5, IMAGE),
        ("The service agent does not have permission to access the image gcr.io/p/x.", 7, IMAGE),
        ('denied: Permission "artifactregistry.repositories.downloadArtifacts" denied on resource', 3, IMAGE),
        ("manifest unknown: Failed to fetch", 3, IMAGE),
        ("Permission 'storage.objects.get' denied on resource (or it may not exist).", 7, REFUSED),
        ("Service account lab@p.iam.gserviceaccount.com needs iam.serviceAccounts.actAs", 7, REFUSED),
        ("Something happened.", 7, REFUSED),
        ("The job exceeded its maximum running time.", 3, TIMEOUT),
        ("The instance was preempted.", 10, PREEMPTED),
        ("Something happened.", True, UNKNOWN),
    ],
)
def test_the_cause_is_what_the_service_says(message: str, code: object, cause: FailureCause) -> None:
    assert failure_cause(message, code) is cause


def test_words_of_the_program_are_not_those_of_the_service() -> None:
    message = "The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error. \nTraceback: "
    for words in ("CUDA out of memory", "preempted", "Image not found", "timed out", "internal error"):
        assert failure_cause(message + words, 3) is CODE_ERROR


@pytest.mark.parametrize(
    ("message", "code", "cause"),
    [
        (
            "The replica worker 1 exited with a non-zero status of 143. Termination reason: Error. "
            "The replica worker 0 exited with a non-zero status of 2. Termination reason: Error.",
            2,
            CODE_ERROR,
        ),
        (
            "The replica workerpool0-0 exited with a non-zero status of 1. "
            "The replica workerpool1-0 ran out of memory and exited with a non-zero status of 137.",
            137,
            OUT_OF_MEMORY,
        ),
        (
            "The replica ps 0 exited with a non-zero status of 1. The replica ps 1 exited with a non-zero status of 3.",
            1,
            CODE_ERROR,
        ),
    ],
)
def test_of_several_replicas_the_one_that_failed_first_counts(message: str, code: int, cause: FailureCause) -> None:
    assert (exit_code(message), failure_cause(message)) == (code, cause)


def test_a_program_that_was_not_started_has_no_exit_code() -> None:
    assert exit_code("The replica x exited with a non-zero status of 128. Termination reason: StartError.") is None


def test_a_reason_does_not_contain_the_link_to_the_log() -> None:
    link = "To find out more about why your job exited please check the logs: https://console.cloud.google.com/logs/x"
    message = "The replica master 0 exited with a non-zero status of 1."
    assert summary(f"{message}\n\n{link}") == message
    details = caip.parse_details(FAILED, {"jobId": "lab_1", "project_id": "p", "errorMessage": f"{message} {link}"})
    assert details.reason == message


@pytest.mark.parametrize("separator", ["\n", " "])
def test_the_exception_at_the_end_of_a_traceback_is_part_of_the_reason(separator: str) -> None:
    first = "The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error"
    traceback = [
        "Traceback (most recent call last):",
        "  [...]",
        '  File "x.py", line 3, in f',
        "    raise KeyError(x)",
    ]
    message = f"{first}. \n{separator.join(traceback)}{separator}torch.cuda.OutOfMemoryError: CUDA out of memory: 3"
    expected = f"{first}: torch.cuda.OutOfMemoryError: CUDA out of memory: 3"
    job = {"state": "JOB_STATE_FAILED", "error": {"code": 3, "message": message}}
    assert vertex.updated_details(RAW, FAILED, job)["reason"] == expected
    details = caip.parse_details(FAILED, {"jobId": "lab_1", "project_id": "p", "errorMessage": message})
    assert details.reason == expected
    assert details.exit is not None
    assert (details.exit.code, details.exit.cause) == (1, CODE_ERROR)


def test_a_secret_in_an_error_is_not_recorded(backend: VertexBackend, platform: VertexPlatform) -> None:
    job = backend.accept()
    token = "ghp_" + "a" * 36
    backend.set_state(job, "FAILED", f"The replica workerpool0-0 exited with a non-zero status of 1. {token}")
    [update] = platform.statuses([job]).values()
    assert isinstance(update, JobUpdate)
    assert update.details is not None
    assert token not in str(update.details.raw)


@pytest.mark.parametrize(
    ("strategy", "started", "cause"),
    [
        ("SPOT", "2026-11-25T11:00:00Z", "preempted"),
        ("FLEX_START", "2026-11-25T11:00:00Z", "preempted"),
        ("SPOT", None, "infrastructure"),
        ("STANDARD", "2026-11-25T11:00:00Z", "infrastructure"),
        (None, "2026-11-25T11:00:00Z", "infrastructure"),
    ],
)
def test_a_job_that_lost_its_spot_machine_and_got_no_other_was_preempted(
    strategy: str | None, started: str | None, cause: str
) -> None:
    job = {"state": "JOB_STATE_FAILED", "error": {"code": 8, "message": STOCKOUT}, "startTime": started}
    details = vertex.updated_details(RAW, FAILED, job, {"jobSpec": {"scheduling": {"strategy": strategy}}})
    assert details["cause"] == cause


def custom_job(timeout: str | None = None, **times: str) -> tuple[dict[str, Any], dict[str, Any]]:
    scheduling = {"timeout": timeout} if timeout else {}
    return {"state": "JOB_STATE_CANCELLED", **times}, {"jobSpec": {"scheduling": scheduling}}


@pytest.mark.parametrize(
    ("timeout", "ended", "reason"),
    [
        ("3600s", "2026-11-25T12:00:03Z", "ran for 1 hour, the time limit (scheduling.timeout)"),
        ("5400s", "2026-11-25T12:30:59Z", "ran for 90 minutes, the time limit (scheduling.timeout)"),
        (None, "2026-12-02T11:00:30Z", "ran for 7 days, the time limit (scheduling.timeout)"),
        ("3600s", "2026-11-25T11:59:59Z", None),
        ("3600s", "2026-11-25T13:00:00Z", None),
        ("x", "2026-11-25T12:00:03Z", None),
    ],
)
def test_a_job_that_the_service_cancelled_at_its_time_limit_is_told_from_one_that_a_user_cancelled(
    timeout: str | None, ended: str, reason: str | None
) -> None:
    job, spec = custom_job(timeout, startTime="2026-11-25T11:00:00Z", endTime=ended)
    assert vertex.time_limits(spec).exceeded(job) == reason


def test_a_job_that_waited_in_vain_for_flex_start_reached_a_time_limit() -> None:
    spec = {"jobSpec": {"scheduling": {"strategy": "FLEX_START", "maxWaitDuration": "1800s"}}}
    job = {"createTime": "2026-11-25T11:00:00Z", "endTime": "2026-11-25T11:30:01Z"}
    expected = "waited for 30 minutes, the time limit (scheduling.maxWaitDuration)"
    assert vertex.time_limits(spec).exceeded(job) == expected
    spec["jobSpec"]["scheduling"]["maxWaitDuration"] = "0s"  # for ever
    assert vertex.time_limits(spec).exceeded(job) is None


def test_ai_platform_has_the_same_limits_under_other_names() -> None:
    spec = {"trainingInput": {"scheduling": {"maxRunningTime": "60s", "maxWaitTime": "1800s"}}}
    ran = {"startTime": "2026-11-25T11:00:00Z", "endTime": "2026-11-25T11:01:01Z"}
    waited = {"createTime": "2026-11-25T11:00:00Z", "endTime": "2026-11-25T11:30:01Z"}
    limits = caip.time_limits(spec)
    assert limits.exceeded(ran) == "ran for 1 minute, the time limit (scheduling.maxRunningTime)"
    assert limits.exceeded(waited) == "waited for 30 minutes, the time limit (scheduling.maxWaitTime)"


def test_a_job_at_its_time_limit_has_failed(backend: VertexBackend, platform: VertexPlatform) -> None:
    job = backend.accept()
    for state in ("RUNNING", "CANCELLED"):
        backend.set_state(job, state)
    backend.service.jobs.find(str(job.details.id)).outputs["startTime"] = "2026-11-20T11:00:00Z"
    backend.service.jobs.find(str(job.details.id)).outputs["endTime"] = "2026-11-27T11:00:05Z"
    [update] = platform.statuses([job]).values()
    assert isinstance(update, JobUpdate)
    assert update.status is FAILED
    assert update.details is not None
    assert update.details.exit is not None
    assert update.details.exit.cause is TIMEOUT
    assert update.details.reason == "ran for 7 days, the time limit (scheduling.timeout)"


@pytest.mark.parametrize("state", ["JOB_STATE_EXPIRED", "JOB_STATE_PARTIALLY_SUCCEEDED"])
def test_a_job_without_a_time_of_its_end_ended_when_it_last_changed(state: str) -> None:
    job = {"state": state, "startTime": "2026-11-25T11:00:00Z", "updateTime": "2026-11-25T12:00:00Z"}
    details = vertex.updated_details(RAW, FAILED, job)
    assert (details["started"], details["ended"]) == ("2026-11-25T11:00:00+00:00", "2026-11-25T12:00:00+00:00")


def test_a_running_job_has_not_ended_when_it_last_changed() -> None:
    job = {"state": "JOB_STATE_RUNNING", "updateTime": "2026-11-25T12:00:00Z"}
    assert "ended" not in vertex.updated_details(RAW, JobStatus.RUNNING, job)


@pytest.mark.parametrize("spec", [{}, {"jobSpec": None}, {"jobSpec": {"scheduling": [1]}}, {"trainingInput": "x"}])
def test_an_odd_spec_has_the_default_limits(spec: dict[str, Any]) -> None:
    assert (vertex.time_limits(spec).run, caip.time_limits(spec).run) == (7 * 86400, 7 * 86400)


@pytest.fixture
def backend(clock: Any, tmp_path: Any) -> Any:
    made = VertexBackend(clock, tmp_path)
    with made.service:
        yield made


@pytest.fixture
def platform(backend: VertexBackend) -> VertexPlatform:
    return backend.platform()
