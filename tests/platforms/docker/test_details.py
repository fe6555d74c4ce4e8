"""Stored details of local jobs: every shape ever written."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from caliban.platforms.docker.details import DockerDestination, container_update, parse_details
from caliban.platforms.docker.state import ContainerState, OddStateError
from caliban.records import FailureCause, JobExit, JobStatus, JsonObject

FAILED = JobStatus.FAILED


@pytest.mark.parametrize(
    ("status", "raw", "exit"),
    [
        # caliban 0.4.2
        (JobStatus.SUCCEEDED, {"ret_code": 0}, JobExit(0)),
        (FAILED, {"ret_code": 1}, JobExit(1, FailureCause.CODE_ERROR)),
        (JobStatus.RUNNING, {}, None),
        (JobStatus.STOPPED, {}, JobExit(None, FailureCause.STOPPED)),
        # this version, before causes were recorded
        (
            FAILED,
            {"ret_code": 137, "reason": "out of memory"},
            JobExit(137, FailureCause.OUT_OF_MEMORY, "out of memory"),
        ),
        (
            FAILED,
            {"ret_code": 125, "error": "docker: no\n\nsuch  image"},
            JobExit(None, FailureCause.REFUSED, "docker: no such image"),
        ),
        (FAILED, {"error": "x"}, JobExit(None, FailureCause.REFUSED, "x")),
        (FAILED, {"ret_code": 0}, JobExit(0, FailureCause.UNKNOWN)),
        (JobStatus.UNKNOWN, {"reason": "removed"}, JobExit(None, FailureCause.UNKNOWN, "removed")),
        (JobStatus.RUNNING, {"name": "caliban-1", "host": "catbus"}, None),
        # this version
        (FAILED, {"ret_code": 1, "cause": "out_of_memory"}, JobExit(1, FailureCause.OUT_OF_MEMORY)),
        # malformed
        (FAILED, {"ret_code": "1", "error": 3, "cause": "nonsense"}, JobExit(None, FailureCause.REFUSED)),
        (FAILED, {"ret_code": True, "reason": ["x"]}, JobExit(None, FailureCause.CODE_ERROR)),
    ],
)
def test_every_stored_shape_has_its_exit(status: JobStatus, raw: JsonObject, exit: JobExit | None) -> None:
    assert parse_details(status, raw).exit == exit


def test_a_long_message_is_cut() -> None:
    reason = parse_details(FAILED, {"error": "x" * 1000}).reason or ""
    assert (len(reason), reason[-4:]) == (300, "x...")


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2020-05-29T10:53:40.123456789Z", datetime(2020, 5, 29, 10, 53, 40, 123456, timezone.utc)),
        ("2020-05-29T10:53:40.1Z", datetime(2020, 5, 29, 10, 53, 40, 100000, timezone.utc)),
        ("2020-05-29T10:53:40Z", datetime(2020, 5, 29, 10, 53, 40, 0, timezone.utc)),
        ("2020-05-29T12:53:40+02:00", datetime(2020, 5, 29, 10, 53, 40, 0, timezone.utc)),
        ("2020-02-30T10:53:40Z", None),
        ("0001-01-01T00:00:00+02:00", None),
        ("yesterday", None),
        (3, None),
    ],
)
def test_times_are_read_with_their_zone(text: object, time: datetime | None) -> None:
    assert parse_details(FAILED, {"started": text, "ended": text}).started == time


def test_a_container_that_never_started_has_no_times() -> None:
    never = "0001-01-01T00:00:00Z"
    state = {"Status": "created", "ExitCode": 128, "StartedAt": never, "FinishedAt": never, "Error": "no GPU"}
    update = container_update({}, ContainerState.from_json(state))
    assert update.details is not None
    assert update.details.raw == {"ret_code": 128, "reason": "no GPU", "cause": "refused"}


def test_what_is_written_is_read_again() -> None:
    state = {
        "Status": "exited",
        "ExitCode": 2,
        "StartedAt": "2020-05-29T10:53:40Z",
        "FinishedAt": "2020-05-29T10:54:00Z",
    }
    update = container_update({"name": "caliban-1"}, ContainerState.from_json(state))
    assert update.details is not None
    assert parse_details(update.status, update.details.raw) == update.details


def test_a_destination_is_read_as_it_was_written() -> None:
    destination = DockerDestination("a1b2", "catbus")
    assert DockerDestination.from_json(destination.to_json()) == destination
    assert DockerDestination.from_json({"engine": 5, "engine_name": ""}) == DockerDestination()
    assert DockerDestination().to_json() == {}


@pytest.mark.parametrize(
    "state",
    [None, [], "running", 5, {}, {"Status": None}, {"Status": 5}, {"Status": ""}, {"Status": "flying", "ExitCode": 0}],
)
def test_a_state_that_no_engine_reports_is_an_error(state: object) -> None:
    with pytest.raises(OddStateError):
        ContainerState.from_json(state)


@pytest.mark.parametrize("code", [None, "0", 0.0, True, [], {}])
def test_an_end_without_an_exit_code_is_neither_success_nor_failure(code: object) -> None:
    state = ContainerState.from_json({"Status": "exited", "ExitCode": code})
    with pytest.raises(OddStateError):
        container_update({}, state)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z", "", None, 0, "never", ["x"]])
def test_times_that_are_none_are_not_recorded(time: object) -> None:
    state = {"Status": "exited", "ExitCode": 0, "StartedAt": time, "FinishedAt": time}
    update = container_update({}, ContainerState.from_json(state))
    assert update.details is not None
    assert update.details.raw == {"ret_code": 0}


@pytest.mark.parametrize(
    ("state", "was_started"),
    [
        ({"Status": "created", "StartedAt": "0001-01-01T00:00:00Z"}, False),
        ({"Status": "configured"}, False),
        ({"Status": "created", "StartedAt": "2020-05-29T10:53:40Z"}, True),
        ({"Status": "running"}, True),
        ({"Status": "exited"}, True),
        ({"Status": "removing", "StartedAt": "0001-01-01T00:00:00Z"}, False),
        ({"Status": "dead", "StartedAt": "2020-05-29T10:53:40Z"}, True),
    ],
)
def test_a_container_was_started_unless_it_was_only_created(state: object, was_started: bool) -> None:
    assert ContainerState.from_json(state).was_started is was_started
