"""Files of this machine that an engine on another one does not have: said before anything is built."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.attempts import Submission
from caliban.images.docker.endpoint import Endpoint
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker import mounts
from caliban.platforms.docker.details import DockerDestination
from caliban.platforms.docker.errors import not_created, not_started
from caliban.platforms.docker.job_spec import credential_arguments, credential_warnings
from caliban.platforms.docker.platform import DockerPlatform
from caliban.platforms.docker.run_arguments import parse
from caliban.records import JsonObject

from .helpers import OutputReporter

REMOTE = "ssh://totoro@catbus"
ON_ANOTHER = "the Docker Engine at ssh://catbus is on another machine"


def at(context: PlatformContext, host: str, **more: str) -> PlatformContext:
    environ = {key: value for key, value in context.environ.items() if key != "GOOGLE_APPLICATION_CREDENTIALS"}
    return replace(context, environ={**environ, "DOCKER_HOST": host, **more})


def warnings(environ: Mapping[str, str], *words: str) -> list[str]:
    return mounts.warnings(parse([*words, "lab:1"]), environ)


@pytest.mark.parametrize(
    ("host", "is_elsewhere"),
    [
        (None, False),
        ("unix:///run/docker.sock", False),
        ("tcp://localhost:2375", False),
        ("tcp://127.0.0.1:2375", False),
        ("tcp://127.3.2.1", False),
        ("tcp://[::1]:2375", False),
        ("localhost:2375", False),
        ("tcp://catbus:2375", True),
        ("https://catbus:2376", True),
        ("catbus:2375", True),
        ("tcp://totoro:secret@catbus:2375", True),
        ("ssh://localhost", True),
        ("ssh://catbus", True),
        ("tcp://[", False),
    ],
)
def test_an_engine_on_a_network_is_on_another_machine(host: str | None, is_elsewhere: bool) -> None:
    assert Endpoint(host).is_elsewhere is is_elsewhere


def test_a_context_can_name_an_engine_on_another_machine(tmp_path: Path) -> None:
    meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"far").hexdigest() / "meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"Name": "far", "Endpoints": {"docker": {"Host": REMOTE}}}))
    assert mounts.other_machine({"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "far"}) == "ssh://catbus"


@pytest.mark.parametrize(
    "words",
    [
        ("-v", "/data:/data"),
        ("-v/data:/data:ro",),
        ("--volume=/data:/data",),
        ("--mount", "type=bind,src=/data,dst=/data"),
        ("--mount=type=bind,source=/data,target=/data,readonly",),
        ("-v", "/data:/a", "-v", "/data:/b"),
    ],
)
def test_paths_of_another_machine_are_named(words: tuple[str, ...]) -> None:
    expected = f"{ON_ANOTHER}: --docker_run_args mounts files of that machine: /data"
    assert warnings({"DOCKER_HOST": REMOTE}, *words) == [expected]


@pytest.mark.parametrize(
    "words",
    [("-v", "cache:/data"), ("-v", "/data"), ("--mount", "type=volume,src=cache,dst=/data"), ("--tmpfs", "/data")],
)
def test_volumes_are_wherever_the_engine_is(words: tuple[str, ...]) -> None:
    assert warnings({"DOCKER_HOST": REMOTE}, *words) == []


def test_paths_of_this_machine_need_no_word() -> None:
    assert warnings({"DOCKER_HOST": "unix:///run/docker.sock"}, "-v", "/data:/data") == []


def test_the_paths_of_a_job_that_is_run_again_are_reported_once_before_its_image_is_built(
    context: PlatformContext, reporter: OutputReporter
) -> None:
    spec: JsonObject = {"command": ["docker", "run", "-v", "/data:/data", "lab:1"], "container": "lab:1"}
    platform = DockerPlatform(at(context, REMOTE))
    platform.with_image(spec, "lab:2")
    platform.with_image(spec, "lab:2")
    assert reporter.warnings == [f"{ON_ANOTHER}: --docker_run_args mounts files of that machine: /data"]


@pytest.fixture
def default_credentials(context: PlatformContext) -> Path:
    path = context.home / ".config" / "gcloud" / "application_default_credentials.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    return path


def test_default_credentials_stay_on_this_machine(context: PlatformContext, default_credentials: Path) -> None:
    here, there = at(context, "unix:///run/docker.sock"), at(context, REMOTE)
    assert (len(credential_arguments((), here)), credential_arguments((), there)) == (4, [])
    assert credential_warnings(here) == []
    assert credential_warnings(there) == [f"{ON_ANOTHER}: jobs do not get {default_credentials}"]


def test_credentials_that_were_named_must_be_on_the_other_machine(context: PlatformContext, tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text("{}")
    there = at(context, REMOTE, GOOGLE_APPLICATION_CREDENTIALS=str(key))
    assert len(credential_arguments((), there)) == 4
    assert credential_warnings(there) == [f"{ON_ANOTHER}: it must have the credentials file {key}"]


def test_without_credentials_nothing_is_reported(context: PlatformContext) -> None:
    assert credential_warnings(at(context, REMOTE)) == []


def test_the_credentials_are_reported_before_anything_is_built(
    context: PlatformContext, default_credentials: Path, reporter: OutputReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = DockerPlatform(context)
    here = platform.destination(None)
    platform.context = at(context, REMOTE)
    platform.connect(DockerDestination(here.engine, here.engine_name))
    assert reporter.warnings == [f"{ON_ANOTHER}: jobs do not get {default_credentials}"]


@pytest.mark.parametrize(
    "words",
    [
        'invalid mount config for type "bind": bind source path does not exist: /data',
        "Mounts denied: \nThe path /data is not shared from the host and is not known to Docker.",
        "statfs /data: no such file or directory",
    ],
)
def test_a_path_that_cannot_be_mounted_has_a_hint(submission: Submission, words: str) -> None:
    for error in (not_started(submission, words), not_created(submission, f"Error response from daemon: {words}", 125)):
        assert error.message == "the Docker Engine does not find a path to mount"
        assert "machine of the Docker Engine" in (error.hint or "")
