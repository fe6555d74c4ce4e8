"""Where images for both training services are pushed, with which login, and what jobs call them."""

from __future__ import annotations

from typing import Any

import pytest

from caliban.config import ProjectConfig
from caliban.errors import CalibanError, ImageError
from caliban.images.registry.push import Registry
from caliban.platforms.google.training_platform import TrainingPlatform
from tests.platforms.google.helpers import Backend
from tests.platforms.pushes import DIGEST, GOOGLE, IMAGE_ID, OTHERS, Pushes

Platform = TrainingPlatform[Any]


@pytest.fixture
def pushes(monkeypatch: pytest.MonkeyPatch) -> Pushes:
    return Pushes.installed(monkeypatch)


def registry_of(platform: Platform, backend: Backend, registry: str | None, project: str | None = None) -> Registry:
    destination = backend.destination(project) if project else backend.destination()
    found = platform.image_registry(ProjectConfig(registry=registry), destination)
    assert found is not None
    return found


def test_a_job_names_exactly_the_image_that_was_pushed_unless_caliban_0_4_2_names_its_tag(
    backend: Backend, platform: Platform, pushes: Pushes
) -> None:
    by_service = {"Vertex AI": f"@{DIGEST}", "AI Platform": ":latest"}
    pushed = registry_of(platform, backend, None).push(pushes.engine, IMAGE_ID)
    assert pushed == f"gcr.io/totoro-project/abababababab{by_service[backend.service_name]}"


@pytest.mark.parametrize(
    ("registry", "project", "repository"),
    [
        (None, "wonder-project", "gcr.io/wonder-project"),
        (None, "example.com:wonder", "gcr.io/example.com/wonder"),
        ("registry.example.com/lab", "wonder-project", "registry.example.com/lab"),
    ],
)
def test_images_are_pushed_to_the_configured_registry_or_that_of_the_jobs_project(
    backend: Backend, platform: Platform, registry: str | None, project: str, repository: str
) -> None:
    assert registry_of(platform, backend, registry, project).repository == repository


def test_without_a_destination_only_a_configured_registry_is_known(platform: Platform) -> None:
    assert platform.image_registry(ProjectConfig(), None) is None
    assert platform.image_registry(ProjectConfig(registry="localhost:5000"), None) is not None


def test_the_registries_of_two_jobs_with_one_project_are_equal(backend: Backend, platform: Platform) -> None:
    assert len({registry_of(platform, backend, None) for _ in range(2)}) == 1


@pytest.mark.parametrize("registry", GOOGLE)
def test_a_registry_of_google_gets_an_access_token_fetched_once(
    backend: Backend, platform: Platform, pushes: Pushes, registry: str
) -> None:
    for _ in range(2):
        registry_of(platform, backend, registry).push(pushes.engine, IMAGE_ID)
    logins = [(login.username, backend.service.account.accepts(login.password)) for login in pushes.logins if login]
    assert logins == [("oauth2accesstoken", True)] * 2
    assert backend.service.counts["oauth.token"] == 1


@pytest.mark.parametrize("registry", OTHERS)
def test_no_other_registry_gets_an_access_token(
    backend: Backend, platform: Platform, pushes: Pushes, registry: str
) -> None:
    found = registry_of(platform, backend, registry)
    found.check()
    found.push(pushes.engine, IMAGE_ID)
    assert (pushes.logins, pushes.checked, backend.service.counts["oauth.token"]) == ([None] * 2, [registry], 0)


def test_refused_credentials_are_reported_before_anything_is_pushed(
    backend: Backend, platform: Platform, pushes: Pushes
) -> None:
    backend.service.account.refusal = ("invalid_grant", "Invalid JWT Signature.")
    with pytest.raises(CalibanError) as caught:
        registry_of(platform, backend, None).push(pushes.engine, IMAGE_ID)
    assert (caught.value.id, pushes.places) == ("credentials-refused", [])


@pytest.mark.parametrize("registry", ["Registry/With Space", "us-docker.pkg.dev/totoro-project"])
def test_a_malformed_registry_name_is_reported_before_any_request(
    backend: Backend, platform: Platform, registry: str
) -> None:
    with pytest.raises(ImageError) as caught:
        registry_of(platform, backend, registry)
    assert (caught.value.id, backend.service.requests) == ("registry-name-malformed", [])


def test_a_registry_of_google_is_checked_before_an_image_is_built(
    backend: Backend, platform: Platform, pushes: Pushes
) -> None:
    registry_of(platform, backend, None).check()
    [login] = pushes.logins
    assert login is not None
    assert (pushes.checked, pushes.places) == (["gcr.io/totoro-project"], [])
    assert backend.service.account.accepts(login.password)


def test_a_missing_repository_is_reported_by_the_check(backend: Backend, platform: Platform, pushes: Pushes) -> None:
    pushes.refusal = ImageError("repository-missing", "there is no such repository")
    with pytest.raises(ImageError, match="no such repository"):
        registry_of(platform, backend, None).check()
