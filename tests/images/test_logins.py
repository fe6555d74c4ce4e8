"""Stored logins whose credential helper hangs, fails or is missing."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest

from caliban.clock import Clock, SystemClock
from caliban.images.docker.logins import HELPER_SECONDS, check_logins
from tests.fakes import FakeClock, RecordingReporter

HELPERS = {
    "hangs": "exec 2> /dev/null; read line < {fifo}",
    "fails": "echo broken >&2; exit 3",
    "says nonsense": "echo '[1'",
    "says odd things": "echo '[1, 2]'",
}


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    yield tmp_path
    if (tmp_path / "fifo").exists():  # let the helper end
        os.close(os.open(tmp_path / "fifo", os.O_RDWR | os.O_NONBLOCK))


def install_helper(directory: Path, does: str) -> None:
    os.mkfifo(directory / "fifo")
    helper = directory / "docker-credential-planted"
    helper.write_text(f"#!/bin/sh\n{does.format(fifo=directory / 'fifo')}\n")
    helper.chmod(0o755)


@pytest.fixture
def api() -> Iterator[docker.APIClient]:
    """A client that has not connected yet."""
    with closing(docker.APIClient("tcp://127.0.0.1:1", version="1.41")) as client:
        yield client


def sent_logins(api: docker.APIClient) -> dict[str, dict[str, str]]:
    """Return what docker-py sends with a build."""
    headers: dict[str, str] = {}
    api._set_auth_headers(headers)  # type: ignore[attr-defined]
    sent: dict[str, dict[str, str]] = json.loads(base64.urlsafe_b64decode(headers.get("X-Registry-Config", "e30=")))
    return sent


def processes_of(directory: Path) -> list[str]:
    listed = subprocess.run(["ps", "-A", "-o", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(directory) in line]


def clock_for(how: str) -> Clock:
    return FakeClock() if how == "hangs" else SystemClock()


@pytest.mark.parametrize("how", [*HELPERS, "is missing"])
@pytest.mark.filterwarnings("ignore:docker-credential")  # of docker-py
@pytest.mark.parametrize("key", [{"credsStore": "planted"}, {"credHelpers": {"h:1": "planted"}}], ids=["store", "one"])
def test_a_build_does_without_logins_that_cannot_be_read(
    configuration: Path, api: docker.APIClient, how: str, key: dict[str, object]
) -> None:
    (configuration / "config.json").write_text(json.dumps({**key, "auths": {"h:1": {}}}))
    if how in HELPERS:
        install_helper(configuration, HELPERS[how])
    api.reload_config()
    reporter = RecordingReporter()
    check_logins(api, clock_for(how), reporter)
    assert len(reporter.warnings) <= 1
    if how == "hangs":
        assert f"no answer within {HELPER_SECONDS:.0f} s; building without them" in reporter.warnings[0]
    assert not any(sent_logins(api).values())
    give_up = time.monotonic() + 20
    while processes_of(configuration) and time.monotonic() < give_up:
        time.sleep(0.01)
    assert processes_of(configuration) == []


GIVES = """read key; case $1 in
list) printf '{"https://index.docker.io/v1/": "totoro", "h:1": "totoro"}';;
get) [ "$key" = broken:1 ] && exit 3; printf '{"Username": "%s", "Secret": "of %s"}' "${key#h:1}" "$key";;
esac"""


def test_a_build_gets_the_logins_of_all_helpers_and_of_the_file(configuration: Path, api: docker.APIClient) -> None:
    content = {"credsStore": "planted", "credHelpers": {"x:2": "planted"}, "auths": {"file:3": {"auth": "dTpw"}}}
    (configuration / "config.json").write_text(json.dumps(content))
    install_helper(configuration, GIVES.replace("{", "{{").replace("}", "}}"))
    check_logins(api, SystemClock(), reporter := RecordingReporter())
    assert reporter.warnings == []
    sent = {registry: login["password"] for registry, login in sent_logins(api).items()}
    assert sent == {
        "https://index.docker.io/v1/": "of https://index.docker.io/v1/",
        "index.docker.io": "of https://index.docker.io/v1/",
        "h:1": "of h:1",
        "x:2": "of x:2",
        "file:3": "p",
    }


HAS_NO_LIST = """read key; case $1 in
list) echo not implemented >&2; exit 1;;
get) printf '{"Username": "totoro", "Secret": "of %s"}' "$key";;
esac"""


@pytest.mark.parametrize(
    ("base_image", "key"),
    [
        ("python:3.12", "https://index.docker.io/v1/"),
        ("docker.io/lab/base", "https://index.docker.io/v1/"),
        ("h:1/base:2", "h:1"),
        ("ghcr.io/lab/base@sha256:" + "ab" * 32, "ghcr.io"),
    ],
)
def test_a_helper_without_a_list_is_asked_for_the_registry_of_the_base_image(
    configuration: Path, api: docker.APIClient, base_image: str, key: str
) -> None:
    (configuration / "config.json").write_text('{"credsStore": "planted"}')
    install_helper(configuration, HAS_NO_LIST.replace("{", "{{").replace("}", "}}"))
    check_logins(api, SystemClock(), reporter := RecordingReporter(), base_image)
    assert reporter.warnings == []
    assert sent_logins(api)[key]["password"] == f"of {key}"


@pytest.mark.parametrize("key", [{"credsStore": "planted"}, {"credHelpers": {"h:1": "planted"}}], ids=["store", "one"])
@pytest.mark.parametrize("end", ["; exit 1", " >&2; exit 1", ""], ids=["output", "error", "status 0"])
def test_a_helper_that_has_nothing_causes_no_warning(
    configuration: Path, api: docker.APIClient, key: dict[str, object], end: str
) -> None:
    (configuration / "config.json").write_text(json.dumps(key))
    install_helper(configuration, f"echo credentials not found in native keychain{end}")
    check_logins(api, SystemClock(), reporter := RecordingReporter(), "python:3.12")
    assert reporter.warnings == []
    assert not any(sent_logins(api).values())


def test_a_helper_that_fails_for_one_registry_gives_the_others(configuration: Path, api: docker.APIClient) -> None:
    content = {"credHelpers": {"broken:1": "planted", "x:2": "planted"}}
    (configuration / "config.json").write_text(json.dumps(content))
    install_helper(configuration, GIVES.replace("{", "{{").replace("}", "}}"))
    check_logins(api, SystemClock(), reporter := RecordingReporter())
    assert [line.split(":")[0] for line in reporter.warnings] == ["cannot read docker's stored logins"]
    assert list(sent_logins(api)) == ["x:2"]


def test_without_helpers_nothing_is_run(configuration: Path, api: docker.APIClient) -> None:
    (configuration / "config.json").write_text('{"auths": {"h:1": {"auth": "dTpw"}}}')
    reporter = RecordingReporter()
    check_logins(api, FakeClock(), reporter)
    assert reporter.warnings == []
