"""The stand-in for Cloud Logging is as strict as the service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeClock
from tests.standins.aiplatform_v1 import AiplatformV1
from tests.standins.clients import Client, error
from tests.standins.discovery import ApiError
from tests.standins.log_filters import parse_filter
from tests.standins.logging_v2 import LoggingV2

PROJECT = "totoro-project"
OF_JOB = 'resource.type="ml_job" AND resource.labels.job_id="42"'


@pytest.fixture
def logs(clock: FakeClock) -> Iterator[LoggingV2]:
    with LoggingV2({PROJECT}, clock=clock) as running:
        yield running


@pytest.fixture
def client(logs: LoggingV2, tmp_path: Path) -> Client:
    return Client(logs.url, logs.write_key_file(tmp_path / "key.json"))


def list_entries(client: Client, **body: Any) -> Any:
    return client.send("POST", "v2/entries:list", {"resourceNames": [f"projects/{PROJECT}"], **body})


def texts(client: Client, **body: Any) -> list[str]:
    answer = list_entries(client, **body)
    assert answer.status_code == 200, answer.text
    return [entry["textPayload"] for entry in answer.json().get("entries", [])]


def test_entries_are_sorted_by_time_however_they_arrived(logs: LoggingV2, client: Client) -> None:
    for second in (2, 1, 3):
        logs.write("42", str(second), time=f"2026-11-25T11:00:0{second}Z")
    assert texts(client) == ["1", "2", "3"]
    assert texts(client, orderBy="timestamp desc") == ["3", "2", "1"]


def test_a_page_has_fifty_entries_unless_it_is_told_otherwise(logs: LoggingV2, client: Client) -> None:
    for number in range(1200):
        logs.write("42", str(number))
    assert [len(texts(client, pageSize=size)) for size in (0, 10, 5000)] == [50, 10, 1000]
    assert len(texts(client)) == 50


def test_the_next_page_is_that_of_the_same_list(logs: LoggingV2, client: Client) -> None:
    for number in range(3):
        logs.write("42", str(number))
    first = list_entries(client, filter=OF_JOB, pageSize=2).json()
    assert texts(client, filter=OF_JOB, pageSize=2, pageToken=first["nextPageToken"]) == ["2"]
    assert error(list_entries(client, pageToken=first["nextPageToken"]))["code"] == 400
    assert error(list_entries(client, pageToken="x"))["code"] == 400


@pytest.mark.parametrize(
    "body",
    [
        {"resourceNames": []},
        {"resourceNames": ["totoro-project"]},
        {"pageSize": -1},
        {"pageSize": "x"},
        {"orderBy": "timestamp"},
        {"order": "x"},
        {"filter": 5},
        {"filter": "resource.type="},
        {"filter": 'resource.kind="x"'},
        {"filter": 'timestamp>"yesterday"'},
        {"filter": 'resource.type="ml_job'},
        {"filter": "(severity>=ERROR"},
        {"filter": "x" * 20_001},
    ],
)
def test_a_request_that_the_service_does_not_understand_is_refused(client: Client, body: dict[str, Any]) -> None:
    assert error(list_entries(client, **body))["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (OF_JOB, True),
        ('resource.type="ml_job" resource.labels.job_id="43"', False),
        ('resource.labels.job_id="43" OR severity>=ERROR', True),
        ("NOT severity=ERROR", False),
        ('timestamp>"2026-11-25T11:00:00.000000001Z"', True),
        ('timestamp>"2026-11-25T11:00:00.000000002Z"', False),
        ('(textPayload:"boom" AND -1)', None),
        ('textPayload:"BOOM"', True),
        ('labels."ml.googleapis.com/task"="a b"', True),
    ],
)
def test_a_filter_selects_entries(text: str, expected: bool | None) -> None:
    entry = {
        "resource": {"type": "ml_job", "labels": {"job_id": "42"}},
        "labels": {"ml.googleapis.com/task": "a b"},
        "severity": "ERROR",
        "textPayload": "boom",
        "timestamp": "2026-11-25T11:00:00.000000002Z",
    }
    if expected is None:
        with pytest.raises(ApiError):
            parse_filter(text)
    else:
        assert parse_filter(text)(entry) is expected


def test_an_entry_cannot_be_read_before_its_lag_has_passed(logs: LoggingV2, client: Client, clock: FakeClock) -> None:
    logs.lag_s = 5
    logs.write("42", "late")
    assert texts(client) == []
    clock.seconds += 5
    assert texts(client) == ["late"]


def test_an_entry_is_missing_from_so_many_lists(logs: LoggingV2, client: Client) -> None:
    logs.hidden_lists = 1
    logs.write("42", "late")
    assert [texts(client), texts(client)] == [[], ["late"]]


def test_a_minute_has_so_many_requests(logs: LoggingV2, client: Client, clock: FakeClock) -> None:
    logs.quota = 2
    answers = [list_entries(client) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert error(answers[2])["status"] == "RESOURCE_EXHAUSTED"
    assert "Retry-After" not in answers[2].headers
    clock.seconds += 60
    assert texts(client) == []


def test_who_lacks_the_permission_or_the_api_is_refused_in_googles_words(logs: LoggingV2, client: Client) -> None:
    logs.forbidden.add("logging.logEntries.list")
    assert error(list_entries(client))["message"] == "Permission denied for all log views."
    logs.forbidden.clear()
    logs.disabled.add(PROJECT)
    assert error(list_entries(client))["details"][0]["reason"] == "SERVICE_DISABLED"
    assert error(list_entries(client, resourceNames=["projects/other"]))["code"] == 403


def test_entries_that_are_not_kept_any_more_are_gone(logs: LoggingV2, client: Client) -> None:
    logs.write("42", "old")
    logs.forget("42")
    assert texts(client) == []


def test_a_training_service_serves_the_logs_of_its_jobs_for_the_same_account(tmp_path: Path) -> None:
    with AiplatformV1({PROJECT}) as service:
        client = Client(service.url, service.write_key_file(tmp_path / "key.json"))
        service.control("/_standin/logs", {"job_id": "42", "message": "steered"})
        assert texts(client, filter=OF_JOB) == ["steered"]
        assert service.counts["logging.entries.list"] == 1
