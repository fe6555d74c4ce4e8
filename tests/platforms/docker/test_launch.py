"""The flags of ``caliban run``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from caliban.errors import UsageError
from caliban.platforms.docker.launch import LAUNCHER, DockerLaunch
from caliban.platforms.launch import LaunchContext


def prepare(*words: str, wants_gpu: bool = False) -> DockerLaunch:
    parser = argparse.ArgumentParser()
    LAUNCHER.add_arguments(parser)
    context = LaunchContext("totoro", Path("/"), Path("/"), {}, datetime(2020, 5, 29), wants_gpu)
    return LAUNCHER.prepare(parser.parse_args(words), context)


def test_docker_arguments_are_split_as_a_shell_does() -> None:
    launch = prepare("--docker_run_args", "-v '/a b:/c' -e A=1")
    spec = launch.job_spec(1, ["--foo", "3"], "lab:1")
    common = ["docker", "run", "--ipc", "host", "-e", "PYTHONUNBUFFERED=1"]
    command = [*common, "-v", "/a b:/c", "-e", "A=1", "lab:1", "--foo", "3"]
    assert spec == {"command": command, "container": "lab:1"}


@pytest.mark.parametrize("wants_gpu", [True, False])
def test_containers_get_gpus_where_jobs_want_them(wants_gpu: bool) -> None:
    command = prepare(wants_gpu=wants_gpu).job_spec(1, [], "lab:1")["command"]
    assert isinstance(command, list)
    assert ("--gpus" in command) is wants_gpu


def test_an_open_quote_in_docker_arguments_is_wrong_usage() -> None:
    with pytest.raises(UsageError) as caught:
        prepare("--docker_run_args", "'open")
    assert (caught.value.id, caught.value.cause) == ("malformed-docker-run-args", "No closing quotation")


def test_the_timeout_of_a_job_is_recorded() -> None:
    assert prepare("--timeout", "1m30s").job_spec(1, [], "lab:1")["timeout"] == 90


def test_a_job_that_nobody_waits_for_has_no_timeout() -> None:
    with pytest.raises(UsageError, match="--timeout cannot be used with --detach"):
        prepare("--timeout", "90", "--docker_run_args=-d")


def test_jobs_run_here() -> None:
    assert (prepare().platform, LAUNCHER.image_flag, LAUNCHER.verb) == ("LOCAL", "image_id", "run")


@pytest.mark.parametrize("module", ["launch", "details"])
def test_neither_help_nor_listing_imports_docker(module: str) -> None:
    code = (
        f"import sys, caliban.platforms.docker.{module}\n"
        "sys.exit(int(any(name.split('.')[0] in ('docker', 'requests', 'sqlalchemy') for name in sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
