"""A real Docker Engine, a base image of the session's own, and projects to build.

Everything that is built here descends from the session's base image, whose label finds it again: the engine may be
shared.
"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from caliban.config import CONFIG_FILE
from caliban.images.dockerfile import BuildUser
from caliban.images.engine import Engine

from .helpers import SESSION_LABEL, Project, RecordingReporter


@pytest.fixture
def reporter() -> RecordingReporter:
    return RecordingReporter()


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    engine = Engine.connect(os.environ)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def base_image(engine: Engine) -> Iterator[str]:
    """Give a base image that carries the session's label, and remove all its descendants in the end."""
    given = os.environ.get("CALIBAN_TEST_BASE_IMAGE")
    if not given:
        pytest.fail("CALIBAN_TEST_BASE_IMAGE is not set: run `make test`, which brings a base image up")
    token = uuid.uuid4().hex
    name = f"caliban-test-base:{token}"
    text = f"FROM {given}\nLABEL {SESSION_LABEL}={token}\n"
    engine.client.images.build(fileobj=io.BytesIO(text.encode()), tag=name, rm=True, forcerm=True)
    yield name
    remove_descendants(engine.client, f"{SESSION_LABEL}={token}")


def remove_descendants(client: docker.DockerClient, label: str) -> None:
    for container in client.containers.list(all=True, filters={"label": label}):
        container.remove(force=True)
    # An image can be removed when nothing is built on it any more, so from the youngest on.
    while images := client.images.list(all=True, filters={"label": label}):
        parents = {image.attrs["Parent"] for image in images}
        for image in images:
            if image.id not in parents:
                client.images.remove(str(image.id), force=True)


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
