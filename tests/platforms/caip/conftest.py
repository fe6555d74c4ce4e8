from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from caliban.platforms.caip.platform import CaipPlatform
from tests.fakes import FakeClock
from tests.platforms.caip.helpers import CaipBackend


@pytest.fixture
def backend(clock: FakeClock, tmp_path: Path) -> Iterator[CaipBackend]:
    made = CaipBackend(clock, tmp_path)
    with made.service:
        yield made


@pytest.fixture
def platform(backend: CaipBackend) -> CaipPlatform:
    return backend.platform()
