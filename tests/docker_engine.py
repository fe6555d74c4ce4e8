"""The real Docker Engine, a base image whose descendants are removed at the end of the session, and the registry."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterator
from contextlib import closing

import docker
import pytest

from caliban.images.docker.engine import Engine
from tests.environment import required_variable

SESSION_LABEL = "caliban-test-session"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with closing(Engine.connect(os.environ)) as engine:
        yield engine


@pytest.fixture(scope="session")
def base_image(engine: Engine) -> Iterator[str]:
    """A base image that carries the session's label: everything built and run from it can be found and removed."""
    given = required_variable("CALIBAN_TEST_BASE_IMAGE")
    token = uuid.uuid4().hex
    name = f"caliban-test-base:{token}"
    text = f"FROM {given}\nLABEL {SESSION_LABEL}={token}\n"
    engine.client.images.build(fileobj=io.BytesIO(text.encode()), tag=name, rm=True, forcerm=True)
    yield name
    remove_descendants(engine.client, f"{SESSION_LABEL}={token}")


@pytest.fixture(scope="session")
def registry() -> str:
    """The address of a container registry to push to, ``localhost:PORT``."""
    return required_variable("CALIBAN_TEST_REGISTRY")


def remove_descendants(client: docker.DockerClient, label: str) -> None:
    for container in client.containers.list(all=True, filters={"label": label}):
        container.remove(force=True)
    # Docker's own image store does not remove an image that others are built on. The containerd image store does, and
    # records no parents.
    while images := client.api.images(all=True, filters={"label": label}):
        parents = {image["ParentId"] for image in images}
        for image in images:
            if image["Id"] not in parents:
                client.images.remove(image["Id"], force=True)
