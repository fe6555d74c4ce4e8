from __future__ import annotations

from pathlib import Path

import pytest

from caliban.platforms.registry import Platforms
from caliban.submission.setup import make_platforms
from tests.fakes import HeardReporter


@pytest.fixture
def platforms(heard: HeardReporter) -> Platforms:
    return make_platforms({}, Path("/nowhere"), heard)
