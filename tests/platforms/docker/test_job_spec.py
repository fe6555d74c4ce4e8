"""Job specs of local jobs, as caliban 0.4.2 records them."""

from __future__ import annotations

import pytest

from caliban.errors import PlatformError
from caliban.platforms.docker.job_spec import new_job_spec
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import JsonObject

SPEC: JsonObject = {
    "command": ["docker", "run", "--ipc", "host", "-v", "/a:/b", "lab:1", "--image", "lab:1"],
    "container": "lab:1",
}


@pytest.mark.parametrize(("gpu", "flags"), [(True, ["--gpus", "all"]), (False, [])])
def test_a_new_spec_has_the_docker_arguments_before_the_image(gpu: bool, flags: list[str]) -> None:
    spec = new_job_spec("lab:1", ["--foo", "3"], docker_run_args=["-v", "/a b:/c"], gpu=gpu)
    common = ["--ipc", "host", "-e", "PYTHONUNBUFFERED=1"]
    command = ["docker", "run", *flags, *common, "-v", "/a b:/c", "lab:1", "--foo", "3"]
    assert spec == {"command": command, "container": "lab:1"}


def test_another_image_replaces_the_image_only(platform: DockerPlatform) -> None:
    command = ["docker", "run", "--ipc", "host", "-v", "/a:/b", "new:1", "--image", "lab:1"]
    assert platform.with_image(SPEC, "new:1") == {"command": command, "container": "new:1"}


def test_other_arguments_keep_the_docker_arguments(platform: DockerPlatform) -> None:
    command = ["docker", "run", "--ipc", "host", "-v", "/a:/b", "new:1", "--x"]
    assert platform.with_arguments(SPEC, "new:1", ["--x"]) == {"command": command, "container": "new:1"}


def test_unknown_keys_of_a_spec_are_kept(platform: DockerPlatform) -> None:
    assert platform.with_image({**SPEC, "more": 1}, "new:1")["more"] == 1


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({}, '"command" is not a list of strings'),
        ({"command": "docker run x", "container": "x"}, '"command" is not a list of strings'),
        ({"command": ["docker", "run", 3], "container": "x"}, '"command" is not a list of strings'),
        ({"command": ["podman", "run", "x"], "container": "x"}, '"command" does not start with docker run'),
        ({"command": ["docker", "run", "x"]}, '"command" does not contain the image of "container"'),
        (
            {"command": ["docker", "run", "x"], "container": "run"},
            '"command" does not contain the image of "container"',
        ),
    ],
)
def test_a_malformed_spec_is_an_error(platform: DockerPlatform, spec: JsonObject, problem: str) -> None:
    with pytest.raises(PlatformError) as caught:
        platform.with_image(spec, "new:1")
    assert (caught.value.id, caught.value.cause) == ("malformed-job-spec", f"in the recorded job spec, {problem}")
    with pytest.raises(PlatformError, match="cannot run the recorded job again"):
        platform.with_arguments(spec, "new:1", [])
