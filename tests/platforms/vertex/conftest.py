from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from caliban.platforms.vertex.platform import VertexPlatform
from tests.fakes import FakeClock
from tests.platforms.vertex.helpers import VertexBackend


@pytest.fixture
def backend(clock: FakeClock, tmp_path: Path) -> Iterator[VertexBackend]:
    made = VertexBackend(clock, tmp_path)
    with made.service:
        yield made


@pytest.fixture
def platform(backend: VertexBackend) -> VertexPlatform:
    return backend.platform()
