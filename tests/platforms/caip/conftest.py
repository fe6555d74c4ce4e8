from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from caliban.platforms.caip.platform import CaipPlatform
from tests.platforms.caip.helpers import QUICK, HeardReporter, platform_context
from tests.standins.ml_v1 import MlV1


@pytest.fixture
def service() -> Iterator[MlV1]:
    with MlV1(projects=["totoro-project", "wonder-project"]) as running:
        yield running


@pytest.fixture
def key(service: MlV1, tmp_path: Path) -> Path:
    return service.write_key_file(tmp_path / "key.json")


@pytest.fixture
def reporter() -> HeardReporter:
    return HeardReporter()


@pytest.fixture
def platform(service: MlV1, key: Path, reporter: HeardReporter) -> CaipPlatform:
    return CaipPlatform(platform_context(service=service, cloud_key=key, reporter=reporter), QUICK)
