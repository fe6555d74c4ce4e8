"""The output of jobs of both training services, from Cloud Logging: what is read, how often, and what goes wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from caliban.errors import CalibanError
from caliban.platforms.base import LogRequest
from caliban.platforms.google.cloud_logging import quoted
from caliban.platforms.google.training_platform import TrainingPlatform
from caliban.platforms.vertex.platform import VertexPlatform
from caliban.records import JobRecord, JobStatus, OutputLine
from tests.fakes import FakeClock
from tests.platforms.google.helpers import PROJECT, Backend
from tests.platforms.vertex.helpers import recorded_job
from tests.standins.faults import Fault
from tests.standins.logging_v2 import LoggingV2

Platform = TrainingPlatform[Any]
LIST = "logging.entries.list"
ALL, FOLLOW = LogRequest(), LogRequest(follow=True)
FOREVER = 1_000_000


def logs_of(backend: Backend) -> LoggingV2:
    return backend.service.logging


def number(job: JobRecord) -> str:
    return str(job.details.id).rpartition("/")[2]


def write(backend: Backend, job: JobRecord, message: Any, **fields: Any) -> dict[str, Any]:
    return logs_of(backend).write(number(job), message, **fields)


def data(platform: Platform, job: JobRecord, request: LogRequest = ALL) -> list[bytes]:
    return [line.data for line in platform.logs(job, request)]


def ended(job: JobRecord, when: datetime | None = None, status: JobStatus = JobStatus.FAILED) -> JobRecord:
    return replace(job, status=status, details=replace(job.details, ended=when))


def ran(job: JobRecord, until: datetime) -> JobRecord:
    job = ended(job, until)
    return replace(job, details=replace(job.details, started=until - timedelta(hours=1)))


def bodies(backend: Backend) -> list[dict[str, Any]]:
    return [dict(body) for body in backend.service.bodies(LIST)]


class ActingClock(FakeClock):
    """A clock by which something happens at certain times."""

    def __init__(self) -> None:
        super().__init__()
        self.acts: list[tuple[float, Callable[[], object]]] = []

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        self.acts.append((seconds, act))

    def wait(self, event: threading.Event, seconds: float) -> bool:
        result = super().wait(event, seconds)
        due = [act for act in self.acts if act[0] <= self.seconds]
        self.acts = [act for act in self.acts if act[0] > self.seconds]
        for _, act in due:
            act()
        return result


@pytest.fixture
def clock() -> ActingClock:
    return ActingClock()


def test_one_request_asks_for_exactly_the_entries_of_the_job(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    data(platform, job)
    assert bodies(backend) == [
        {
            "resourceNames": [f"projects/{PROJECT}"],
            "filter": f'resource.type="ml_job" AND resource.labels.job_id="{number(job)}"',
            "orderBy": "timestamp asc",
            "pageSize": 1000,
        }
    ]


def test_a_tail_is_one_small_request(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    for index in range(200):
        write(backend, job, f"line {index}")
    assert data(platform, job, LogRequest(tail=2)) == [b"line 198\n", b"line 199\n"]
    [body] = bodies(backend)
    assert (body["orderBy"], body["pageSize"]) == ("timestamp desc", 50)


def test_all_pages_are_read(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    for index in range(2001):
        write(backend, job, str(index))
    assert data(platform, job) == [f"{index}\n".encode() for index in range(2001)]
    assert backend.service.counts[LIST] == 3


def test_an_empty_page_is_not_the_end(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    write(backend, job, "found")
    logs_of(backend).empty_pages = 3
    assert data(platform, job) == [b"found\n"]
    assert data(platform, job, LogRequest(tail=1)) == [b"found\n"]


@pytest.mark.parametrize(
    ("message", "fields", "expected"),
    [
        ("text", {}, [b"text\n"]),
        ({"message": "structured", "levelname": "INFO"}, {}, [b"structured\n"]),
        ({"loss": 0.5}, {}, [b'{"loss": 0.5}\n']),
        ("", {}, [b"\n"]),
        ("with its break\n", {}, [b"with its break\n"]),
        ("Traceback:\n  x\nValueError: é", {}, [b"Traceback:\n", b"  x\n", "ValueError: é\n".encode()]),
        ("10%\r20%\r", {}, [b"10%\r20%\r\n"]),
    ],
)
def test_what_the_program_wrote_is_passed_on(
    backend: Backend, platform: Platform, message: Any, fields: dict[str, Any], expected: list[bytes]
) -> None:
    job = backend.accept()
    write(backend, job, message, **fields)
    assert data(platform, job) == expected


def test_a_payload_of_a_protocol_buffer_is_shown_as_json(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    entry = write(backend, job, "x", protoPayload={"@type": "type.googleapis.com/google.cloud.audit.AuditLog"})
    del entry["textPayload"]
    assert data(platform, job) == [b'{"@type": "type.googleapis.com/google.cloud.audit.AuditLog"}\n']


def test_a_message_in_parts_is_one_line(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    for index, insert_id in ((2, "a"), (0, "b"), (1, "c")):
        split = {"uid": "u", "index": index, "totalSplits": 3}
        write(backend, job, f"part{index}", split=split, insertId=insert_id, time="2026-11-25T11:00:00Z")
    assert data(platform, job) == [b"part0part1part2\n"]


def test_severity_tells_standard_error_and_labels_tell_the_machine(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    write(backend, job, "out", time="2026-11-25T11:00:00.123456789Z")
    write(backend, job, "err", task="workerpool1-0", severity="ERROR", time="2026-11-25T11:00:00.2Z")
    assert list(platform.logs(job, ALL)) == [
        OutputLine(b"out\n", False, datetime(2026, 11, 25, 11, 0, 0, 123456, tzinfo=timezone.utc), "workerpool0-0"),
        OutputLine(b"err\n", True, datetime(2026, 11, 25, 11, 0, 0, 200000, tzinfo=timezone.utc), "workerpool1-0"),
    ]


def test_the_only_machine_of_a_job_is_not_named(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    write(backend, job, "out")
    assert [line.source for line in platform.logs(job, ALL)] == [None]
    assert [line.source for line in platform.logs(job, LogRequest(tail=1))] == [None]


def test_each_line_of_a_job_of_several_machines_names_the_one_that_wrote_it(backend: Backend) -> None:
    job = backend.accept()
    several = {
        "jobSpec": {"workerPoolSpecs": [{"replicaCount": "1"}, {"replicaCount": 3}]},
        "trainingInput": {"workerCount": "2"},
    }
    write(backend, job, "out")
    lines = backend.platform().logs(replace(job, spec={**job.spec, **several}), ALL)
    assert [line.source for line in lines] == ["workerpool0-0"]


@pytest.mark.parametrize("spec", [{}, {"jobSpec": {"workerPoolSpecs": "x"}, "trainingInput": []}])
def test_output_of_a_job_with_an_odd_spec_is_read(backend: Backend, platform: Platform, spec: dict[str, Any]) -> None:
    job = backend.accept()
    write(backend, job, "out")
    assert data(platform, replace(job, spec=spec)) == [b"out\n"]


def test_what_the_service_itself_logs_is_not_output(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    write(backend, job, "ValueError: loss is nan")
    for text in ("Finished tearing down training program.", "Job failed."):
        write(backend, job, text, task="service")
    assert data(platform, job) == [b"ValueError: loss is nan\n"]
    assert data(platform, job, LogRequest(tail=1)) == [b"ValueError: loss is nan\n"]


@pytest.mark.parametrize("field", [{"insertId": None}, {"timestamp": 5}, {"resource": []}, {"jsonPayload": "x"}])
def test_odd_entries_are_read(backend: Backend, platform: Platform, field: dict[str, Any]) -> None:
    job = backend.accept()
    body = {"entries": [{"textPayload": "good", "insertId": "1", "timestamp": "2026-11-25T11:00:00Z", **field}]}
    content = json.dumps(body).encode()
    backend.service.faults.add(Fault(LIST, "replace", status=200, body=content))
    assert data(platform, job) == [b"good\n"]


@pytest.mark.parametrize("answer", [b'{"entries": {}}', b'{"entries": [1]}', b'{"jobs": []}', b"[]", b"<html>"])
def test_what_is_no_page_of_entries_is_an_error(backend: Backend, platform: Platform, answer: bytes) -> None:
    backend.service.faults.add(Fault(LIST, "replace", FOREVER, status=200, body=answer))
    with pytest.raises(CalibanError) as caught:
        data(platform, backend.accept())
    assert caught.value.id == "google-misunderstood"


def test_a_list_that_does_not_end_is_an_error(backend: Backend, platform: Platform) -> None:
    backend.service.faults.add(Fault(LIST, "replace", FOREVER, status=200, body=b'{"nextPageToken": "again"}'))
    with pytest.raises(CalibanError) as caught:
        data(platform, backend.accept())
    assert caught.value.id == "google-list-endless"


# What is missing:


def test_the_lack_of_the_permission_is_named(backend: Backend, platform: Platform) -> None:
    logs_of(backend).forbidden.add("logging.logEntries.list")
    with pytest.raises(CalibanError) as caught:
        data(platform, backend.accept())
    assert caught.value.id == "output-refused"
    assert caught.value.cause == "Permission denied for all log views."
    assert "logging.logEntries.list (role roles/logging.viewer" in str(caught.value.hint)
    assert backend.service.counts[LIST] == 1


def test_the_command_that_enables_the_api_is_named(backend: Backend, platform: Platform) -> None:
    logs_of(backend).disabled.add(PROJECT)
    with pytest.raises(CalibanError) as caught:
        data(platform, backend.accept())
    assert caught.value.id == "output-refused"
    assert caught.value.hint == f"run: gcloud services enable logging.googleapis.com --project {PROJECT}"


def test_the_lack_of_the_scope_is_named(backend: Backend, platform: Platform) -> None:
    logs_of(backend).without_scope = True
    with pytest.raises(CalibanError) as caught:
        data(platform, backend.accept())
    assert caught.value.id == "output-refused"
    assert "https://www.googleapis.com/auth/logging.read" in str(caught.value.hint)


@pytest.mark.parametrize("request_", [ALL, FOLLOW, LogRequest(tail=3)], ids=["all", "follow", "tail"])
def test_output_of_a_job_that_ended_long_ago_is_gone(
    backend: Backend, platform: Platform, clock: ActingClock, request_: LogRequest
) -> None:
    job = ended(backend.accept(), clock.utc_now() - timedelta(days=31))
    with pytest.raises(CalibanError) as caught:
        data(platform, job, request_)
    assert caught.value.id == "output-gone"


def test_a_job_that_wrote_nothing_has_empty_output(backend: Backend, platform: Platform, clock: ActingClock) -> None:
    job = ended(backend.accept(), clock.utc_now() - timedelta(days=2))
    assert data(platform, job) == []


def test_an_old_job_that_still_has_entries_wrote_nothing(
    backend: Backend, platform: Platform, clock: ActingClock
) -> None:
    job = ended(backend.accept(), clock.utc_now() - timedelta(days=31))
    write(backend, job, "Job failed.", task="service")
    assert data(platform, job) == []


def test_a_refused_submission_has_no_output(backend: Backend, platform: Platform) -> None:
    details = platform.parse_details(JobStatus.FAILED, {"error": "quota exceeded"})
    with pytest.raises(CalibanError) as caught:
        data(platform, replace(backend.job(), status=JobStatus.FAILED, details=details))
    assert (caught.value.id, caught.value.cause) == ("output-gone", "quota exceeded")
    assert backend.service.requests == []


# Credentials and filters:


@pytest.mark.parametrize(
    "name",
    [
        'projects/1/locations/us-central1/customJobs/4" OR resource.type="gce_instance',
        "projects/1/locations/us-central1/customJobs/4\n",
        "projects/1/locations/europe-west4/customJobs/42",
        "42",
    ],
)
def test_a_changed_name_is_not_asked_for(backend: Backend, name: str) -> None:
    platform = VertexPlatform(backend.context())
    with pytest.raises(CalibanError):
        data(platform, recorded_job(name))
    assert backend.service.requests == []


@pytest.mark.parametrize("project", ["p1/locations/x", "p1?", "..", ""])
def test_a_changed_project_is_not_asked_for(backend: Backend, platform: Platform, project: str) -> None:
    with pytest.raises(CalibanError):
        data(platform, backend.job(project=project))
    assert backend.service.requests == []


def test_the_token_of_a_service_on_this_machine_is_not_sent_to_google(backend: Backend) -> None:
    platform = backend.platform(environ={"CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING": ""})
    with pytest.raises(CalibanError) as caught:
        data(platform, backend.accept())
    assert caught.value.id == "logging-endpoint-unknown"
    assert caught.value.hint == "set CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING"
    assert backend.service.requests == []


def test_an_endpoint_of_logging_that_is_not_confidential_gets_nothing(backend: Backend) -> None:
    platform = backend.platform(environ={"CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING": "http://10.0.0.1/"})
    with pytest.raises(CalibanError) as caught:
        data(platform, backend.accept())
    assert caught.value.id == "endpoint-malformed"


def test_a_string_of_a_filter_is_quoted() -> None:
    assert quoted('a"b\\') == '"a\\"b\\\\"'


# Quota and retries:


def test_requests_of_all_jobs_stay_below_the_quota(backend: Backend, platform: Platform, clock: ActingClock) -> None:
    jobs = backend.accept_many(70)
    for job in jobs:
        write(backend, job, "x")
    assert [data(platform, job, LogRequest(tail=1)) for job in jobs] == [[b"x\n"]] * 70
    assert backend.service.counts[LIST] == 70
    assert clock.seconds >= 60
    assert backend.reporter.lines == ["Cloud Logging limits the number of requests per minute; waiting ..."]


def test_an_exhausted_quota_is_waited_for(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    write(backend, job, "x")
    logs_of(backend).quota = 1
    assert data(platform, job) == [b"x\n"]
    assert data(platform, job) == [b"x\n"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_transient_failure_is_retried(backend: Backend, platform: Platform, status: int) -> None:
    job = backend.accept()
    write(backend, job, "x")
    backend.service.faults.add(Fault(LIST, "status", 2, status=status))
    assert data(platform, job) == [b"x\n"]


@pytest.mark.parametrize("kind", ["quota", "refuse", "status"])
def test_stopping_ends_the_wait_for_another_attempt(backend: Backend, clock: ActingClock, kind: Any) -> None:
    job = backend.accept()
    context = backend.context()
    platform = type(backend.platform())(context)
    if kind == "quota":
        logs_of(backend).quota = 1
        assert data(platform, job) == []
    else:
        backend.service.faults.add(Fault(LIST, kind, FOREVER))
    clock.at(20, context.stopping.set)
    assert data(platform, job) == []
    assert clock.seconds < 60


# Followed and just ended:


def follow(backend: Backend, job: JobRecord, request: LogRequest = FOLLOW) -> list[bytes]:
    return data(backend.platform(), job, request)


def finish(backend: Backend, job: JobRecord) -> Callable[[], None]:
    return lambda: backend.set_state(job, "FAILED", "The replica x exited with a non-zero status of 1.")


def test_entries_that_come_late_and_out_of_order_are_shown_once(backend: Backend, clock: ActingClock) -> None:
    job = backend.accept()
    backend.set_state(job, "RUNNING")
    write(backend, job, "one", time="2020-05-29T10:53:31Z")
    clock.at(3, lambda: write(backend, job, "three", time="2020-05-29T10:53:35Z"))
    clock.at(8, lambda: write(backend, job, "two", time="2020-05-29T10:53:33Z", task="workerpool1-0"))
    clock.at(40, finish(backend, job))
    clock.at(44, lambda: write(backend, job, "four", time="2020-05-29T10:54:09Z"))
    assert follow(backend, job) == [b"one\n", b"three\n", b"two\n", b"four\n"]


def test_equal_ids_at_other_times_are_other_entries(backend: Backend, platform: Platform) -> None:
    job = backend.accept()
    for second in range(3):
        write(backend, job, str(second), insertId="same", time=f"2026-11-25T11:00:0{second}Z")
    assert data(platform, job) == [b"0\n", b"1\n", b"2\n"]


def test_a_list_that_lags_behind_does_not_lose_the_last_lines(backend: Backend, clock: ActingClock) -> None:
    job = backend.accept()
    backend.set_state(job, "RUNNING")
    logs_of(backend).lag_s = 10
    write(backend, job, "first")
    clock.at(5, lambda: write(backend, job, "last"))
    clock.at(5, finish(backend, job))
    assert follow(backend, job) == [b"first\n", b"last\n"]


@pytest.mark.parametrize("request_", [ALL, LogRequest(tail=1), FOLLOW], ids=["all", "tail", "follow"])
def test_of_a_job_that_has_just_ended_the_last_lines_are_waited_for(
    backend: Backend, clock: ActingClock, request_: LogRequest
) -> None:
    job = ended(backend.accept(), clock.utc_now())
    logs_of(backend).lag_s = 6
    write(backend, job, "ValueError: loss is nan")
    write(backend, job, "Job failed.", task="service")
    assert follow(backend, job, request_) == [b"ValueError: loss is nan\n"]


@pytest.mark.parametrize("request_", [ALL, LogRequest(tail=1), FOLLOW], ids=["all", "tail", "follow"])
@pytest.mark.parametrize("age_s", [0, 200])
def test_a_job_that_ran_is_not_said_to_have_written_nothing_before_its_entries_arrive(
    backend: Backend, platform: Platform, clock: ActingClock, request_: LogRequest, age_s: int
) -> None:
    job = ran(backend.accept(), clock.utc_now() - timedelta(seconds=age_s))
    logs_of(backend).lag_s = FOREVER
    write(backend, job, "ValueError: loss is nan")
    with pytest.raises(CalibanError) as caught:
        data(platform, job, request_)
    assert caught.value.id == "output-not-ready"


def test_a_job_that_was_stopped_before_it_ran_has_empty_output_at_once(
    backend: Backend, platform: Platform, clock: ActingClock
) -> None:
    job = ended(backend.accept(), clock.utc_now(), JobStatus.STOPPED)
    assert data(platform, job) == []


def test_a_job_whose_program_wrote_nothing_has_empty_output_once_the_service_has_logged_something(
    backend: Backend, platform: Platform, clock: ActingClock
) -> None:
    job = ran(backend.accept(), clock.utc_now())
    write(backend, job, "Job failed.", task="service")
    assert data(platform, job) == []


def test_minutes_after_its_end_a_job_without_entries_wrote_nothing(
    backend: Backend, platform: Platform, clock: ActingClock
) -> None:
    assert data(platform, ran(backend.accept(), clock.utc_now() - timedelta(minutes=6))) == []


def test_nothing_is_waited_for_once_the_service_has_logged_the_end(backend: Backend, clock: ActingClock) -> None:
    job = ended(backend.accept(), clock.utc_now())
    write(backend, job, "x")
    write(backend, job, "Job failed.", task="service")
    assert follow(backend, job, LogRequest(tail=1)) == [b"x\n"]
    assert (clock.seconds, backend.service.counts[LIST]) == (0, 1)


def test_a_quiet_job_is_polled_less_and_less_often(backend: Backend, clock: ActingClock) -> None:
    job = backend.accept()
    backend.set_state(job, "RUNNING")
    clock.at(600, finish(backend, job))
    assert follow(backend, job) == []
    assert 30 <= backend.service.counts[LIST] <= 50


def test_a_poll_asks_for_new_entries_only(backend: Backend, clock: ActingClock) -> None:
    job = backend.accept()
    backend.set_state(job, "RUNNING")
    write(backend, job, "x", time="2020-05-29T10:53:31.5Z")
    clock.at(5, finish(backend, job))
    follow(backend, job)
    second = bodies(backend)[1]["filter"]
    assert second.endswith(' AND timestamp>="2020-05-29T10:52:31.500000Z"')


@pytest.mark.parametrize("count", [0, 1])
def test_following_a_tail_shows_nothing_that_is_older(backend: Backend, clock: ActingClock, count: int) -> None:
    job = backend.accept()
    backend.set_state(job, "RUNNING")
    for index in range(200):
        write(backend, job, f"old {index}", time=f"2020-05-29T10:53:31.{index:03d}Z")
    clock.at(4, lambda: write(backend, job, "new", time="2020-05-29T10:53:33Z"))
    clock.at(9, finish(backend, job))
    expected = [b"old 199\n", b"new\n"]
    assert follow(backend, job, LogRequest(tail=count, follow=True)) == expected[1 - count :]


def test_a_job_whose_state_cannot_be_determined_is_not_followed_for_ever(backend: Backend, clock: ActingClock) -> None:
    job = backend.accept()
    for name in ("get", "list"):
        backend.service.faults.add(Fault(backend.method(name), "status", FOREVER, status=403, message="no"))
    assert follow(backend, job) == []
    assert len(backend.reporter.warnings) == 1
    assert "is not followed any more" in backend.reporter.warnings[0]


def test_a_job_that_was_removed_is_followed_to_its_end(backend: Backend) -> None:
    job = backend.job()
    write(backend, job, "x")
    assert follow(backend, job) == [b"x\n"]


def test_closing_on_another_thread_ends_a_wait(backend: Backend, clock: ActingClock) -> None:
    job = backend.accept()
    backend.set_state(job, "RUNNING")
    output = backend.platform().logs(job, FOLLOW)
    clock.at(30, lambda: output.close())  # type: ignore[attr-defined]
    assert list(output) == []
    assert clock.seconds < 60
