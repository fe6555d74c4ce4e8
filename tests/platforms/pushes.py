"""A fake registry API for tests of platforms; tests/images/registry tests pushes to real registries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from caliban.errors import ImageError
from caliban.images.docker.engine import Engine
from caliban.images.registry.auth import Login
from caliban.records import ImageRef

IMAGE_ID = "sha256:" + "ab" * 32
DIGEST = "sha256:" + "cd" * 32
GOOGLE = ["gcr.io/totoro-project", "eu.gcr.io/totoro-project", "us-central1-docker.pkg.dev/totoro-project/lab"]
OTHERS = ["localhost:5000", "docker.io/totoro", "registry.example.com/lab"]


class _Engine:
    """An engine that has one image."""

    def image_id(self, image: ImageRef) -> ImageRef:
        assert image == IMAGE_ID
        return IMAGE_ID


class Pushes:
    """Every registry has every image already; keeps what was requested, with the logins.

    Attributes:
        engine: has the image ``IMAGE_ID``.
        places: the repositories that images were pushed to.
        checked: the repositories that were checked before a push.
        logins: of both, in order.
        refusal: the error of every check, or None.
    """

    def __init__(self) -> None:
        self.engine = cast(Engine, _Engine())
        self.places: list[str] = []
        self.checked: list[str] = []
        self.logins: list[Login | None] = []
        self.refusal: ImageError | None = None

    def find_digest(self, image: ImageRef, image_id: str, login: Login | None) -> str:
        repository, _, name = image.rpartition("/")
        assert (name, image_id) == ("abababababab:latest", IMAGE_ID)
        self.places.append(repository)
        self.logins.append(login)
        return DIGEST

    def request_push_access(self, repository: str, login: Login | None) -> None:
        self.checked.append(repository)
        self.logins.append(login)
        if self.refusal is not None:
            raise self.refusal

    @classmethod
    def installed(cls, monkeypatch: pytest.MonkeyPatch) -> Pushes:
        """Replace the requests to registries, and hide the logins of whoever runs the tests."""
        made = cls()
        monkeypatch.setattr("caliban.images.registry.push.find_digest", made.find_digest)
        monkeypatch.setattr("caliban.images.registry.push.request_push_access", made.request_push_access)
        monkeypatch.setenv("DOCKER_CONFIG", "/nowhere")
        return made


def docker_logins(monkeypatch: pytest.MonkeyPatch, directory: Path, **auths: dict[str, Any]) -> None:
    """Store logins as ``docker login`` does, and hide those of whoever runs the tests."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"auths": auths}))
    monkeypatch.setenv("DOCKER_CONFIG", str(directory))
