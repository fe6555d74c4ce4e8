"""Endpoints of regions, and what counts as an answer."""

from __future__ import annotations

from typing import Any

import pytest

from caliban.platforms.google.client import Google
from caliban.platforms.google.errors import GoogleUnreachableError
from caliban.platforms.vertex.client import VertexClient
from tests.platforms.google.helpers import PROJECT, platform_context
from tests.platforms.vertex.helpers import NAME, REGION, VertexBackend, body

PATH = ("aiplatform", "v1", "projects", "locations", "customJobs")


def list_uri(custom_jobs: Any) -> str:
    return str(custom_jobs.list(parent=f"projects/{PROJECT}/locations/x").uri)


@pytest.mark.parametrize("region", ["us-central1", "europe-west4"])
def test_each_region_has_its_own_endpoint(backend: VertexBackend, region: str) -> None:
    client = Google(platform_context(cloud_key=backend.key())).resource(*PATH, region=region)
    assert list_uri(client).startswith(f"https://{region}-aiplatform.googleapis.com/v1/projects/")


def test_an_endpoint_of_the_environment_serves_every_region(backend: VertexBackend) -> None:
    google = Google(platform_context(service=backend.service, cloud_key=backend.key()))
    for region in ("us-central1", "europe-west4"):
        assert list_uri(google.resource(*PATH, region=region)).startswith(f"{backend.service.url}v1/projects/")


def test_the_client_of_a_region_is_created_once(backend: VertexBackend) -> None:
    google = Google(platform_context(cloud_key=backend.key()))
    one, other = (google.resource(*PATH, region=region) for region in ("us-central1", "europe-west4"))
    assert google.resource(*PATH, region="us-central1") is one
    assert other is not one


def test_after_an_answer_without_a_jobs_name_the_outcome_is_unknown(
    backend: VertexBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend.service.jobs, "create", lambda *_: {"login": "first"})
    caller = VertexClient(Google(platform_context(service=backend.service, cloud_key=backend.key())))
    with pytest.raises(GoogleUnreachableError) as caught:
        caller.create(backend.destination(), body())
    assert (caught.value.id, caught.value.outcome_unknown, caught.value.cause) == (
        "google-misunderstood",
        True,
        '{"login": "first"}',
    )
    assert caught.value.message.startswith(f"cannot submit the job {NAME} to project {PROJECT} in {REGION}: ")
