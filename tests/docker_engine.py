"""The real Docker Engine, and a base image of the session's own whose descendants are removed in the end."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterator
from contextlib import closing

import docker
import pytest

from caliban.images.docker.engine import Engine

DOCKER_FIXTURES = {"engine", "base_image"}
SESSION_LABEL = "caliban-test-session"


def mark_docker_tests(items: list[pytest.Item]) -> None:
    """Mark the tests that use the Docker Engine with ``docker``: those that get it by a fixture."""
    for item in items:
        if DOCKER_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("docker")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with closing(Engine.connect(os.environ)) as engine:
        yield engine


@pytest.fixture(scope="session")
def base_image(engine: Engine) -> Iterator[str]:
    """A base image that carries the session's label: everything built and run from it can be found and removed."""
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
        # The containerd image store records no parents, and removes an image that others are built on.
        parents = {image.attrs.get("Parent") for image in images}
        for image in images:
            if image.id not in parents:
                client.images.remove(str(image.id), force=True)
