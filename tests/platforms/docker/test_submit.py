"""Submitting to the Docker Engine: arguments, labels, credentials, refusals, and jobs that are there already."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.attempts import Submission
from caliban.errors import CalibanError, PlatformError
from caliban.images.docker.engine import Engine
from caliban.images.docker.silence import DaemonWatch
from caliban.platforms.base import RefusedError
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker import start
from caliban.platforms.docker.details import DockerDestination
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import FailureCause, JobRecord, JobStatus, JsonObject, NewJob
from tests.fake_service import may_send

from .conftest import TOKEN
from .fake_engine import FakeDocker
from .helpers import OutputReporter

NAME = "caliban-20200529-105330-01234567"
NO_GPU = 'could not select device driver "" with capabilities: [[gpu]]'
NO_CDI = "failed to discover GPU vendor from CDI: no known GPU vendor found"
NO_PROGRAM = 'exec: "python": executable file not found in $PATH: unknown.'


def spec_with(*words: str) -> JsonObject:
    return {"command": ["docker", "run", *words, "lab:1"], "container": "lab:1"}


def refusal(platform: DockerPlatform, spec: JsonObject, submission: Submission) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        platform.submit(spec, submission, may_send)
    return caught.value


def test_submit_runs_the_recorded_command_with_name_and_labels(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    platform.submit(spec, submission, may_send)
    [call] = docker.calls
    assert call.arguments == [
        *("create", "--name", NAME, "--ipc", "host", "-e", "PYTHONUNBUFFERED=1"),
        *("--label", f"caliban.token={TOKEN}", "--label", "caliban.experiment=38"),
        *("lab:1", "--foo", "3"),
    ]


def test_submit_returns_a_running_job_with_its_container(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    job = platform.submit(spec, submission, may_send)
    container = docker.containers[NAME]
    assert (job.container, job.status) == ("lab:1", JobStatus.RUNNING)
    assert job.details.raw == {
        "name": NAME,
        "host": socket.gethostname(),
        "engine": "a1b2-engine",
        "engine_name": "catbus",
        "container_id": container.id,
    }
    assert (job.details.id, job.details.display_name) == (container.id, NAME)
    assert (job.details.destination, job.details.exit) == (DockerDestination("a1b2-engine", "catbus"), None)


def test_the_client_gets_the_environment_of_the_context(
    platform: DockerPlatform, docker: FakeDocker, environ: dict[str, str], spec: JsonObject, submission: Submission
) -> None:
    platform.submit(spec, submission, may_send)
    assert docker.calls[0].environ["DOCKER_HOST"] == environ["DOCKER_HOST"]
    assert "HOME" not in docker.calls[0].environ


@pytest.mark.parametrize("word", ["--rm", "--rm=true", "--rm=1", "--rm=T"])
def test_a_container_does_not_remove_itself(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission, word: str
) -> None:
    platform.submit({**spec, "command": ["docker", "run", word, "lab:1", word]}, submission, may_send)
    container = docker.containers[NAME]
    assert (word in container.docker_arguments, container.arguments) == (False, [word])


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (NO_GPU, "Docker cannot access a GPU", "install the NVIDIA Container Toolkit, or add --nogpu"),
        (NO_CDI, "Docker cannot access a GPU", "install the NVIDIA Container Toolkit, or add --nogpu"),
        (
            NO_PROGRAM,
            f"cannot start the container {NAME}",
            'check that the image contains the program; see "base_image" in .calibanconfig.json',
        ),
        ("something new", f"cannot start the container {NAME}", None),
    ],
)
def test_a_container_that_cannot_start_is_refused_with_a_hint_and_removed(
    platform: DockerPlatform,
    docker: FakeDocker,
    spec: JsonObject,
    submission: Submission,
    error: str,
    message: str,
    hint: str | None,
) -> None:
    docker.start_error = error
    refused = refusal(platform, spec, submission)
    assert (refused.id, refused.message, refused.hint) == ("container-not-started", message, hint)
    assert refused.cause == f"Error response from daemon: {error}"
    assert docker.containers == {}


def test_an_image_that_is_missing_is_refused_with_a_hint(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    docker.images.clear()
    refused = refusal(platform, spec, submission)
    assert refused.message == "image not found on this machine"
    assert refused.hint == "build the image again, or get it with: docker pull"
    assert "Unable to find image 'lab:1' locally" in (refused.cause or "")


@pytest.mark.parametrize(
    ("word", "cause"),
    [
        ("--gpuz", "unknown flag: --gpuz"),
        ("--name=x", "--name cannot be used: caliban names the containers"),
        ("--restart=always", '--restart "always" cannot be used: the job would never end'),
    ],
)
def test_recorded_arguments_that_cannot_be_used_are_refused_before_anything_is_created(
    platform: DockerPlatform, docker: FakeDocker, submission: Submission, word: str, cause: str
) -> None:
    spec = {"command": ["docker", "run", word, "lab:1"], "container": "lab:1"}
    refused = refusal(platform, spec, submission)
    assert (refused.id, refused.cause) == ("docker-run-args-rejected", cause)
    assert (docker.containers, refused.hint is None) == ({}, False)
    with pytest.raises(PlatformError) as caught:
        platform.with_image(spec, "lab:2")
    assert (caught.value.id, caught.value.cause) == ("docker-run-args-rejected", cause)


def test_a_flag_that_only_the_installed_client_knows_is_used(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    with_flag = {**spec, "command": ["docker", "run", "--new-value", "x", "lab:1", "--foo"]}
    refused = refusal(platform, with_flag, submission)  # by the fake client, which only has it in its help
    assert refused.cause == "unknown flag: --new-value"
    assert docker.calls[-1].arguments[3:5] == ["--new-value", "x"]


@pytest.mark.parametrize(
    ("word", "lines"),
    [
        ("--rm", []),
        ("--detach", []),
        ("--sig-proxy=true", []),
        ("--sig-proxy=false", ["warning: --sig-proxy=false in the recorded --docker_run_args has no effect"]),
        ("--detach-keys=x", ["warning: --detach-keys in the recorded --docker_run_args has no effect"]),
    ],
)
def test_a_recorded_flag_that_has_no_effect_is_announced(
    platform: DockerPlatform, reporter: OutputReporter, submission: Submission, word: str, lines: list[str]
) -> None:
    platform.submit(spec_with(word), submission, may_send)
    assert reporter.lines == lines


@pytest.mark.parametrize(("word", "expected"), [("--rm", True), ("--rm=false", False), ("-i", False)])
def test_a_job_with_rm_is_to_be_removed_whoever_finds_it(
    platform: DockerPlatform, docker: FakeDocker, submission: Submission, word: str, expected: bool
) -> None:
    submitted = platform.submit(spec_with(word), submission, may_send)
    docker.containers[NAME].end(3)
    found = platform.find(submission)
    assert found is not None
    assert (submitted.details.remove_when_ended, found.details.remove_when_ended) == (expected, expected)
    assert found.details.exit is not None
    assert found.details.exit.code == 3


@pytest.mark.parametrize(("word", "expected"), [("-d", True), ("-itd", True), ("--detach=false", False), ("-i", False)])
def test_a_job_with_detach_runs_in_the_background(
    platform: DockerPlatform, record: Callable[[NewJob], JobRecord], submission: Submission, word: str, expected: bool
) -> None:
    spec = spec_with(word)
    job = replace(record(platform.submit(spec, submission, may_send)), spec=spec)
    assert platform.is_detached(job) is expected


@pytest.mark.parametrize(
    ("words", "expected"), [(("--pull", "always"), True), (("--pull", "missing"), False), ((), False)]
)
def test_a_download_may_take_as_long_as_it_goes_on(
    platform: DockerPlatform,
    submission: Submission,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    expected: bool,
) -> None:
    watches: list[DaemonWatch] = []

    def recorded(engine: Engine, doing: Callable[[], tuple[str, float]]) -> DaemonWatch:
        watches.append(DaemonWatch(engine, doing))
        return watches[-1]

    monkeypatch.setattr(start, "DaemonWatch", recorded)
    platform.submit(spec_with(*words), submission, may_send)
    assert bool(watches) is expected


def test_a_refusal_is_stored_with_its_reason(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    docker.start_error = NO_CDI
    refused = refusal(platform, spec, submission)
    details = platform.parse_details(JobStatus.FAILED, refused.details)
    assert details.exit is not None
    assert (details.exit.code, details.exit.cause) == (None, FailureCause.REFUSED)
    assert details.reason == f"Error response from daemon: {NO_CDI}"


def test_without_the_docker_command_nothing_is_started(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    (docker.socket.parent / "bin" / "docker").unlink()
    refused = refusal(platform, spec, submission)
    assert (refused.id, refused.message) == ("docker-client-missing", "cannot run the docker command")
    assert "No such file or directory" in (refused.cause or "")
    assert docker.containers == {}


@pytest.mark.parametrize(("code", "status"), [(0, JobStatus.SUCCEEDED), (3, JobStatus.FAILED)])
def test_a_second_submit_adopts_a_container_that_has_ended(
    platform: DockerPlatform,
    docker: FakeDocker,
    spec: JsonObject,
    submission: Submission,
    code: int,
    status: JobStatus,
) -> None:
    platform.submit(spec, submission, may_send)
    docker.containers[NAME].end(code)
    job = platform.submit(spec, submission, may_send)
    assert (job.status, list(docker.containers)) == (status, [NAME])


def test_a_name_that_another_job_has_is_refused_and_that_job_kept(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    platform.submit(spec, submission, may_send)
    refused = refusal(platform, spec, replace(submission, token="f" * 32))
    assert f'The container name "/{NAME}" is already in use' in (refused.cause or "")
    assert list(docker.containers) == [NAME]


def test_when_docker_fails_during_the_lookup_the_outcome_is_unknown(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    def fail() -> tuple[int, object]:
        docker.failure = "i/o timeout"
        return 500, {"message": "i/o timeout"}

    docker.hooks[f"POST /containers/{NAME}/start"] = fail
    with pytest.raises(PlatformError) as caught:
        platform.submit(spec, submission, may_send)
    assert (caught.value.id, type(caught.value)) == ("docker-engine-failed", PlatformError)
    assert caught.value.message == "cannot check whether the container was started"


MOUNT = "type=bind,src={},dst=/.caliban/credentials.json,readonly"
VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"


def test_credentials_named_by_a_flag_are_mounted_read_only(
    context: PlatformContext, docker: FakeDocker, spec: JsonObject, submission: Submission, tmp_path: Path
) -> None:
    key = tmp_path / "key.json"
    key.touch()
    DockerPlatform(replace(context, options={"cloud_key": key})).submit(spec, submission, may_send)
    arguments = docker.containers[NAME].docker_arguments
    assert arguments[arguments.index("--mount") + 1] == MOUNT.format(key)
    assert f"{VARIABLE}=/.caliban/credentials.json" in arguments


def test_the_flag_precedes_the_variable_and_the_variable_the_default(
    context: PlatformContext, docker: FakeDocker, spec: JsonObject, submission: Submission, tmp_path: Path
) -> None:
    default = tmp_path / ".config/gcloud/application_default_credentials.json"
    default.parent.mkdir(parents=True)
    flag, named = tmp_path / "flag.json", tmp_path / "variable.json"
    for path in (default, flag, named):
        path.touch()
    environ = {**context.environ, VARIABLE: str(named)}
    mounted = []
    for options, variables in (({"cloud_key": flag}, environ), ({}, environ), ({}, context.environ)):
        DockerPlatform(replace(context, options=options, environ=variables)).submit(spec, submission, may_send)
        arguments = docker.containers.pop(NAME).docker_arguments
        mounted.append(arguments[arguments.index("--mount") + 1])
    assert mounted == [MOUNT.format(path) for path in (flag, named, default)]


def test_a_comma_in_the_path_of_credentials_is_quoted(
    context: PlatformContext, docker: FakeDocker, spec: JsonObject, submission: Submission, tmp_path: Path
) -> None:
    key = tmp_path / 'a, "b".json'
    key.touch()
    DockerPlatform(replace(context, options={"cloud_key": key})).submit(spec, submission, may_send)
    arguments = docker.containers[NAME].docker_arguments
    quoted = str(key).replace('"', '""')
    assert f'type=bind,"src={quoted}",dst=/.caliban/credentials.json,readonly' in arguments


def test_credentials_that_the_user_passes_are_left_alone(
    context: PlatformContext, docker: FakeDocker, submission: Submission, tmp_path: Path
) -> None:
    key = tmp_path / "key.json"
    key.touch()
    command = ["docker", "run", "-e", f"{VARIABLE}=/mine", "lab:1"]
    platform = DockerPlatform(replace(context, options={"cloud_key": key}))
    platform.submit({"command": command, "container": "lab:1"}, submission, may_send)
    assert "--mount" not in docker.containers[NAME].docker_arguments


def test_credentials_that_are_missing_cause_a_warning(
    context: PlatformContext,
    docker: FakeDocker,
    reporter: OutputReporter,
    spec: JsonObject,
    submission: Submission,
) -> None:
    environ = {**context.environ, VARIABLE: "/nowhere/key.json"}
    DockerPlatform(replace(context, environ=environ)).submit(spec, submission, may_send)
    assert reporter.warnings == ["credentials file not found: /nowhere/key.json; the job runs without credentials"]
    assert "--mount" not in docker.containers[NAME].docker_arguments


def test_a_missing_default_credentials_file_causes_no_warning(
    platform: DockerPlatform, reporter: OutputReporter, spec: JsonObject, submission: Submission
) -> None:
    platform.submit(spec, submission, may_send)
    assert reporter.warnings == []


CLIENT_OUTPUT = b"""\
Unable to find image 'lab:1' locally
1: Pulling from lab
0c7c82c83fae: Pull complete
Digest: sha256:0c7c82c83fae
WARNING: The requested image's platform (linux/arm64) does not match the detected host platform (linux/amd64)
Warning: memory \x1b[2Jlimit without swap
[DEPRECATION NOTICE] Docker Image Format v1
"""


def test_warnings_of_the_docker_client_are_shown_once(
    platform: DockerPlatform,
    docker: FakeDocker,
    reporter: OutputReporter,
    spec: JsonObject,
    submission: Submission,
) -> None:
    docker.create_stderr = CLIENT_OUTPUT
    for token in (TOKEN, "f" * 32):
        platform.submit(spec, replace(submission, token=token, name=f"{NAME}-{token[0]}"), may_send)
    platforms = "The requested image's platform (linux/arm64) does not match the detected host platform (linux/amd64)"
    assert [line.partition("docker: ")[2] for line in reporter.warnings[:1]] == [platforms]
    assert len(reporter.warnings) == 3
    assert all(line.isprintable() for line in reporter.warnings)


def test_find_returns_the_container_with_the_token_only(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    submitted = platform.submit(spec, submission, may_send)
    found = platform.find(submission)
    assert found is not None
    assert (found.container, found.status, found.details.id) == ("lab:1", JobStatus.RUNNING, submitted.details.id)
    assert found.details.raw["started"] == "2020-05-29T10:53:40.123456+00:00"
    assert platform.find(replace(submission, token="f" * 32)) is None


def test_find_reports_how_a_container_ended(
    platform: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    platform.submit(spec, submission, may_send)
    docker.containers[NAME].end(1)
    found = platform.find(submission)
    assert found is not None
    assert (found.status, found.details.raw["ret_code"]) == (JobStatus.FAILED, 1)


def test_an_engine_that_cannot_be_reached_is_reported_by_connect(tmp_path: Path, reporter: OutputReporter) -> None:
    environ = {"DOCKER_HOST": "unix:///nonexistent/sock"}
    context = PlatformContext(environ, tmp_path, reporter, lambda: Engine.connect(environ))
    with pytest.raises(CalibanError) as caught:
        DockerPlatform(context).connect(DockerDestination())
    assert caught.value.message == "cannot reach the Docker daemon at unix:///nonexistent/sock"
    assert (caught.value.id, caught.value.hint) == ("docker-unreachable", "start Docker, or set DOCKER_HOST")


def test_the_name_of_a_job_has_the_time_and_the_start_of_the_token(platform: DockerPlatform, spec: JsonObject) -> None:
    assert platform.job_name(spec, TOKEN) == NAME
    assert os.sep not in NAME
