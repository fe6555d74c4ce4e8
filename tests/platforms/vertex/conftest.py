from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from caliban.platforms.vertex.platform import VertexPlatform
from tests.platforms.caip.helpers import HeardReporter
from tests.platforms.vertex.helpers import QUICK, platform_context
from tests.standins.aiplatform_v1 import AiplatformV1


@pytest.fixture
def service() -> Iterator[AiplatformV1]:
    with AiplatformV1(projects=["totoro-project", "wonder-project"]) as running:
        yield running


@pytest.fixture
def key(service: AiplatformV1, tmp_path: Path) -> Path:
    return service.write_key_file(tmp_path / "key.json")


@pytest.fixture
def reporter() -> HeardReporter:
    return HeardReporter()


@pytest.fixture
def platform(service: AiplatformV1, key: Path, reporter: HeardReporter) -> VertexPlatform:
    return VertexPlatform(platform_context(service=service, cloud_key=key, reporter=reporter), QUICK)
