"""Objects with secrets do not show them in a debugger, a log or a failed assertion."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import docker
import pytest

from caliban.cli.console import Console
from caliban.cli.context import Context
from caliban.images.docker.endpoint import Endpoint
from caliban.images.docker.engine import Engine
from caliban.images.registry.auth import Login
from caliban.platforms.context import PlatformContext
from caliban.platforms.google.client import Google
from caliban.store.address import parse_address
from tests.fakes import FakeStream, RecordingReporter
from tests.platforms.google.helpers import no_engine
from tests.standins.ml_v1 import MlV1

SECRET = "planted-secret"
ENVIRON = {"CALIBAN_DB_URL": f"postgresql://totoro:{SECRET}@db.example.com/caliban", "HOME": "/home/totoro"}
CONTEXT = PlatformContext(ENVIRON, Path("/home/totoro"), RecordingReporter(), no_engine)


@pytest.mark.parametrize(
    "value",
    [
        Engine(cast("docker.DockerClient", None), "unix:///var/run/docker.sock", ENVIRON),
        CONTEXT,
        Context(Console(FakeStream(), FakeStream(), FakeStream()), ENVIRON, Path("/"), Path("/"), "t"),
        Login("totoro", SECRET),
        Login("<token>", SECRET),
        parse_address(ENVIRON["CALIBAN_DB_URL"]),
        parse_address(f"postgresql://totoro@db.example.com/caliban?password={SECRET}"),
        Endpoint(f"tcp://totoro:{SECRET}@docker.example.com"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_representation_contains_a_secret(value: object) -> None:
    assert SECRET not in f"{value!r} {value!s}"


def test_representations_of_credentials_contain_neither_key_nor_token(tmp_path: Path) -> None:
    with MlV1() as service:
        key = service.write_key_file(tmp_path / "key.json")
        google = Google(PlatformContext(ENVIRON, tmp_path, RecordingReporter(), no_engine, {"cloud_key": key}))
        token = google.access_token()
        shown = (
            f"{google!r} {google.credentials()!r} {google.credentials().credentials!r} {google.resource('ml', 'v1')!r}"
        )
    assert token not in shown
    assert "PRIVATE KEY" not in shown
