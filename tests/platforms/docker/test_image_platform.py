"""For which machines the images of local jobs are built: what ``docker create`` will look for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from caliban.config import ProjectConfig
from caliban.errors import PlatformError
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import JsonObject

CONFIG = ProjectConfig(platform="linux/s390x")
"""Images of clusters and clouds only."""


def spec_with(*words: str) -> JsonObject:
    return {"command": ["docker", "run", *words, "lab:1"], "container": "lab:1"}


def image_platform(context: PlatformContext, *words: str, variable: str | None = None) -> str | None:
    environ = {key: value for key, value in context.environ.items() if key != "DOCKER_DEFAULT_PLATFORM"}
    if variable is not None:
        environ["DOCKER_DEFAULT_PLATFORM"] = variable
    return DockerPlatform(replace(context, environ=environ)).image_platform(CONFIG, spec_with(*words))


def test_local_jobs_run_on_what_the_engine_is(context: PlatformContext) -> None:
    assert image_platform(context) is None


def test_dockers_variable_counts_for_the_image_too(context: PlatformContext) -> None:
    assert image_platform(context, variable="linux/arm64") == "linux/arm64"


@pytest.mark.parametrize(
    "words",
    [
        ("--platform", "linux/arm64"),
        ("--platform=linux/arm64",),
        ("-it", "--platform=linux/386", "--platform", "linux/arm64"),
    ],
)
@pytest.mark.parametrize("variable", [None, "linux/amd64"])
def test_the_flag_of_docker_run_counts_for_the_image_too(
    context: PlatformContext, words: tuple[str, ...], variable: str | None
) -> None:
    assert image_platform(context, *words, variable=variable) == "linux/arm64"


def test_a_flag_after_the_image_is_an_argument_of_the_code(context: PlatformContext) -> None:
    spec = {"command": ["docker", "run", "lab:1", "--platform", "linux/arm64"], "container": "lab:1"}
    assert DockerPlatform(replace(context, environ={})).image_platform(CONFIG, spec) is None


def test_a_malformed_spec_is_an_error(context: PlatformContext) -> None:
    with pytest.raises(PlatformError) as caught:
        DockerPlatform(context).image_platform(CONFIG, {})
    assert caught.value.id == "malformed-job-spec"
