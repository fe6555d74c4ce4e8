"""A real Docker Engine, a base image of the session's own, and projects to build.

Everything that is built here descends from the session's base image, whose label finds it again: the engine may be
shared.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from caliban.config import CONFIG_FILE
from caliban.images.docker.engine import Engine
from caliban.images.dockerfile import BuildUser
from tests.images.helpers import Project, RecordingReporter


@pytest.fixture
def reporter() -> RecordingReporter:
    return RecordingReporter()


@pytest.fixture
def project(tmp_path: Path, base_image: str) -> Project:
    made = Project(tmp_path / "project", base_image)
    made.write("cpu.py", "import sys\nprint('arguments', *sys.argv[1:])\n")
    made.write(CONFIG_FILE, f'{{"base_image": "{base_image}"}}')
    return made


@pytest.fixture
def user() -> BuildUser:
    return BuildUser(uid=1234, gid=2345, name="mei")


@pytest.fixture
def run(engine: Engine, base_image: str) -> Callable[..., str]:
    """Run an image to its end, and give what it wrote."""

    def run(image: str, *arguments: str, entrypoint: list[str] | None = None) -> str:
        output = engine.client.containers.run(
            image, list(arguments), entrypoint=entrypoint, remove=True, stdout=True, stderr=True
        )
        return bytes(output).decode()

    return run
