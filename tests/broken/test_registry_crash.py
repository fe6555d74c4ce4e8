"""A registry dies in the middle of a push: jobs of other images still go, the journal is clean, the code is 1."""

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


class Mortal:
    """What a registry does with requests: passes them on, until it is to die when it has the layers of an image.

    (It could die at a layer as well; then the engine tries again for 50 seconds, which changes nothing but the time.)
    """

    def __init__(self) -> None:
        self.is_to_die = False
        self.is_dead = False

    def __call__(self, request: Request) -> Answer | None:
        self.is_dead = self.is_dead or (self.is_to_die and is_manifest(request, "PUT"))
        if self.is_dead:
            raise HungUpError
        return None


@pytest.fixture
def mortal() -> Mortal:
    return Mortal()


@pytest.fixture
def dying(registry: str, mortal: Mortal) -> Iterator[Front]:
    with front(registry, mortal) as server:
        yield server


@pytest.fixture
def group(
    researcher: Researcher, registry: str, dying: Front, small_base_image: str
) -> Iterator[tuple[Researcher, MlV1]]:
    """Two experiments with images of their own, in two registries; both have failed, and the code is mended."""
    with MlV1() as service:
        researcher.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_ML"] = service.url
        key = service.write_key_file(researcher.home / "key.json")
        researcher.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(key)
        other = researcher.folder.parent / "other"
        shutil.copytree(researcher.folder, other)
        for folder, address in ((researcher.folder, dying.address), (other, registry)):
            config = {"base_image": small_base_image, "registry": f"{address}/totoro"}
            (folder / ".calibanconfig.json").write_text(json.dumps(config))
            answer = researcher.caliban(*CLOUD, folder=folder)
            assert answer.code == 0, answer.err
            (folder / "cpu.py").write_text(f"print('mended in {folder}')\n")
        for job in service.jobs.all():
            service.jobs.set_state(job.id, "FAILED", "a coding error")
        yield researcher, service


def rows(researcher: Researcher) -> list[tuple[object, ...]]:
    return researcher.rows("SELECT experiment_id, job_id IS NOT NULL, state FROM submissions ORDER BY id")


def test_jobs_of_other_images_are_submitted_and_the_rest_by_the_next_command(
    group: tuple[Researcher, MlV1], mortal: Mortal
) -> None:
    researcher, service = group
    mortal.is_to_die = True

    answer = researcher.caliban(*RESUBMIT)

    assert (answer.code, "Traceback" in answer.err) == (1, False)
    assert len(re.findall(r"\[push-failed\]", answer.err)) == 1
    assert rows(researcher)[2:] == [(2, 1, "DONE")]
    assert len(service.jobs.all()) == 3

    mortal.is_to_die = mortal.is_dead = False

    again = researcher.caliban(*RESUBMIT)

    assert again.code == 0, again.err
    assert rows(researcher)[2:] == [(2, 1, "DONE"), (1, 1, "DONE")]
    assert len(service.jobs.all()) == 4
