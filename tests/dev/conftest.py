from __future__ import annotations

import sys
from pathlib import Path

import pytest

DEV = Path(__file__).resolve().parents[2] / "dev"
sys.path.insert(0, str(DEV))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of the test's own, for this process and those that it starts."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("CALIBAN_DEV_DIR", str(directory))
    return directory
