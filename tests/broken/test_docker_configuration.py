"""A damaged Docker configuration is reported with a hint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from caliban.errors import ImageError
from caliban.images.docker.engine import Engine
from caliban.images.registry.auth import stored_login
from tests.conftest import ForkedCaliban
from tests.fakes import RecordingReporter

NO_HOST = {"DOCKER_HOST": ""}


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the Docker configuration."""
    directory = tmp_path / "docker"
    directory.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(directory))
    return directory


def connection_error(directory: Path, **environ: str) -> ImageError:
    with pytest.raises(ImageError) as caught:
        Engine.connect({"DOCKER_CONFIG": str(directory), **environ})
    assert caught.value.hint
    return caught.value


def add_context(directory: Path, content: object, name: str = "lab") -> None:
    path = directory / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "\x00" * 100,
        "[]",
        '"text"',
        "null",
        '{"auths": ["a"]}',
        '{"auths": {"example.com": "a"}}',
        '{"auths": {"example.com": {"auth": "!"}}}',
        '{"auths": {"example.com": {"auth": 5}}}',
        '{"auths": {"example.com": {"auth": "YQ=="}}}',
        '{"proxies": []}',
        '{"proxies": {"default": []}}',
        '{"currentContext": 5}',
        '{"currentContext": ["a"]}',
    ],
)
def test_a_damaged_configuration_is_reported_with_its_path(docker: Path, text: str) -> None:
    (docker / "config.json").write_text(text)
    error = connection_error(docker)
    assert (error.id, str(docker / "config.json") in error.message) == ("docker-config-malformed", True)


def test_a_configuration_of_random_bytes_is_reported(docker: Path) -> None:
    (docker / "config.json").write_bytes(bytes(range(256)))
    assert connection_error(docker).id == "docker-config-malformed"


def test_a_configuration_that_is_a_directory_is_reported(docker: Path) -> None:
    (docker / "config.json").mkdir()
    assert connection_error(docker).id == "docker-config-malformed"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        [],
        {},
        {"Endpoints": []},
        {"Endpoints": {"docker": []}},
        {"Endpoints": {"docker": {}}},
        {"Endpoints": {"docker": {"Host": 5}}},
        {"Endpoints": {"kubernetes": {"Host": "tcp://127.0.0.1:1"}}},
    ],
)
def test_a_damaged_context_is_reported_with_its_path(docker: Path, content: object) -> None:
    add_context(docker, content)
    error = connection_error(docker, DOCKER_CONTEXT="lab")
    assert (error.id, "meta.json" in error.message) == ("docker-config-malformed", True)


@pytest.mark.parametrize("how", ["variable", "configuration"])
def test_a_missing_context_is_an_error(docker: Path, how: str) -> None:
    if how == "configuration":
        (docker / "config.json").write_text('{"currentContext": "gone"}')
    error = connection_error(docker, **({"DOCKER_CONTEXT": "gone"} if how == "variable" else {}))
    assert (error.id, "docker context not found: gone" in error.message) == ("docker-context-missing", True)


def test_the_current_context_names_the_engine(docker: Path) -> None:
    add_context(docker, {"Name": "lab", "Metadata": {}, "Endpoints": {"docker": {"Host": "unix:///nowhere/lab.sock"}}})
    (docker / "config.json").write_text('{"currentContext": "lab"}')
    endpoint = "unix:///nowhere/lab.sock (docker context lab)"
    assert connection_error(docker).message == f"cannot reach the Docker daemon at {endpoint}"


def test_docker_host_takes_precedence_over_contexts(docker: Path) -> None:
    error = connection_error(docker, DOCKER_CONTEXT="gone", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert error.message == "cannot reach the Docker daemon at unix:///nowhere/docker.sock"


@pytest.mark.parametrize(
    "text",
    ['{"auths": ["a"]}', '{"auths": {"h:1": {"auth": 5}}}', '{"credHelpers": ["h:1"]}', '{"credsStore": 5}', "[1]"],
)
def test_an_unreadable_login_causes_a_warning(docker: Path, text: str) -> None:
    (docker / "config.json").write_text(text)
    reporter = RecordingReporter()
    assert (stored_login("h:1", reporter), len(reporter.warnings)) == (None, 1)


@pytest.mark.parametrize("output", ["[]", '{"Username": "totoro"}', '"text"', "5", "\\377"])
def test_invalid_output_of_a_credential_helper_causes_a_warning(
    docker: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = docker / "docker-credential-planted"
    helper.write_text(f"#!/bin/sh\nprintf '{output}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker}:/usr/bin:/bin")
    (docker / "config.json").write_text('{"credHelpers": {"h:1": "planted"}}')
    reporter = RecordingReporter()
    assert (stored_login("h:1", reporter), len(reporter.warnings)) == (None, 1)


def test_a_command_reports_a_damaged_configuration_and_writes_nothing(forked_caliban: ForkedCaliban) -> None:
    (forked_caliban.home / ".docker").mkdir()
    (forked_caliban.home / ".docker" / "config.json").write_text('{"auths": ')
    (forked_caliban.cwd / "cpu.py").write_text("")

    done = forked_caliban("run", "--nogpu", "cpu.py", env={"DOCKER_CONFIG": ""})

    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    file = forked_caliban.home / ".docker" / "config.json"
    assert f"invalid Docker configuration: {file} [docker-config-malformed]" in done.stderr
    assert not (forked_caliban.home / ".caliban").exists()
