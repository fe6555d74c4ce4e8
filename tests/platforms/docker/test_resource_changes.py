"""Local jobs with other resources than they had."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from caliban.errors import PlatformError, UsageError
from caliban.platforms.docker.job_spec import new_job_spec
from caliban.platforms.docker.platform import DockerPlatform
from caliban.platforms.docker.resource_changes import settings
from caliban.platforms.resources import ResourceRequest
from caliban.records import JsonObject
from tests.builders import a_job

IPC = ["--ipc", "host", "-e", "PYTHONUNBUFFERED=1"]
NOWHERE = Path("/nowhere")


def spec_of(*words: str, gpu: bool = False, timeout: int | None = None) -> JsonObject:
    return new_job_spec("lab:1", ["--foo", "3"], docker_run_args=words, gpu=gpu, timeout=timeout)


def changed(platform: DockerPlatform, spec: JsonObject, **request: object) -> JsonObject:
    return platform.with_resources(a_job(1, spec=spec), ResourceRequest(NOWHERE, **request)).spec  # type: ignore[arg-type]


def words(spec: JsonObject) -> list[str]:
    command = spec["command"]
    assert isinstance(command, list)
    return command[2 : command.index("lab:1")]


@pytest.mark.parametrize(
    ("before", "factor", "after"),
    [
        (["-m", "4g"], "2", ["--memory", "8g"]),
        (["--memory=4G"], "1.5", ["--memory", "6g"]),
        (["-m512m"], "2", ["--memory", "1024m"]),
        (["-m", "1gb"], "1.25", ["--memory", "1280m"]),
        (["-m", "1.5 GiB"], "2", ["--memory", "3g"]),
        (["-m", "1000"], "1.0005", ["--memory", "1001b"]),
        (["-m", "4g", "--memory-swap", "6g"], "2", ["--memory", "8g", "--memory-swap", "12g"]),
        (["-m", "4g", "--memory-swap=-1"], "2", ["--memory", "8g", "--memory-swap=-1"]),
        (["-m", "1g", "-m", "4g"], "2", ["--memory", "2g", "--memory", "8g"]),
        (["-v", "/a:/b", "-m", "4g", "-it"], "2", ["-v", "/a:/b", "--memory", "8g", "-i", "-t"]),
    ],
)
def test_more_memory_multiplies_the_limit_and_the_swap_with_it(
    before: list[str], factor: str, after: list[str], platform: DockerPlatform
) -> None:
    assert words(changed(platform, spec_of(*before), more_memory=Decimal(factor))) == [*IPC, *after]


@pytest.mark.parametrize("before", [[], ["--memory", "0"], ["--memory-swap=-1"], ["-e", "memory=4g"]])
def test_without_a_limit_the_error_says_what_to_write(before: list[str], platform: DockerPlatform) -> None:
    with pytest.raises(UsageError) as caught:
        changed(platform, spec_of(*before), more_memory=Decimal(2))
    assert caught.value.id == "no-memory-recorded"
    assert str(caught.value.hint).endswith("write: --docker_run_args '--memory 16g'")


def test_other_arguments_replace_those_of_the_user_alone(platform: DockerPlatform) -> None:
    made = changed(platform, spec_of("-v", "/a:/b", "-m", "4g", gpu=True), docker_run_args="-m 8g --init")
    assert words(made) == ["--gpus", "all", *IPC, "-m", "8g", "--init"]


def test_empty_arguments_remove_those_of_the_user(platform: DockerPlatform) -> None:
    assert words(changed(platform, spec_of("-m", "4g"), docker_run_args="")) == IPC


def test_relative_paths_are_those_of_the_directory_where_the_command_is_called(
    platform: DockerPlatform, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    request = ResourceRequest(tmp_path, docker_run_args="-v ./data:/data")
    made = platform.with_resources(a_job(1, spec=spec_of()), request).spec
    assert words(made) == [*IPC, "-v", f"{tmp_path}/data:/data"]


@pytest.mark.parametrize("given", [[], ["--gpus", "2"], ["--gpus=device=0"]])
def test_without_gpus_none_are_left(given: list[str], platform: DockerPlatform) -> None:
    assert words(changed(platform, spec_of(*given, gpu=True), nogpu=True)) == IPC


def test_a_time_limit_is_recorded(platform: DockerPlatform) -> None:
    assert changed(platform, spec_of(timeout=60), timeout=3600)["timeout"] == 3600


@pytest.mark.parametrize(
    ("before", "request_"),
    [
        (spec_of("--detach"), {"timeout": 60}),
        (spec_of(timeout=60), {"docker_run_args": "--detach"}),
        (spec_of(), {"docker_run_args": "-d", "timeout": 60}),
    ],
)
def test_a_time_limit_needs_a_command_that_waits(
    before: JsonObject, request_: dict[str, object], platform: DockerPlatform
) -> None:
    with pytest.raises(UsageError) as caught:
        changed(platform, before, **request_)
    assert caught.value.id == "timeout-without-waiting"


@pytest.mark.parametrize(
    ("text", "id"),
    [("'", "malformed-docker-run-args"), ("--nmae x", "docker-run-args-rejected"), ("x", "docker-run-args-rejected")],
)
def test_wrong_arguments_are_refused_as_by_run(text: str, id: str, platform: DockerPlatform) -> None:
    with pytest.raises(UsageError) as caught:
        changed(platform, spec_of(), docker_run_args=text)
    assert caught.value.id == id


def test_memory_is_not_multiplied_and_replaced_at_the_same_time(platform: DockerPlatform) -> None:
    with pytest.raises(UsageError) as caught:
        changed(platform, spec_of("-m", "4g"), docker_run_args="-m 8g", more_memory=Decimal(2))
    assert caught.value.id == "conflicting-flags"


def test_recorded_arguments_that_cannot_be_used_are_the_problem_of_the_job(platform: DockerPlatform) -> None:
    with pytest.raises(PlatformError) as caught:
        changed(platform, spec_of("--name", "x"), nogpu=True)
    assert caught.value.id == "docker-run-args-rejected"


def test_settings_are_shown_without_the_values_of_variables() -> None:
    assert settings(spec_of("-e", "TOKEN=secret", "--env=A=b", "-v", "/a b:/c", "-m", "4g", gpu=True, timeout=60)) == {
        "gpus": "all",
        "memory": "4g",
        "memory_swap": None,
        "docker_run_args": "--env TOKEN=... --env A=... -v '/a b:/c'",
        "timeout": "60s",
    }
