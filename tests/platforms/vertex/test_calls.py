"""Which endpoint is asked, and what counts as an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from caliban.platforms.google.client import Google
from caliban.platforms.google.errors import GoogleUnreachableError
from caliban.platforms.vertex.client import CustomJobsService
from tests.platforms.vertex.helpers import NAME, PROJECT, QUICK, REGION, body, platform_context
from tests.standins.aiplatform_v1 import AiplatformV1


def list_uri(client: Any) -> str:
    return str(client.projects().locations().customJobs().list(parent=f"projects/{PROJECT}/locations/x").uri)


@pytest.mark.parametrize("region", ["us-central1", "europe-west4"])
def test_each_region_is_asked_at_its_own_endpoint(key: Path, region: str) -> None:
    client = Google(platform_context(cloud_key=key), QUICK).service("aiplatform", "v1", region)
    assert list_uri(client).startswith(f"https://{region}-aiplatform.googleapis.com/v1/projects/")


def test_an_endpoint_of_the_environment_stands_for_every_region(service: AiplatformV1, key: Path) -> None:
    google = Google(platform_context(service=service, cloud_key=key), QUICK)
    for region in ("us-central1", "europe-west4"):
        assert list_uri(google.service("aiplatform", "v1", region)).startswith(f"{service.url}v1/projects/")


def test_a_regions_client_is_made_once(key: Path) -> None:
    google = Google(platform_context(cloud_key=key), QUICK)
    one, other = (google.service("aiplatform", "v1", region) for region in ("us-central1", "europe-west4"))
    assert google.service("aiplatform", "v1", "us-central1") is one
    assert other is not one


def test_an_answer_that_names_no_job_leaves_open_whether_there_is_one(
    service: AiplatformV1, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.jobs, "create", lambda *_: {"login": "first"})
    caller = CustomJobsService(Google(platform_context(service=service, cloud_key=key), QUICK))
    with pytest.raises(GoogleUnreachableError) as caught:
        caller.create(PROJECT, REGION, body())
    assert (caught.value.id, caught.value.outcome_unknown, caught.value.cause) == (
        "google-misunderstood",
        True,
        '{"login": "first"}',
    )
    assert caught.value.message.startswith(f"cannot submit the job {NAME} to project {PROJECT} in {REGION}: ")
