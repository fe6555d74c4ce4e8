"""What tests of pushing ask again and again."""

from __future__ import annotations

import pytest

from caliban.errors import ImageError
from caliban.images.docker.engine import Engine
from caliban.images.registry.push import Login, push
from tests.images.helpers import RecordingReporter

from .registries import Request


def names(engine: Engine, image: str) -> list[str]:
    attributes = engine.client.images.get(image).attrs
    return [*attributes["RepoTags"], *attributes["RepoDigests"]]


def failure(engine: Engine, image: str, repository: str, *, login: Login | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        push(engine, image, repository, RecordingReporter(), login=login)
    return caught.value


def is_manifest(request: Request, method: str) -> bool:
    return request.method == method and "/manifests/" in request.path
