"""What is missing on this machine is noticed before an image is built, and nothing is recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from caliban.images.docker.engine import Engine
from caliban.platforms.docker import gpu
from tests.e2e.conftest import RUN, Researcher

GPU_RUN = ("run", "--xgroup", "gpu", "cpu.py")


def recorded(researcher: Researcher) -> list[tuple[object, ...]]:
    if not researcher.store.exists():
        return []
    return researcher.rows("SELECT name FROM experiment_groups")


@pytest.fixture
def without_gpu(engine: Engine) -> None:
    if gpu.missing_gpu(engine) is None:
        pytest.fail("these tests need a Docker Engine without GPUs")


@pytest.mark.usefixtures("without_gpu")
def test_a_missing_gpu_is_noticed_before_the_build(researcher: Researcher) -> None:
    result = researcher.caliban(*GPU_RUN)
    assert result.code == 1
    assert "error: Docker cannot access a GPU [gpu-unavailable]" in result.err
    assert "--nogpu" in result.err
    assert "Step 1/" not in result.err
    assert recorded(researcher) == []


def test_a_missing_docker_client_is_noticed_before_the_build(researcher: Researcher, tmp_path: Path) -> None:
    result = researcher.caliban(*RUN, PATH=str(tmp_path))
    assert result.code == 1
    assert "error: cannot run the docker command [docker-client-missing]" in result.err
    assert "Step 1/" not in result.err
    assert recorded(researcher) == []


def test_the_check_for_gpus_leaves_nothing_behind(engine: Engine) -> None:
    gpu.missing_gpu(engine)
    label = [f"{name}={value}" for name, value in gpu.LABELS.items()]
    assert engine.client.api.containers(all=True, filters={"label": label}) == []
    assert engine.client.images.list(all=True, filters={"label": label}) == []
