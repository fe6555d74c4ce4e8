"""States of local jobs: listing, following and stopping."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest

from caliban.attempts import Submission
from caliban.errors import PlatformError
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker import output
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import (
    FailureCause,
    JobExit,
    JobRecord,
    JobStatus,
    JobUpdate,
    JsonObject,
    NewJob,
    StatusUnavailable,
)
from tests.fake_service import may_send

from .fake_engine import Container, FakeDocker
from .helpers import OutputReporter

STARTED = datetime(2020, 5, 29, 10, 53, 40, 123456, timezone.utc)
ENDED = datetime(2020, 5, 29, 10, 54, 0, 987654, timezone.utc)
REMOVED = "its container was removed before its end was recorded"


def container_of(docker: FakeDocker, job: JobRecord) -> Container:
    return docker.containers[str(job.details.display_name)]


def with_details(job: JobRecord, **raw: object) -> JobRecord:
    merged = {key: value for key, value in {**job.details.raw, **raw}.items() if value is not None}
    return replace(job, details=DockerPlatform.parse_details(job.status, merged))


def status(platform: DockerPlatform, job: JobRecord) -> JobUpdate | StatusUnavailable:
    return platform.statuses([job])[job.id]


@pytest.mark.parametrize("state", ["running", "paused", "restarting"])
def test_a_container_that_has_not_ended_is_running(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, state: str
) -> None:
    container_of(docker, running).state["Status"] = state
    assert status(platform, running) == JobUpdate(JobStatus.RUNNING)


@pytest.mark.parametrize(
    ("code", "oom", "expected", "exit"),
    [
        (0, False, JobStatus.SUCCEEDED, JobExit(0)),
        (3, False, JobStatus.FAILED, JobExit(3, FailureCause.CODE_ERROR)),
        (137, True, JobStatus.FAILED, JobExit(137, FailureCause.OUT_OF_MEMORY, "out of memory")),
    ],
)
def test_a_container_that_has_ended_reports_code_cause_and_times(
    platform: DockerPlatform,
    docker: FakeDocker,
    running: JobRecord,
    code: int,
    oom: bool,
    expected: JobStatus,
    exit: JobExit,
) -> None:
    container_of(docker, running).end(code, oom=oom)
    update = status(platform, running)
    assert isinstance(update, JobUpdate)
    assert update.details is not None
    assert (update.status, update.details.exit) == (expected, exit)
    assert (update.details.started, update.details.ended) == (STARTED, ENDED)
    assert update.details.raw["ret_code"] == code
    assert running.details.raw.items() <= update.details.raw.items()


def test_the_error_of_the_engine_is_the_reason(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    container = container_of(docker, running)
    container.end(255)
    container.state["Error"] = "error while\nattaching"
    assert running.updated(status(platform, running)).reason == "error while attaching"


def test_a_container_in_the_state_dead_has_failed(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    container = container_of(docker, running)
    container.end(0)
    container.state["Status"] = "dead"
    job = running.updated(status(platform, running))
    assert (job.status, job.details.exit) == (JobStatus.FAILED, JobExit(0, FailureCause.UNKNOWN))


def test_a_container_that_was_removed_leaves_the_state_unknown(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    docker.containers.clear()
    job = running.updated(status(platform, running))
    assert (job.status, job.reason) == (JobStatus.UNKNOWN, REMOVED)
    assert job.details.exit == JobExit(None, FailureCause.UNKNOWN, REMOVED)


def test_one_request_lists_all_jobs_and_only_ended_ones_are_inspected(
    platform: DockerPlatform,
    docker: FakeDocker,
    spec: JsonObject,
    submission: Submission,
    record: Callable[[NewJob, int], JobRecord],
) -> None:
    jobs = []
    for number in range(5):
        each = replace(submission, token=f"{number:032}", name=f"caliban-{number}")
        jobs.append(record(platform.submit(spec, each, may_send), number))
    docker.containers["caliban-3"].end(0)
    docker.requests.clear()
    found = platform.statuses(jobs)
    ended = docker.containers["caliban-3"].id
    assert docker.requests == ["GET /containers/json", f"GET /containers/{ended}/json"]
    states = {number: update.status for number, update in found.items() if isinstance(update, JobUpdate)}
    assert states == {number: JobStatus.SUCCEEDED if number == 3 else JobStatus.RUNNING for number in range(5)}


def test_a_job_without_a_recorded_container_keeps_its_state(platform: DockerPlatform, running: JobRecord) -> None:
    job = replace(running, details=DockerPlatform.parse_details(JobStatus.RUNNING, {}))
    assert status(platform, job) == StatusUnavailable("no container name recorded", is_permanent=True)


def test_states_are_unavailable_while_docker_cannot_be_reached(
    platform: DockerPlatform, context: PlatformContext, running: JobRecord
) -> None:
    def unreachable() -> object:
        raise PlatformError("docker-unreachable", "cannot reach the Docker daemon")

    away = DockerPlatform(replace(context, engine=unreachable))  # type: ignore[arg-type]
    assert status(away, running) == StatusUnavailable("cannot reach the Docker daemon")


def test_follow_reports_all_output_and_how_the_job_ended(
    platform: DockerPlatform, docker: FakeDocker, reporter: OutputReporter, running: JobRecord
) -> None:
    container = container_of(docker, running)
    container.out, container.err = b"a" * 200_000 + b"\xff", b"warning\n"
    docker.on_wait = lambda container: container.end(5)
    update = platform.follow(running)
    assert (reporter.out, reporter.err) == (container.out, container.err)
    assert update.details is not None
    assert (update.status, update.details.exit) == (JobStatus.FAILED, JobExit(5, FailureCause.CODE_ERROR))


def test_ctrl_c_ends_follow_and_leaves_the_job_running(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    def press(container: Container) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        docker.closing.wait(10)

    docker.on_wait = press
    with pytest.raises(KeyboardInterrupt):
        platform.follow(running)
    assert container_of(docker, running).state["Status"] == "running"


@pytest.mark.parametrize("is_started", [False, True])
def test_ctrl_c_before_the_output_is_read_ends_follow_too(
    platform: DockerPlatform, running: JobRecord, monkeypatch: pytest.MonkeyPatch, is_started: bool
) -> None:
    class InterruptedThread(threading.Thread):
        def start(self) -> None:
            if is_started:
                super().start()
            raise KeyboardInterrupt

    patched = SimpleNamespace(Thread=InterruptedThread, Event=threading.Event)
    monkeypatch.setattr(output, "threading", patched)
    with pytest.raises(KeyboardInterrupt):
        platform.follow(running)


def test_a_container_that_is_removed_while_it_is_followed_leaves_the_state_unknown(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    def remove(container: Container) -> None:
        container.end(137)
        docker.containers.clear()

    docker.on_wait = remove
    job = running.updated(platform.follow(running))
    assert (job.status, job.reason) == (JobStatus.UNKNOWN, REMOVED)


def test_a_container_that_was_removed_before_it_is_waited_for_leaves_the_state_unknown(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    docker.hooks[f"POST /containers/{running.details.id}/wait"] = docker.containers.clear
    assert platform.follow(running).status is JobStatus.UNKNOWN


def test_a_container_that_has_ended_is_removed(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    container_of(docker, running).end(0)
    platform.remove(running)
    assert docker.containers == {}
    platform.remove(running)  # once more


@pytest.mark.parametrize("state", ["running", "paused", "restarting"])
def test_a_container_that_runs_is_not_removed(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, state: str
) -> None:
    container_of(docker, running).state["Status"] = state
    platform.remove(running)
    assert len(docker.containers) == 1


def test_a_container_on_another_engine_is_not_removed(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    docker.containers.clear()
    with pytest.raises(PlatformError) as caught:
        platform.remove(with_details(running, engine="other", engine_name="kiki"))
    assert caught.value.message == "cannot remove the container of job 68"


def test_a_container_of_someone_else_is_not_removed(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    container = container_of(docker, running)
    container.end(0)
    container.labels.clear()
    platform.remove(running)
    assert len(docker.containers) == 1


def test_a_container_that_docker_restarts_has_not_ended(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    states = iter(("restarting", "running", "paused", "exited"))

    def end_or_restart(container: Container) -> None:
        container.end(1)
        container.state["Status"] = next(states)

    docker.on_wait = end_or_restart
    update = platform.follow(running)
    assert (update.status, list(states)) == (JobStatus.FAILED, [])


def test_a_container_is_followed_by_its_id_when_another_one_gets_its_name(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    own = container_of(docker, running)
    name = own.name
    own.name = "renamed"
    docker.containers = {"renamed": own, name: replace(own, id="f" * 64, name=name, state={**own.state})}
    docker.containers[name].end(0)
    docker.on_wait = lambda container: container.end(7)
    assert status(platform, running) == JobUpdate(JobStatus.RUNNING)
    followed = platform.follow(running).details
    assert followed is not None
    assert followed.raw["ret_code"] == 7


def test_stop_stops_a_running_container(platform: DockerPlatform, docker: FakeDocker, running: JobRecord) -> None:
    job = running.updated(platform.stop(running))
    assert (job.status, job.details.ended) == (JobStatus.STOPPED, ENDED)
    assert job.details.exit == JobExit(None, FailureCause.STOPPED)
    assert container_of(docker, running).state["Status"] == "exited"


def test_stop_of_a_job_without_a_recorded_container_is_an_error(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    with pytest.raises(PlatformError) as caught:
        platform.stop(with_details(running, name=None))
    assert (caught.value.message, caught.value.cause) == ("cannot stop job 68", "no container name recorded")
    assert container_of(docker, running).state["Status"] == "running"


def test_a_container_that_caliban_did_not_start_is_not_stopped(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    """A record can name any container."""
    container_of(docker, running).labels.clear()
    assert platform.stop(running).status is JobStatus.UNKNOWN
    assert status(platform, running) == platform.stop(running)
    assert container_of(docker, running).state["Status"] == "running"


@pytest.mark.parametrize("text", ["../images/lab:1", "a/b", "x?force=1", "-x", "", "a b", "x" * 300, "x\n", "%2e%2e"])
@pytest.mark.parametrize("key", ["name", "container_id"])
def test_a_malformed_name_or_id_of_a_container_reaches_no_url(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, key: str, text: str
) -> None:
    job = with_details(running, **{key: text})
    docker.requests.clear()
    platform.statuses([job])
    with suppress(PlatformError):
        platform.stop(job)
    own = {f"/containers/{container_of(docker, running).id}", f"/containers/{container_of(docker, running).name}"}
    assert {each.split()[1].removesuffix("/json").removesuffix("/stop") for each in docker.requests} <= {
        *own,
        "/containers",
        "/info",
    }


def test_a_job_that_ends_by_itself_while_it_is_being_stopped_keeps_its_end(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    container = container_of(docker, running)
    docker.hooks[f"POST /containers/{container.id}/stop"] = lambda: container.end(0)
    assert running.updated(platform.stop(running)).status is JobStatus.SUCCEEDED


def test_a_job_that_was_stopped_is_stopped_although_its_program_exits_with_0(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    docker.stop_code = 0
    assert running.updated(platform.stop(running)).status is JobStatus.STOPPED


def test_stop_waits_as_long_as_the_container_may_take(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    asked: list[int] = []
    engine = platform.context.engine()
    container = container_of(docker, running)

    def answer() -> tuple[int, object]:
        asked.append(1)
        return 200, {
            "Id": container.id,
            "State": container.state,
            "Config": {"StopTimeout": 300, "Labels": container.labels},
        }

    docker.hooks[f"GET /containers/{container.id}/json"] = answer
    docker.stop_seconds = ["300"]
    platform.stop(running)
    assert (asked, engine.host) == ([1], f"unix://{docker.socket}")


def test_stop_reports_that_docker_fails(platform: DockerPlatform, docker: FakeDocker, running: JobRecord) -> None:
    docker.failure = "i/o timeout"
    with pytest.raises(PlatformError) as caught:
        platform.stop(running)
    assert (caught.value.id, caught.value.message) == ("docker-engine-failed", "cannot stop job 68")


def test_the_host_and_the_engine_of_a_job_are_recorded(running: JobRecord) -> None:
    raw = running.details.raw
    assert (raw["host"], raw["engine"], raw["engine_name"]) == (socket.gethostname(), "a1b2-engine", "catbus")
