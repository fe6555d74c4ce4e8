"""What jobs on Vertex AI call an image that was built here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from caliban.errors import ImageError
from caliban.platforms.vertex.platform import VertexPlatform
from tests.platforms.pushes import DIGEST, IMAGE_ID, Pushes
from tests.platforms.vertex.helpers import PROJECT, QUICK, REGION, platform_context
from tests.standins.aiplatform_v1 import AiplatformV1

TARGET = {"project": PROJECT, "region": REGION}
PLACE = "us-central1-docker.pkg.dev/totoro-project/lab"


@pytest.fixture
def pushes(monkeypatch: pytest.MonkeyPatch) -> Pushes:
    return Pushes.installed(monkeypatch)


@pytest.fixture
def platform(service: AiplatformV1, key: Path, pushes: Pushes) -> VertexPlatform:
    of_person = platform_context(service=service, cloud_key=key)
    return VertexPlatform(replace(of_person, engine=lambda: pushes.engine), QUICK)


def test_a_job_names_exactly_the_image_that_was_pushed(platform: VertexPlatform) -> None:
    assert platform.publish(IMAGE_ID, PLACE, TARGET) == f"{PLACE}/abababababab@{DIGEST}"


def test_without_a_registry_an_image_goes_to_that_of_the_job_s_project(
    platform: VertexPlatform, pushes: Pushes
) -> None:
    platform.publish(IMAGE_ID, None, TARGET)
    assert pushes.places == ["gcr.io/totoro-project"]


def test_the_repository_is_asked_for_before_an_image_is_built(platform: VertexPlatform, pushes: Pushes) -> None:
    pushes.refusal = ImageError("repository-missing", "there is no such repository")
    with pytest.raises(ImageError, match="no such repository"):
        platform.reach_registry(PLACE, TARGET)
    assert (pushes.checked, pushes.places) == ([PLACE], [])


def test_a_registry_without_a_repository_is_told_before_anybody_is_asked(
    platform: VertexPlatform, pushes: Pushes, service: AiplatformV1
) -> None:
    with pytest.raises(ImageError) as caught:
        platform.reach_registry("us-docker.pkg.dev/totoro-project", TARGET)
    assert (caught.value.id, pushes.checked) == ("registry-name-malformed", [])
    assert service.counts["oauth.token"] == 0
