"""One container for a submission, whoever is killed or paused between two steps.

A "process" is a platform of its own. A killed one is one that raises Killed in the middle of a request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import count

import pytest

from caliban.attempts import Submission
from caliban.errors import CalibanError, PlatformError
from caliban.images.docker.engine import Engine
from caliban.platforms.base import MaySend, NotSentError, RefusedError
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import JobStatus, JsonObject
from tests.fake_service import may_not_send, may_send

from .fake_engine import FakeDocker

NAME = "caliban-20200529-105330-01234567"
LIST = "GET /containers/json"
START = f"POST /containers/{NAME}/start"


class Killed(BaseException):
    """The process is gone."""


def kill() -> None:
    raise Killed


def before_start(action: Callable[[], object]) -> MaySend:
    """Return a permission that does something when it is asked for immediately before the start."""
    calls = count()

    def ask() -> None:
        if next(calls) == 1:
            action()

    return ask


@pytest.fixture
def other(context: PlatformContext) -> DockerPlatform:
    """The platform in a process that settles what the first one left."""
    return DockerPlatform(replace(context, engine=cache(lambda: Engine.connect(context.environ))))


def created_only(platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission) -> None:
    """Let a process be killed after it created the container."""
    with pytest.raises(Killed):
        platform.submit(spec, submission, before_start(kill))
    assert [each.state["Status"] for each in docker.containers.values()] == ["created"]


def test_permission_is_asked_for_between_creation_and_start(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    seen: list[tuple[list[str], list[str]]] = []

    def ask() -> None:
        seen.append(([each.state["Status"] for each in docker.containers.values()], list(docker.starts)))

    platform.submit(spec, submission, ask)
    assert seen == [([], []), (["created"], [])]
    assert docker.requests[-1] == START


def test_a_container_that_may_not_be_started_is_removed(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    with pytest.raises(NotSentError):
        platform.submit(spec, submission, before_start(may_not_send))
    assert (docker.containers, docker.starts) == ({}, [])


def test_a_container_that_may_not_be_created_is_not(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    with pytest.raises(NotSentError):
        platform.submit(spec, submission, may_not_send)
    assert docker.calls == []


def test_a_container_that_was_only_created_is_no_job_and_is_removed(
    platform: DockerPlatform, other: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    created_only(platform, docker, spec, submission)
    assert other.find(submission) is None
    assert (docker.containers, docker.starts) == ({}, [])


def test_a_second_submit_starts_the_container_that_was_only_created(
    platform: DockerPlatform, other: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    created_only(platform, docker, spec, submission)
    job = other.submit(spec, submission, may_send)
    assert (job.status, len(docker.starts), len(docker.containers)) == (JobStatus.RUNNING, 1, 1)


def test_a_client_that_goes_on_after_its_caliban_was_killed_starts_nothing(
    platform: DockerPlatform, other: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    assert other.find(submission) is None  # given up before the client's request arrives
    created_only(platform, docker, spec, submission)
    again = other.submit(spec, replace(submission, token="f" * 32, name="caliban-again"), may_send)
    assert docker.starts == [again.details.id]


def test_a_process_that_was_taken_for_dead_cannot_start_what_was_given_up(
    platform: DockerPlatform, other: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    """It is paused after it asked for permission, the last moment before its request."""
    with pytest.raises(NotSentError):
        platform.submit(spec, submission, before_start(lambda: other.find(submission)))
    assert (docker.containers, docker.starts) == ({}, [])


@pytest.mark.parametrize(
    "request_of_the_other",
    [
        f"POST /containers/{NAME}-given-up/start",
        "POST /containers/{id}/rename",
        "GET /containers/{id}/json",
        "DELETE /containers/{id}",
    ],
)
def test_a_start_during_the_giving_up_is_either_refused_or_adopted(
    platform: DockerPlatform,
    other: DockerPlatform,
    docker: FakeDocker,
    spec: JsonObject,
    submission: Submission,
    request_of_the_other: str,
) -> None:
    created_only(platform, docker, spec, submission)
    [container] = docker.containers.values()
    answers: list[object] = []

    def start() -> None:
        named = docker.find(NAME)  # by its name, as a process does that was paused before its request
        answers.append(docker.start(named)[0] if named else 404)

    docker.hooks[request_of_the_other.format(id=container.id)] = start
    found = other.find(submission)
    started = answers == [204]
    assert (found is not None, len(docker.starts), len(docker.containers)) == (started, int(started), int(started))


def test_a_program_that_ended_during_the_giving_up_is_a_job(
    platform: DockerPlatform, other: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    created_only(platform, docker, spec, submission)
    [container] = docker.containers.values()

    def start_and_end() -> None:
        docker.start(container)
        container.end(0)

    docker.hooks[f"POST /containers/{container.id}/rename"] = start_and_end
    found = other.find(submission)
    assert found is not None
    assert (found.status, found.details.id) == (JobStatus.SUCCEEDED, container.id)


@pytest.mark.parametrize("killed_at", ["POST /containers/{id}/rename", "DELETE /containers/{id}"])
def test_giving_up_can_be_repeated_after_a_kill(
    platform: DockerPlatform,
    other: DockerPlatform,
    docker: FakeDocker,
    spec: JsonObject,
    submission: Submission,
    killed_at: str,
) -> None:
    created_only(platform, docker, spec, submission)
    [container] = docker.containers.values()
    docker.hooks[killed_at.format(id=container.id)] = lambda: (500, {"message": "the daemon is shutting down"})
    with pytest.raises(PlatformError):
        other.find(submission)
    assert other.find(submission) is None
    assert docker.containers == {}


def test_after_a_kill_during_the_giving_up_the_same_submission_can_be_sent(
    platform: DockerPlatform, other: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    created_only(platform, docker, spec, submission)
    [container] = docker.containers.values()
    docker.hooks[f"DELETE /containers/{container.id}"] = lambda: (500, {"message": "the daemon is shutting down"})
    with pytest.raises(PlatformError):
        other.find(submission)
    job = other.submit(spec, submission, may_send)
    assert docker.starts == [job.details.id]
    found = other.find(submission)
    assert found is not None
    assert (found.details.id, len(docker.containers)) == (job.details.id, 1)


@pytest.mark.parametrize("lost", ["create", "start"])
def test_after_a_lost_answer_the_container_is_looked_up(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission, lost: str
) -> None:
    docker.lost = {lost}
    job = platform.submit(spec, submission, may_send)
    assert (job.status, docker.starts) == (JobStatus.RUNNING, [job.details.id])


def test_a_start_that_fails_before_it_arrives_leaves_the_outcome_open(
    platform: DockerPlatform, other: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    docker.hooks[START] = lambda: (502, b"<html>Bad Gateway</html>")
    docker.hooks[LIST] = lambda: None
    with pytest.raises(CalibanError) as caught:
        platform.submit(spec, submission, may_send)
    assert isinstance(caught.value, RefusedError) == (docker.containers == {})
    assert other.find(submission) is None
    assert (docker.containers, docker.starts) == ({}, [])


def test_two_processes_with_one_submission_start_one_container(
    platform: DockerPlatform, other: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    jobs = []
    first = platform.submit(
        spec, submission, before_start(lambda: jobs.append(other.submit(spec, submission, may_send)))
    )
    assert docker.starts == [first.details.id] == [jobs[0].details.id]


def test_a_name_that_another_submission_has_is_refused(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    platform.submit(spec, submission, may_send)
    with pytest.raises(RefusedError):
        platform.submit(spec, replace(submission, token="f" * 32), may_send)
    assert (len(docker.containers), len(docker.starts)) == (1, 1)


@pytest.mark.parametrize("tty", ["-it", "-ti", "-i -t"])
def test_interactive_flags_are_kept(
    platform: DockerPlatform, docker: FakeDocker, submission: Submission, tty: str
) -> None:
    command = ["docker", "run", *tty.split(), "lab:1"]
    platform.submit({"command": command, "container": "lab:1"}, submission, may_send)
    assert {"-i", "-t"} <= set(docker.containers[NAME].docker_arguments)


@pytest.mark.parametrize(
    "step", ["POST /containers/{id}/rename", "GET /containers/{id}/json", "DELETE /containers/{id}"]
)
def test_two_processes_that_give_up_one_submission_agree_that_it_is_no_job(
    platform: DockerPlatform,
    other: DockerPlatform,
    docker: FakeDocker,
    spec: JsonObject,
    submission: Submission,
    step: str,
) -> None:
    created_only(platform, docker, spec, submission)
    [container] = docker.containers.values()
    found: list[object] = []
    docker.hooks[step.format(id=container.id)] = lambda: found.append(platform.find(submission))
    assert other.find(submission) is None
    assert (found, docker.containers) == ([None], {})


@pytest.mark.parametrize("status", [400, 409, 500])
def test_a_renaming_that_another_process_did_first_is_no_error(
    platform: DockerPlatform,
    other: DockerPlatform,
    docker: FakeDocker,
    spec: JsonObject,
    submission: Submission,
    status: int,
) -> None:
    created_only(platform, docker, spec, submission)
    [container] = docker.containers.values()

    def rename() -> tuple[int, object]:
        docker.rename(container, f"{NAME}-given-up")
        return status, {"message": "Renaming a container with the same name as its current name"}

    docker.hooks[f"POST /containers/{container.id}/rename"] = rename
    assert other.find(submission) is None
    assert docker.containers == {}


def test_a_container_that_another_process_is_removing_is_no_job(
    platform: DockerPlatform, other: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    created_only(platform, docker, spec, submission)
    [container] = docker.containers.values()
    container.state["Status"] = "removing"
    docker.hooks[f"POST /containers/{container.id}/rename"] = lambda: (409, {"message": "marked for removal"})
    docker.hooks[f"DELETE /containers/{container.id}"] = lambda: (409, {"message": "removal is already in progress"})
    assert other.find(submission) is None
