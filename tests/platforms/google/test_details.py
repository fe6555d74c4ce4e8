"""The stored details of jobs of both training services: all shapes ever written, and the cause of a failure."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from caliban.platforms.caip import details as caip
from caliban.platforms.caip.details import CaipDestination
from caliban.platforms.google.details import failure_cause
from caliban.platforms.vertex import details as vertex
from caliban.platforms.vertex.details import VertexDestination
from caliban.records import FailureCause, JobExit, JobStatus

STORES = Path(__file__).parents[2] / "data" / "peer_stores"
FAILED, STOPPED, RUNNING = JobStatus.FAILED, JobStatus.STOPPED, JobStatus.RUNNING
CAIP = {"jobId": "lab_1", "project_id": "p"}
VERTEX = {"project_id": "p", "region": "r", "name": "projects/1/locations/r/customJobs/42", "displayName": "lab_1"}
BOTH = pytest.mark.parametrize(
    ("parse", "raw", "reason_key"),
    [(caip.parse_details, CAIP, "errorMessage"), (vertex.parse_details, VERTEX, "reason")],
    ids=["caip", "vertex"],
)


def test_the_jobs_of_caliban_0_4_2_are_read() -> None:
    for store in STORES.glob("*.sqlite"):
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
            rows = connection.execute(
                "SELECT j.status, j.details FROM jobs j JOIN job_specs s ON s.id = j.job_spec_id "
                "WHERE s.platform = 'CAIP'"
            ).fetchall()
        for status, stored in rows:
            raw = json.loads(stored)
            details = caip.parse_details(JobStatus(status), raw)
            assert (details.id, details.display_name) == (raw["jobId"], raw["jobId"])
            assert (details.raw, details.destination) == (raw, CaipDestination("totoro-project"))


def test_a_job_of_vertex_ai_has_its_resource_name_as_id() -> None:
    details = vertex.parse_details(RUNNING, VERTEX)
    assert (details.id, details.display_name) == (VERTEX["name"], "lab_1")
    assert details.destination == VertexDestination("p", "r")


@BOTH
def test_why_a_job_failed_is_shown(parse: Any, raw: dict[str, Any], reason_key: str) -> None:
    details = parse(FAILED, {**raw, reason_key: "The replica x exited\n with a non-zero status of 3."})
    message = "The replica x exited with a non-zero status of 3."
    assert details.exit == JobExit(3, FailureCause.CODE_ERROR, message)
    assert details.reason == message


@BOTH
def test_a_refused_submission_is_shown_in_one_line(parse: Any, raw: dict[str, Any], reason_key: str) -> None:
    details = parse(FAILED, {**raw, "error": "cannot submit the job: permission denied:\n  no\n"})
    assert details.exit == JobExit(None, FailureCause.REFUSED, "cannot submit the job: permission denied: no")


@BOTH
def test_a_long_message_is_cut(parse: Any, raw: dict[str, Any], reason_key: str) -> None:
    message = parse(FAILED, {**raw, reason_key: "x" * 5000}).reason
    assert (len(message), message[-4:]) == (300, "x...")


@BOTH
def test_a_stopped_job_has_that_as_its_cause(parse: Any, raw: dict[str, Any], reason_key: str) -> None:
    assert parse(STOPPED, raw).exit == JobExit(cause=FailureCause.STOPPED)


@BOTH
@pytest.mark.parametrize("status", [FAILED, RUNNING, JobStatus.SUCCEEDED, JobStatus.UNKNOWN])
def test_a_job_of_whose_end_nothing_is_recorded_has_none(
    parse: Any, raw: dict[str, Any], reason_key: str, status: JobStatus
) -> None:
    assert parse(status, raw).exit is None


@BOTH
def test_the_recorded_cause_overrides_that_of_the_message(parse: Any, raw: dict[str, Any], reason_key: str) -> None:
    details = parse(FAILED, {**raw, reason_key: "timed out", "cause": "preempted"})
    assert details.exit.cause is FailureCause.PREEMPTED
    assert parse(FAILED, {**raw, reason_key: "timed out", "cause": "magic"}).exit.cause is FailureCause.TIMEOUT


@BOTH
def test_times_are_read_with_their_time_zone(parse: Any, raw: dict[str, Any], reason_key: str) -> None:
    details = parse(FAILED, {**raw, "started": "2026-11-25T11:03:00+00:00", "ended": "2026-11-25T11:04:00"})
    assert (details.started, details.ended) == (datetime(2026, 11, 25, 11, 3, tzinfo=timezone.utc), None)


def test_an_unfinished_job_has_its_specific_state_as_reason() -> None:
    details = vertex.parse_details(RUNNING, {**VERTEX, "state": "JOB_STATE_PAUSED", "reason": "paused"})
    assert (details.pending_reason, details.exit, details.reason) == ("paused", None, "paused")


@pytest.mark.parametrize("stored", [{}, {"project": 1, "region": None}])
def test_a_malformed_destination_can_be_read(stored: dict[str, Any]) -> None:
    assert CaipDestination.from_json(stored) == CaipDestination("")
    assert VertexDestination.from_json(stored) == VertexDestination("", "")


@pytest.mark.parametrize(
    ("message", "code", "cause"),
    [
        ("The replica workerpool0-0 exited with a non-zero status of 1.", 3, FailureCause.CODE_ERROR),
        (
            "The replica master 0 exited with a non-zero status of 1. Termination reason: TimeoutError: no image",
            None,
            FailureCause.CODE_ERROR,
        ),
        (
            "The replica master 0 ran out-of-memory and exited with a non-zero status of 9(SIGKILL)",
            None,
            FailureCause.OUT_OF_MEMORY,
        ),
        (
            "The replica workerpool0-0 ran out of memory and exited with a non-zero status of 137.",
            3,
            FailureCause.OUT_OF_MEMORY,
        ),
        ("Resources are insufficient in region: us-central1.", 8, FailureCause.INFRASTRUCTURE),
        ("Internal error occurred for the current attempt", 13, FailureCause.INFRASTRUCTURE),
        ("The replica workerpool0-0 was preempted.", 10, FailureCause.PREEMPTED),
        ("Failed to pull the image gcr.io/x/y.", 3, FailureCause.IMAGE),
        ("The job exceeded its timeout.", 1, FailureCause.TIMEOUT),
        ("Something happened.", 4, FailureCause.TIMEOUT),
        ("Something happened.", 8, FailureCause.INFRASTRUCTURE),
        ("Something happened.", 3, FailureCause.UNKNOWN),
        ("", None, FailureCause.UNKNOWN),
        (None, "8", FailureCause.UNKNOWN),
    ],
)
def test_the_cause_of_a_failure_is_what_the_service_clearly_says(
    message: str | None, code: object, cause: FailureCause
) -> None:
    assert failure_cause(message, code) is cause


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("The replica master 0 exited with a non-zero status of 2.", 2),
        ("The replica workerpool0-0 ran out of memory and exited with a non-zero status of 137.", 137),
        ("The replica master 0 ran out-of-memory and exited with a non-zero status of 9(SIGKILL)", None),
        ("no words of an exit", None),
    ],
)
def test_an_exit_code_is_read_from_the_message(message: str, code: int | None) -> None:
    details = caip.parse_details(FAILED, {**CAIP, "errorMessage": message})
    assert details.exit is not None
    assert details.exit.code == code


@pytest.mark.parametrize(
    ("reported", "stored"),
    [
        ("2026-11-25T11:03:00Z", "2026-11-25T11:03:00+00:00"),
        ("2026-11-25T11:03:00.123456789Z", "2026-11-25T11:03:00.123456+00:00"),
        ("yesterday", None),
        (None, None),
    ],
)
def test_a_time_of_google_is_stored_in_utc(reported: str | None, stored: str | None) -> None:
    details = caip.updated_details(CAIP, RUNNING, {"startTime": reported})
    assert details.get("started") == stored


def test_a_failure_of_vertex_ai_is_stored_with_its_first_line_and_its_cause() -> None:
    error = {"code": 8, "message": "Resources are insufficient in region: r.\nTry another one."}
    details = vertex.updated_details(VERTEX, FAILED, {"state": "JOB_STATE_FAILED", "error": error})
    assert details == {**VERTEX, "reason": "Resources are insufficient in region: r.", "cause": "infrastructure"}


def test_an_expired_job_of_vertex_ai_timed_out() -> None:
    details = vertex.updated_details(VERTEX, FAILED, {"state": "JOB_STATE_EXPIRED"})
    assert details == {**VERTEX, "state": "JOB_STATE_EXPIRED", "reason": "expired", "cause": "timeout"}


def test_a_failure_of_ai_platform_is_stored_with_its_whole_message_and_its_cause() -> None:
    message = "The replica master 0 exited with a non-zero status of 1.\nTraceback:"
    details = caip.updated_details(CAIP, FAILED, {"errorMessage": message})
    assert details == {**CAIP, "errorMessage": message, "cause": "code_error"}


def test_links_show_a_job_in_the_console_and_its_log() -> None:
    assert caip.parse_details(RUNNING, CAIP).links == (
        "https://console.cloud.google.com/mlengine/jobs/lab_1?project=p",
        "gcloud ai-platform jobs stream-logs lab_1 --project p",
    )
    assert vertex.parse_details(RUNNING, VERTEX).links == (
        "https://console.cloud.google.com/agent-platform/locations/r/training/42?project=p",
        "gcloud ai custom-jobs stream-logs 42 --region r --project p",
    )


@pytest.mark.parametrize("missing", ["project_id", "region", "name"])
def test_a_job_whose_place_is_not_recorded_has_no_links(missing: str) -> None:
    raw = {key: value for key, value in VERTEX.items() if key != missing}
    assert vertex.parse_details(RUNNING, raw).links == ()
