"""A registry crashes during a push: jobs of other images are submitted, no submission is open, the exit code is 1."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Researcher, researcher
from tests.images.registry.pushing import is_manifest
from tests.images.registry.registries import Answer, Front, HungUpError, Request, front
from tests.security.small_image import small_base_image
from tests.standins.ml_v1 import MlV1

__all__ = ["researcher", "small_base_image"]

CLOUD = ("cloud", "--platform", "caip", "--xgroup", "g", "--nogpu", "cpu.py")
RESUBMIT = ("resubmit", "--xgroup", "g", "--yes")


class CrashSwitch:
    """Lets a registry crash when it gets a manifest, that is, after the layers of an image.

    (After a crash at a layer, the engine retries for 50 seconds; nothing else would differ.)
    """

    def __init__(self) -> None:
        self.is_armed = False
        self.has_crashed = False

    def __call__(self, request: Request) -> Answer | None:
        self.has_crashed = self.has_crashed or (self.is_armed and is_manifest(request, "PUT"))
        if self.has_crashed:
            raise HungUpError
        return None


@pytest.fixture
def switch() -> CrashSwitch:
    return CrashSwitch()


@pytest.fixture
def proxy(registry: str, switch: CrashSwitch) -> Iterator[Front]:
    with front(registry, switch) as server:
        yield server


@pytest.fixture
def group(
    researcher: Researcher, registry: str, proxy: Front, small_base_image: str
) -> Iterator[tuple[Researcher, MlV1]]:
    """Two failed experiments whose images are in two registries, with the code fixed."""
    with MlV1() as service:
        researcher.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_ML"] = service.url
        key = service.write_key_file(researcher.home / "key.json")
        researcher.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(key)
        other = researcher.project.parent / "other"
        shutil.copytree(researcher.project, other)
        for directory, address in ((researcher.project, proxy.address), (other, registry)):
            config = {"base_image": small_base_image, "registry": f"{address}/totoro"}
            (directory / ".calibanconfig.json").write_text(json.dumps(config))
            result = researcher.caliban(*CLOUD, cwd=directory)
            assert result.code == 0, result.err
            (directory / "cpu.py").write_text(f"print('fixed in {directory}')\n")
        for job in service.jobs.all():
            service.jobs.set_state(job.id, "FAILED", "a coding error")
        yield researcher, service


def rows(researcher: Researcher) -> list[tuple[object, ...]]:
    return researcher.rows("SELECT experiment_id, job_id IS NOT NULL, state FROM submissions ORDER BY id")


def test_jobs_of_other_images_are_submitted_and_the_rest_by_the_next_command(
    group: tuple[Researcher, MlV1], switch: CrashSwitch
) -> None:
    researcher, service = group
    switch.is_armed = True

    result = researcher.caliban(*RESUBMIT)

    assert (result.code, "Traceback" in result.err) == (1, False)
    assert len(re.findall(r"\[push-failed\]", result.err)) == 1
    assert rows(researcher)[2:] == [(2, 1, "DONE")]
    assert len(service.jobs.all()) == 3

    switch.is_armed = switch.has_crashed = False

    again = researcher.caliban(*RESUBMIT)

    assert again.code == 0, again.err
    assert rows(researcher)[2:] == [(2, 1, "DONE"), (1, 1, "DONE")]
    assert len(service.jobs.all()) == 4
