"""Names of Google's registries, the defaults, and what their error messages mean."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from caliban.config import is_registry
from caliban.errors import ExitCode, ImageError
from caliban.images.registry.names import image_reference
from caliban.images.registry.push import Registry
from caliban.platforms.context import PlatformContext
from caliban.platforms.google.client import Google
from caliban.platforms.google.image_registry import (
    ArtifactRepository,
    GoogleRegistry,
    artifact_repository,
    default_repository,
    image_registry,
    is_google_registry,
)
from tests.fakes import RecordingReporter
from tests.images.registry.registries import ArtifactRules

REPOSITORY = "us-central1-docker.pkg.dev/totoro-project/lab"
NOT_FOUND = 'name unknown: Repository "lab" not found'
NO_GCR_IO = 'name unknown: Repository "gcr.io" not found'
MAY_NOT_CREATE = (
    "denied: gcr.io repo does not exist. Creating on push requires the artifactregistry.repositories.createOnPush "
    "permission"
)
DISABLED = f"denied: {ArtifactRules.disabled}"
CREATION = (
    "run: gcloud artifacts repositories create lab --repository-format=docker --location=us-central1 "
    "--project=totoro-project"
)
NO_GOOGLE = cast(Google, None)
"""No name requires a request to Google."""


def registry(name: str) -> GoogleRegistry:
    return GoogleRegistry(name, RecordingReporter(), google=NO_GOOGLE)


def chosen(config_registry: str | None, project: str | None, by_digest: bool = True) -> Registry | None:
    reporter = RecordingReporter()
    context = PlatformContext({}, Path("/nowhere"), reporter, lambda: pytest.fail("no engine is needed"))
    return image_registry(config_registry, project, context, NO_GOOGLE, by_digest=by_digest)


def test_images_are_pushed_to_the_registry_of_the_project_by_default() -> None:
    assert chosen(None, "totoro-project") == registry("gcr.io/totoro-project")


def test_the_colon_of_a_domain_scoped_project_becomes_a_slash() -> None:
    assert default_repository("example.com:proj") == "gcr.io/example.com/proj"


def test_a_configured_registry_replaces_the_default() -> None:
    name = "europe-west4-docker.pkg.dev/totoro-project/images"
    assert chosen(name, "other-project") == chosen(name, None) == registry(name)


def test_a_registry_of_another_provider_is_a_generic_one() -> None:
    found = chosen("registry.example.com/team", "totoro-project", by_digest=False)
    assert found is not None
    assert (type(found), found.repository, found.by_digest) == (Registry, "registry.example.com/team", False)
    assert (found.explain(NOT_FOUND), found.explain(DISABLED)) == (None, None)


def test_without_a_name_and_a_project_there_is_no_registry() -> None:
    assert chosen(None, None) is None


@pytest.mark.parametrize("project", ["", "Totoro", "a b", "a:b:c", "x/"])
def test_an_invalid_project_id_is_wrong_usage(project: str) -> None:
    with pytest.raises(ImageError, match="registry of project") as caught:
        chosen(None, project)
    assert (caught.value.id, caught.value.exit_code) == ("registry-name-malformed", ExitCode.USAGE)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gcr.io", "gcr.io/PROJECT"),
        ("us.gcr.io", "us.gcr.io/PROJECT"),
        ("us-docker.pkg.dev", "us-docker.pkg.dev/PROJECT/REPOSITORY"),
        ("us-docker.pkg.dev/my-project", "us-docker.pkg.dev/PROJECT/REPOSITORY"),
    ],
)
def test_a_name_without_project_or_repository_is_wrong_usage(name: str, expected: str) -> None:
    with pytest.raises(ImageError) as caught:
        chosen(name, "totoro-project")
    assert (caught.value.id, caught.value.exit_code) == ("registry-name-malformed", ExitCode.USAGE)
    assert (caught.value.message, caught.value.cause) == (f'cannot push images to "{name}"', f"expected {expected}")


@pytest.mark.parametrize(
    "name", ["gcr.io/my-project", "eu.gcr.io/example.com/my-project", "us-docker.pkg.dev/my-project/my-repo"]
)
def test_complete_names_are_accepted(name: str) -> None:
    assert is_registry(name)
    assert chosen(name, None) == registry(name)


@pytest.mark.parametrize("name", ["", "team", "https://gcr.io/p", "gcr.io/example.com:my-project"])
def test_a_malformed_name_is_wrong_usage(name: str) -> None:
    with pytest.raises(ImageError) as caught:
        chosen(name, "totoro-project")
    assert caught.value.id == "registry-name-malformed"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("us-docker.pkg.dev/p/lab", ArtifactRepository("p", "us", "lab")),
        ("us-west1-docker.pkg.dev/p/lab/sub/ab:latest", ArtifactRepository("p", "us-west1", "lab")),
        ("us-docker.pkg.dev/example.com/p/lab/ab:latest", ArtifactRepository("example.com:p", "us", "lab")),
        ("eu.gcr.io/p/ab:latest", ArtifactRepository("p", "europe", "eu.gcr.io")),
        ("staging-k8s.gcr.io/p/ab:latest", None),
        ("us-docker.pkg.dev/p", None),
        ("registry.example.com/us-docker.pkg.dev/p/lab", None),
    ],
)
def test_the_name_of_an_image_contains_its_repository(name: str, expected: ArtifactRepository | None) -> None:
    assert artifact_repository(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gcr.io/p", True),
        ("eu.gcr.io/p", True),
        ("us-docker.pkg.dev/p/r", True),
        ("northamerica-northeast1-docker.pkg.dev/p/r", True),
        ("registry.example.com/gcr.io/p", False),
        ("gcr.io.example.com/p", False),
        ("notgcr.io/p", False),
        ("us-docker.pkg.dev.example.com/p/r", False),
        ("localhost:5000", False),
    ],
)
def test_google_registries_are_recognized_by_their_host(name: str, expected: bool) -> None:
    assert is_google_registry(name) is expected


def explained(words: str, name: str = REPOSITORY) -> ImageError:
    error = registry(name).explain(words)
    assert error is not None
    return error


def test_a_missing_repository_is_reported_with_the_command_that_creates_it() -> None:
    failed = explained(NOT_FOUND)
    assert (failed.id, failed.cause, failed.hint) == ("repository-missing", NOT_FOUND, CREATION)
    assert failed.message == (
        "cannot push images: Artifact Registry has no repository lab in us-central1 of project totoro-project"
    )


@pytest.mark.parametrize(
    ("name", "repository", "location", "project"),
    [
        ("gcr.io/totoro-project", "gcr.io", "us", "totoro-project"),
        ("us.gcr.io/totoro-project", "us.gcr.io", "us", "totoro-project"),
        ("eu.gcr.io/totoro-project", "eu.gcr.io", "europe", "totoro-project"),
        ("asia.gcr.io/totoro-project/sub", "asia.gcr.io", "asia", "totoro-project"),
        ("gcr.io/example.com/wonder", "gcr.io", "us", "example.com:wonder"),
        ("europe-docker.pkg.dev/example.com/wonder/lab", "lab", "europe", "example.com:wonder"),
    ],
)
@pytest.mark.parametrize("words", [NO_GCR_IO, MAY_NOT_CREATE])
def test_every_form_of_a_name_leads_to_the_command_for_its_repository(
    name: str, repository: str, location: str, project: str, words: str
) -> None:
    failed = explained(words, name)
    assert (failed.id, failed.hint) == (
        "repository-missing",
        f"run: gcloud artifacts repositories create {repository} --repository-format=docker --location={location} "
        f"--project={project}",
    )


@pytest.mark.parametrize("name", [REPOSITORY, "gcr.io/totoro-project"])
def test_a_disabled_api_is_reported_with_the_command_that_enables_it(name: str) -> None:
    failed = explained(DISABLED, name)
    assert (failed.id, failed.hint) == (
        "registry-api-disabled",
        "run: gcloud services enable artifactregistry.googleapis.com --project=totoro-project",
    )


@pytest.mark.parametrize(
    "words",
    [
        f"denied: {ArtifactRules().denial('uploadArtifacts')}",
        "denied: Permission 'artifactregistry.repositories.uploadArtifacts' denied on resource (or it may not exist).",
        'denied: Unauthenticated request. Unauthenticated requests do not have permission "artifactregistry'
        '.repositories.uploadArtifacts" on resource "projects/p/locations/us/repositories/r" (or it may not exist)',
        "unauthorized: You don't have the needed permissions to perform this operation, and you may have invalid "
        "credentials.",
    ],
)
def test_a_denied_push_has_no_explanation_but_names_role_and_command(words: str) -> None:
    assert registry(REPOSITORY).explain(words) is None
    assert registry(REPOSITORY).access_hint == (
        "grant the account the role roles/artifactregistry.writer on the repository lab in us-central1 of project "
        f"totoro-project; if the repository does not exist, {CREATION}"
    )


def test_gcr_io_names_the_role_that_may_create_the_repository_too() -> None:
    assert "or roles/artifactregistry.createOnPushWriter; " in registry("gcr.io/totoro-project").access_hint


def test_a_host_without_a_repository_to_create_names_the_role_only() -> None:
    hint = registry("staging-k8s.gcr.io/totoro-project").access_hint
    assert hint == "grant the account the role roles/artifactregistry.writer"


@pytest.mark.parametrize(
    ("words", "name", "id"),
    [
        (NOT_FOUND, REPOSITORY, "repository-missing"),
        (NO_GCR_IO, "gcr.io/totoro-project", None),  # the push may create it
        (MAY_NOT_CREATE, "gcr.io/totoro-project", "repository-missing"),
        (DISABLED, REPOSITORY, "registry-api-disabled"),
        (DISABLED, "gcr.io/totoro-project", "registry-api-disabled"),
        ('manifest unknown: Failed to fetch "latest"', REPOSITORY, None),
        ("denied: no reading", REPOSITORY, None),  # who may push need not be one who may read
    ],
)
def test_a_check_reports_only_what_every_push_would_report(words: str, name: str, id: str | None) -> None:
    where = registry(name)
    error = None if where.is_resolved_by_push(words) else where.explain(words)
    assert (error.id if error else None) == id


def test_images_are_named_below_the_repository() -> None:
    reference = image_reference(default_repository("p"), "sha256:" + "ab" * 32)
    assert reference == "gcr.io/p/abababababab:latest"
