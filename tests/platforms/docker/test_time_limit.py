"""``caliban run --timeout``: a job that runs too long is stopped, and recorded as such."""

from __future__ import annotations

from dataclasses import replace

import pytest

from caliban.platforms.docker.job_spec import new_job_spec, time_limit, with_arguments, with_image
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import FailureCause, JobExit, JobRecord, JobStatus, JobUpdate, JsonObject
from tests.fakes import FakeClock

from .fake_docker import Container, FakeDocker
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
    platform: DockerPlatform, docker: FakeDocker, limited: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    from caliban.platforms.docker.client import Containers

    clock = platform.context.clock
    assert isinstance(clock, FakeClock)
    waits: list[int] = []

    def wait(self: Containers, id: str, seconds: int = 0) -> bool:
        waits.append(seconds)
        clock.seconds += seconds
        return False

    monkeypatch.setattr(Containers, "wait", wait)
    platform.follow(limited)
    assert waits == [60, 30]


@pytest.mark.parametrize(
    ("code", "ran", "cause"),
    [
        (143, 95, FailureCause.TIMEOUT),
        (137, 90, FailureCause.TIMEOUT),
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


def test_a_rerun_keeps_the_limit() -> None:
    spec = new_job_spec("lab:1", ["--foo", "3"], docker_run_args=(), gpu=False, timeout=90)
    again = with_arguments(with_image(spec, "lab:2"), "lab:3", ["--foo", "4"])
    assert (time_limit(again), again["container"]) == (90, "lab:3")


@pytest.mark.parametrize("recorded", [{}, {"timeout": None}, {"timeout": "90"}, {"timeout": -1}, {"timeout": 10**400}])
def test_a_spec_without_a_sensible_limit_has_none(recorded: JsonObject) -> None:
    assert time_limit(recorded) is None
