from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caliban.platforms.google.training_platform import TrainingPlatform
from tests.fakes import FakeClock
from tests.platforms.caip.helpers import CaipBackend
from tests.platforms.google.helpers import Backend
from tests.platforms.vertex.helpers import VertexBackend
from tests.standins.ml_v1 import MlV1


@pytest.fixture(params=[CaipBackend, VertexBackend], ids=["caip", "vertex"])
def backend(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Iterator[Backend]:
    """Each training service in turn."""
    made: Backend = request.param(clock, tmp_path)
    with made.service:
        yield made


@pytest.fixture
def platform(backend: Backend) -> TrainingPlatform[Any]:
    return backend.platform()


@pytest.fixture
def service() -> Iterator[MlV1]:
    """An API of Google's, for tests of requests and credentials in general."""
    with MlV1() as running:
        yield running


@pytest.fixture
def key(service: MlV1, tmp_path: Path) -> Path:
    return service.write_key_file(tmp_path / "key.json")
