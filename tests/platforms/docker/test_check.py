"""What jobs need beside their image is checked before it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import docker.errors
import pytest

from caliban.errors import PlatformError
from caliban.images.docker.engine import Engine
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker import gpu
from caliban.platforms.docker.job_spec import new_job_spec
from caliban.platforms.docker.platform import DockerPlatform

GPU_JOB = new_job_spec("image:1", (), docker_run_args=(), gpu=True)
CPU_JOB = new_job_spec("image:1", (), docker_run_args=(), gpu=False)
Probe = Callable[[Engine], "str | None"]


def probe_that_finds(monkeypatch: pytest.MonkeyPatch, reason: str | None) -> list[Engine]:
    asked: list[Engine] = []

    def probe(engine: Engine) -> str | None:
        asked.append(engine)
        return reason

    monkeypatch.setattr(gpu, "missing_gpu", probe)
    return asked


def test_a_missing_gpu_is_an_error(platform: DockerPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    probe_that_finds(monkeypatch, "could not select device driver")
    with pytest.raises(PlatformError) as caught:
        platform.check_job(GPU_JOB)
    assert (caught.value.id, caught.value.message) == ("gpu-unavailable", "Docker cannot access a GPU")
    assert "--nogpu" in (caught.value.hint or "")


def test_the_engine_is_asked_for_gpus_once(platform: DockerPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = probe_that_finds(monkeypatch, None)
    platform.check_job(GPU_JOB)
    platform.check_job(GPU_JOB)
    assert len(asked) == 1


def test_the_engine_is_not_asked_for_jobs_without_gpus(
    platform: DockerPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = probe_that_finds(monkeypatch, "could not select device driver")
    platform.check_job(CPU_JOB)
    assert asked == []


@pytest.mark.parametrize("arguments", [("--gpus", "2"), ("--gpus=all",)])
def test_gpus_of_docker_run_args_count(
    platform: DockerPlatform, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    probe_that_finds(monkeypatch, "could not select device driver")
    with pytest.raises(PlatformError):
        platform.check_job(new_job_spec("image:1", (), docker_run_args=arguments, gpu=False))


@pytest.mark.parametrize("job", [GPU_JOB, CPU_JOB])
def test_a_missing_docker_client_is_an_error(context: PlatformContext, tmp_path: Path, job: dict[str, object]) -> None:
    without = replace(context, environ={**context.environ, "PATH": str(tmp_path)})
    with pytest.raises(PlatformError) as caught:
        DockerPlatform(without).check_job(job)
    assert caught.value.id == "docker-client-missing"


@pytest.mark.parametrize("reason", ["import is not allowed", "the program is missing"])
def test_an_engine_that_rejects_the_check_is_no_missing_gpu(
    context: PlatformContext, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    def reject(self: Engine, request: object, **_: object) -> None:
        raise docker.errors.APIError("failed", explanation=reason)

    engine = context.engine()
    monkeypatch.setattr(Engine, "ask", reject)
    assert gpu.missing_gpu(engine) is None
