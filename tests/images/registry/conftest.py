"""The registry, images that it does not have, and a Docker configuration without logins."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from caliban.images.docker.engine import Engine
from tests.docker_engine import SESSION_LABEL, remove_descendants

from .registries import build_tiny


@pytest.fixture(autouse=True)
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's own configuration: empty, instead of that of whoever runs the tests."""
    directory = tmp_path / "docker"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    monkeypatch.setenv("DOCKER_CONFIG", str(directory))
    return directory / "config.json"


@pytest.fixture(scope="module")
def build(engine: Engine) -> Iterator[Callable[[], str]]:
    """Build an image without a name, which no registry has."""
    token = uuid.uuid4().hex
    yield lambda: build_tiny(engine.client, uuid.uuid4().hex, token)
    remove_descendants(engine.client, f"{SESSION_LABEL}={token}")


@pytest.fixture
def image(build: Callable[[], str]) -> str:
    return build()
