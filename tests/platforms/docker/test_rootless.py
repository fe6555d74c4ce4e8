"""A rootless engine: root in a container is the user; every other user of the image owns none of the user's files."""

from __future__ import annotations

from itertools import pairwise

import pytest

from caliban.attempts import Submission
from caliban.images.docker.identity import EngineIdentity, engine_identity
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import JsonObject
from tests.fake_service import may_send

from .fake_engine import INFO, FakeDocker

ROOTLESS = {**INFO, "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"]}


def created(docker: FakeDocker, platform: DockerPlatform, submission: Submission, *words: str) -> list[str]:
    """Return the arguments of the ``docker create`` of a job with these arguments of ``docker run``."""
    spec: JsonObject = {"command": ["docker", "run", *words, "lab:1"], "container": "lab:1"}
    platform.submit(spec, submission, may_send)
    [container] = docker.containers.values()
    return container.docker_arguments


def users(arguments: list[str]) -> list[str]:
    return [value for flag, value in pairwise(arguments) if flag in ("--user", "-u")]


def test_a_job_on_a_rootless_engine_is_the_user(
    docker: FakeDocker, platform: DockerPlatform, submission: Submission
) -> None:
    docker.info = ROOTLESS
    assert users(created(docker, platform, submission)) == ["0:0"]


@pytest.mark.parametrize("words", [("--user", "7"), ("-u", "7")])
def test_a_user_that_was_chosen_counts(
    docker: FakeDocker, platform: DockerPlatform, submission: Submission, words: tuple[str, ...]
) -> None:
    docker.info = ROOTLESS
    assert users(created(docker, platform, submission, *words)) == ["7"]


def test_a_job_on_any_other_engine_is_the_user_of_the_image(
    docker: FakeDocker, platform: DockerPlatform, submission: Submission
) -> None:
    assert users(created(docker, platform, submission)) == []


@pytest.mark.parametrize(
    ("info", "is_rootless"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}, True),
        ({"SecurityOptions": ["name=rootless,x=y"]}, True),
        ({"SecurityOptions": ["name=seccomp,profile=default"], "Rootless": True}, True),  # Podman 4.3
        ({"SecurityOptions": ["name=seccomp,profile=rootless"], "Rootless": False}, False),
        ({"SecurityOptions": [5, None], "Rootless": "yes"}, False),
        ({"SecurityOptions": "name=rootless"}, False),
        ({"SecurityOptions": None}, False),
    ],
)
def test_an_engine_reports_whether_it_is_rootless(info: JsonObject, is_rootless: bool) -> None:
    assert engine_identity({**INFO, **info}).is_rootless is is_rootless


def test_an_engine_that_becomes_rootless_stays_the_same_engine() -> None:
    assert engine_identity(ROOTLESS) == EngineIdentity("a1b2-engine", "catbus")
