"""A user of the installed command, and AI Platform, for commands that need no Docker Engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Researcher
from tests.forkserver import ForkServer
from tests.standins.ml_v1 import MlV1

PUSHED = "localhost:1/totoro/cpu:latest"
"""An image that counts as pushed: it is neither built nor looked up."""


@pytest.fixture
def user(tmp_path: Path, fork_server: ForkServer) -> Researcher:
    """A user with a project, without a Docker Engine."""
    made = Researcher(tmp_path / "home", tmp_path / "project", fork_server)
    skipped = ("CALIBAN_DB_URL", "LOGNAME", "CALIBAN_USER", "GOOGLE_APPLICATION_CREDENTIALS", "DOCKER_CONFIG")
    made.environ = {name: value for name, value in os.environ.items() if name not in skipped}
    made.environ.update({"HOME": str(made.home), "USER": "totoro", "DOCKER_HOST": "unix:///nowhere/docker.sock"})
    made.home.mkdir()
    made.write("cpu.py", "")
    return made


@pytest.fixture
def caip(user: Researcher) -> Iterator[MlV1]:
    """AI Platform, and the user's key file for it."""
    with MlV1() as service:
        user.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_ML"] = service.url
        user.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(service.write_key_file(user.home / "key.json"))
        yield service
