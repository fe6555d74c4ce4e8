"""How local jobs are stopped: the signal reaches the program, and it has the time that its container asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import requests

from caliban.attempts import Submission
from caliban.images.docker.engine import Engine
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import JobRecord, JobStatus, JsonObject, NewJob
from tests.fake_service import may_send

from .fake_engine import INFO, FakeDocker
from .helpers import OutputReporter

WITH_INIT = {**INFO, "InitBinary": "docker-init", "InitCommit": {"ID": "de40ad0"}}
NO_INIT = "the engine has no init process for containers (docker-init)"


def created_with(docker: FakeDocker) -> list[str]:
    [container] = docker.containers.values()
    return [word for word in container.docker_arguments if word.startswith("--init")]


def spec_with(*docker_arguments: str) -> JsonObject:
    return {"command": ["docker", "run", *docker_arguments, "lab:1"], "container": "lab:1"}


@pytest.fixture
def submit(context: PlatformContext, submission: Submission) -> Callable[..., NewJob]:
    def submit(*docker_arguments: str) -> NewJob:
        return DockerPlatform(context).submit(spec_with(*docker_arguments), submission, may_send)

    return submit


@pytest.mark.parametrize("commit", ["de40ad0", ""])
def test_containers_have_an_init_process_so_that_sigterm_ends_programs_that_do_not_handle_it(
    submit: Callable[..., NewJob], docker: FakeDocker, reporter: OutputReporter, commit: str
) -> None:
    docker.info = {**WITH_INIT, "InitCommit": {"ID": commit}}
    submit()
    assert (created_with(docker), reporter.lines) == (["--init"], [])


@pytest.mark.parametrize("flag", ["--init", "--init=false"])
def test_who_chooses_the_init_process_gets_what_they_chose(
    submit: Callable[..., NewJob], docker: FakeDocker, flag: str
) -> None:
    docker.info = WITH_INIT
    submit(flag)
    assert created_with(docker) == [flag]


@pytest.mark.parametrize("info", [{"InitBinary": ""}, {"InitBinary": "docker-init", "InitCommit": {"ID": "N/A"}}])
def test_an_engine_without_an_init_process_is_used_with_a_word(
    submit: Callable[..., NewJob], docker: FakeDocker, reporter: OutputReporter, info: dict[str, object]
) -> None:
    docker.info = {**INFO, **info}
    assert submit().status is JobStatus.RUNNING
    assert created_with(docker) == []
    assert [line.partition(":")[0] for line in reporter.lines] == [NO_INIT]


@pytest.mark.parametrize("program", ["/usr/bin/tini", "dumb-init", "/sbin/init", "/init"])
def test_an_image_that_starts_an_init_process_itself_gets_no_other_one(
    submit: Callable[..., NewJob], docker: FakeDocker, program: str
) -> None:
    docker.info = WITH_INIT
    docker.image_config = {"Entrypoint": [program, "--"], "Cmd": ["python"]}
    submit()
    assert created_with(docker) == []


def test_another_entrypoint_than_that_of_the_image_decides(submit: Callable[..., NewJob], docker: FakeDocker) -> None:
    docker.info = WITH_INIT
    docker.image_config = {"Entrypoint": None, "Cmd": ["/sbin/init"]}
    submit("--entrypoint", "python")
    assert created_with(docker) == ["--init"]


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(None, "10"), (0, "0"), (60, "60"), (7200, "7200"), (-1, "1728000"), ("x", "10")]
)
def test_a_container_has_the_time_that_it_asks_for(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, timeout: object, seconds: str
) -> None:
    docker.config = {"StopTimeout": timeout}
    docker.stop_seconds = [seconds]
    assert platform.stop(running).status is JobStatus.STOPPED


def test_the_wait_for_a_stop_is_longer_than_the_container_has_and_says_what_it_waits_for(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[tuple[float, str]] = []
    within = Engine.within

    def recorded(engine: Engine, seconds: float, call: Callable[[], Any], slow_line: str) -> object:
        waits.append((seconds, slow_line))
        return within(engine, seconds, call, slow_line)

    monkeypatch.setattr(Engine, "within", recorded)
    docker.config = {"StopTimeout": 3600, "StopSignal": "SIGINT"}
    docker.stop_seconds = ["3600"]
    platform.stop(running)
    name = running.details.display_name
    assert (3660.0, f"waiting for {name} to stop: SIGINT was sent, SIGKILL follows 3600 s later ...") in waits


def test_a_job_is_killed_at_once(platform: DockerPlatform, docker: FakeDocker, running: JobRecord) -> None:
    assert platform.kill(running).status is JobStatus.STOPPED
    assert docker.kills == [running.details.id]


@pytest.mark.parametrize("code", [0, 3])
def test_a_job_that_has_ended_is_not_killed(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, code: int
) -> None:
    [container] = docker.containers.values()
    container.end(code)
    assert platform.kill(running).status is (JobStatus.FAILED if code else JobStatus.SUCCEEDED)
    assert docker.kills == []


def test_a_job_that_ends_while_it_is_being_killed_keeps_its_end(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    [container] = docker.containers.values()
    docker.hooks[f"POST /containers/{container.id}/kill"] = lambda: container.end(0)
    assert platform.kill(running).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("words", "seconds"), [((), 0), (("--stop-timeout", "60"), 60), (("--stop-timeout=-1",), 1_728_000)]
)
def test_a_request_to_stop_counts_for_as_long_as_the_job_has(
    platform: DockerPlatform, running: JobRecord, words: tuple[str, ...], seconds: int
) -> None:
    assert platform.grace_seconds(replace(running, spec=spec_with(*words))) == seconds


def test_containers_that_are_stopped_at_the_same_time_are_not_mixed_up(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, context: PlatformContext
) -> None:
    """The engine says of one that it was running, and of the other that it had ended before."""
    engine = context.engine()
    other = replace(running, id=69)
    [container] = docker.containers.values()

    def another_had_ended() -> None:
        response = requests.Response()
        response.status_code, response.url = 304, f"http://docker/containers/{'f' * 64}/stop"
        for hook in engine.client.api.hooks["response"][1:]:
            hook(response)

    docker.hooks[f"POST /containers/{container.id}/stop"] = another_had_ended
    assert platform.stop(other).status is JobStatus.STOPPED
