"""``caliban run --timeout``: a job that runs too long is stopped, and recorded as such."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import docker
import pytest
import requests

from caliban.platforms.docker.job_spec import new_job_spec, time_limit, with_arguments, with_image
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import FailureCause, JobExit, JobRecord, JobStatus, JobUpdate, JsonObject
from tests.fakes import FakeClock

from .fake_engine import Container, FakeDocker
from .helpers import OutputReporter

TOO_LONG = "ran longer than its --timeout of 90 s"


@pytest.fixture
def limited(running: JobRecord) -> JobRecord:
    return replace(running, spec={**running.spec, "timeout": 90})


def test_a_job_that_runs_longer_than_its_timeout_is_stopped(
    platform: DockerPlatform, docker: FakeDocker, limited: JobRecord, reporter: OutputReporter
) -> None:
    clock = platform.context.clock
    assert isinstance(clock, FakeClock)

    def go_on(container: Container) -> None:
        clock.seconds += 45

    docker.on_wait, docker.stop_code = go_on, 143
    update = platform.follow(limited)
    assert (update.status, update.details and update.details.exit) == (
        JobStatus.FAILED,
        JobExit(143, FailureCause.TIMEOUT, TOO_LONG),
    )
    assert reporter.lines == [f"job 68 {TOO_LONG}: stopping it ..."]


def test_a_job_that_ends_in_time_is_left_alone(
    platform: DockerPlatform, docker: FakeDocker, limited: JobRecord
) -> None:
    docker.on_wait = lambda container: container.end(3)
    update = platform.follow(limited)
    assert update.details is not None
    assert update.details.exit == JobExit(3, FailureCause.CODE_ERROR)
    assert not any(request.endswith("/stop") for request in docker.requests)


def test_the_engine_is_asked_in_time_before_the_end_of_a_limit(
    platform: DockerPlatform, limited: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = platform.context.clock
    assert isinstance(clock, FakeClock)
    waits: list[int] = []

    def wait(api: docker.APIClient, id: str, timeout: int) -> None:
        waits.append(timeout)
        clock.seconds += timeout
        raise requests.exceptions.ReadTimeout

    monkeypatch.setattr("docker.APIClient.wait", wait)
    platform.follow(limited)
    assert waits == [60, 30]


@pytest.mark.parametrize(
    ("code", "ran", "cause"),
    [
        (143, 95, FailureCause.TIMEOUT),
        (137, 90, FailureCause.TIMEOUT),
        (1, 100, FailureCause.TIMEOUT),
        (1, 89, FailureCause.CODE_ERROR),
        (0, 95, None),
    ],
)
def test_the_cause_is_known_although_the_command_that_stopped_the_job_was_killed(
    platform: DockerPlatform, docker: FakeDocker, limited: JobRecord, code: int, ran: int, cause: FailureCause | None
) -> None:
    container = docker.containers[str(limited.details.display_name)]
    container.end(code)
    container.state["StartedAt"] = "2020-05-29T10:53:40Z"
    container.state["FinishedAt"] = f"2020-05-29T10:{53 + (40 + ran) // 60:02}:{(40 + ran) % 60:02}.5Z"
    update = platform.statuses([limited])[limited.id]
    assert isinstance(update, JobUpdate)
    assert update.details is not None
    assert update.details.exit is not None
    assert update.details.exit.cause is cause


@pytest.mark.parametrize(("ran", "out_of_memory"), [(3000, False), (95, True)])
def test_a_job_that_went_on_without_its_command_and_failed_by_itself_was_not_stopped(
    platform: DockerPlatform, docker: FakeDocker, limited: JobRecord, ran: int, out_of_memory: bool
) -> None:
    container = docker.containers[str(limited.details.display_name)]
    container.end(137 if out_of_memory else 1)
    ended = datetime(2020, 5, 29, 10, 53, 40) + timedelta(seconds=ran)
    container.state |= {
        "StartedAt": "2020-05-29T10:53:40Z",
        "FinishedAt": f"{ended.isoformat()}Z",
        "OOMKilled": out_of_memory,
    }
    update = platform.statuses([limited])[limited.id]
    assert isinstance(update, JobUpdate)
    assert update.details is not None
    assert update.details.exit is not None
    assert update.details.exit.cause is (FailureCause.OUT_OF_MEMORY if out_of_memory else FailureCause.CODE_ERROR)


def test_a_rerun_keeps_the_limit() -> None:
    spec = new_job_spec("lab:1", ["--foo", "3"], docker_run_args=(), gpu=False, timeout=90)
    again = with_arguments(with_image(spec, "lab:2"), "lab:3", ["--foo", "4"])
    assert (time_limit(again), again["container"]) == (90, "lab:3")


@pytest.mark.parametrize("recorded", [{}, {"timeout": None}, {"timeout": "90"}, {"timeout": -1}, {"timeout": 10**400}])
def test_a_spec_without_a_sensible_limit_has_none(recorded: JsonObject) -> None:
    assert time_limit(recorded) is None
