"""Push with a login that a test chooses."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from caliban.errors import ImageError
from caliban.images.docker.engine import Engine
from caliban.images.registry.auth import Login
from caliban.images.registry.names import image_reference
from caliban.images.registry.push import Registry
from caliban.records import ImageRef
from caliban.reporter import Reporter
from tests.images.helpers import RecordingReporter

from .registries import Request


@dataclass(frozen=True)
class RegistryWithLogin(Registry):
    """A registry for which a login is given; None for the stored one."""

    given: Login | None = field(kw_only=True, compare=False)

    def login(self) -> Login | None:
        return self.given or super().login()


@dataclass(frozen=True)
class Pushed:
    """Both names of a pushed image."""

    by_tag: ImageRef
    by_digest: ImageRef

    @property
    def digest(self) -> str:
        return self.by_digest.partition("@")[2]


def push(engine: Engine, image: str, repository: str, reporter: Reporter, *, login: Login | None) -> Pushed:
    by_digest = RegistryWithLogin(repository, reporter, given=login).push(engine, image)
    return Pushed(image_reference(repository, engine.image_id(image)), by_digest)


def names(engine: Engine, image: str) -> list[str]:
    attributes = engine.client.images.get(image).attrs
    return [*attributes["RepoTags"], *attributes["RepoDigests"]]


def failure(engine: Engine, image: str, repository: str, *, login: Login | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        push(engine, image, repository, RecordingReporter(), login=login)
    return caught.value


def is_manifest(request: Request, method: str) -> bool:
    return request.method == method and "/manifests/" in request.path
