"""What stands in for the registry in tests of platforms; tests/images/registry tests pushes into real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from caliban.errors import ImageError
from caliban.images.docker.engine import Engine
from caliban.images.registry.push import Login, PushedImage
from caliban.records import ImageRef
from caliban.reporter import Reporter

IMAGE_ID = "sha256:" + "ab" * 32
DIGEST = "sha256:" + "cd" * 32
GOOGLE = ["gcr.io/totoro-project", "eu.gcr.io/totoro-project", "us-central1-docker.pkg.dev/totoro-project/lab"]
OTHERS = ["localhost:5000", "docker.io/totoro", "registry.example.com/lab"]


class Pushes:
    """Keeps what is pushed, and what is asked before, with the logins.

    Attributes:
        engine: which has the images.
        places: which images were pushed below.
        checked: places that were asked about.
        logins: of both, in order.
        refusal: what the registry says when it is asked about a place, or None.
    """

    def __init__(self) -> None:
        self.engine = cast(Engine, object())
        self.places: list[str] = []
        self.checked: list[str] = []
        self.logins: list[Login | None] = []
        self.refusal: ImageError | None = None

    def push(
        self, engine: Engine, image: ImageRef, repository: str, reporter: Reporter, *, login: Login | None
    ) -> PushedImage:
        assert (engine, image) == (self.engine, IMAGE_ID)
        self.places.append(repository)
        self.logins.append(login)
        return PushedImage(f"{repository}/abababababab:latest", DIGEST)

    def check_place(self, repository: str, reporter: Reporter, *, login: Login | None) -> None:
        self.checked.append(repository)
        self.logins.append(login)
        if self.refusal is not None:
            raise self.refusal

    @classmethod
    def installed(cls, monkeypatch: pytest.MonkeyPatch) -> Pushes:
        made = cls()
        monkeypatch.setattr("caliban.images.registry.push.push", made.push)
        monkeypatch.setattr("caliban.images.registry.push.check_place", made.check_place)
        return made


def docker_logins(monkeypatch: pytest.MonkeyPatch, folder: Path, **auths: dict[str, Any]) -> None:
    """What ``docker login`` stored, and nothing of whoever runs the tests."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"auths": auths}))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
