from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from caliban.platforms.vertex.platform import VertexPlatform
from caliban.platforms.context import PlatformContext
from tests.fakes import FakeClock
from tests.platforms.vertex.helpers import VertexBackend
from tests.platforms.google.helpers import POLICY


@pytest.fixture
def backend(clock: FakeClock, tmp_path: Path) -> Iterator[VertexBackend]:
    made = VertexBackend(clock, tmp_path)
    with made.service:
        yield made


@pytest.fixture
def context(backend: VertexBackend) -> PlatformContext:
    return backend.context()


@pytest.fixture
def platform(context: PlatformContext) -> VertexPlatform:
    return VertexPlatform(context, POLICY)
