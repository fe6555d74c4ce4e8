from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from caliban.platforms.caip.platform import CaipPlatform
from caliban.platforms.context import PlatformContext
from tests.fakes import FakeClock
from tests.platforms.caip.helpers import CaipBackend
from tests.platforms.google.helpers import POLICY


@pytest.fixture
def backend(clock: FakeClock, tmp_path: Path) -> Iterator[CaipBackend]:
    made = CaipBackend(clock, tmp_path)
    with made.service:
        yield made


@pytest.fixture
def context(backend: CaipBackend) -> PlatformContext:
    return backend.context()


@pytest.fixture
def platform(context: PlatformContext) -> CaipPlatform:
    return CaipPlatform(context, POLICY)
