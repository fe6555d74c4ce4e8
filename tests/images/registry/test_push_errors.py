"""What becomes of the words of a registry that takes no image."""

from __future__ import annotations

import pytest

from caliban.images.registry.auth import Login
from caliban.images.registry.errors import certain_lack, place_refusal, push_failure

from .registries import PASSWORD, USER, ArtifactRules

IMAGE = "registry.example.com/team/0123456789ab:latest"
PLACE = "us-central1-docker.pkg.dev/totoro-project/lab"
NOT_FOUND = 'name unknown: Repository "lab" not found'
NO_GCR_IO = 'name unknown: Repository "gcr.io" not found'
MAY_NOT_MAKE_IT = (
    "denied: gcr.io repo does not exist. Creating on push requires the artifactregistry.repositories.createOnPush "
    "permission"
)
DISABLED = f"denied: {ArtifactRules.disabled}"
CREATION = (
    "create it: gcloud artifacts repositories create lab --repository-format=docker --location=us-central1 "
    "--project=totoro-project"
)


@pytest.mark.parametrize(
    ("words", "id"),
    [
        ("denied: requested access to the resource is denied", "push-refused"),
        ("unauthorized: authentication required", "push-refused"),
        ("no basic auth credentials", "push-refused"),
        ("unexpected status: 401 Unauthorized", "push-refused"),
        ("error parsing HTTP 403 response body: invalid character", "push-refused"),
        ('name unknown: Repository "images" not found', "push-refused"),
        ("blob upload: no space left on device", "registry-full"),
        ("denied: the project's quota exceeded", "registry-full"),
        ("received unexpected HTTP status: 507 Insufficient Storage", "registry-full"),
        ("received unexpected HTTP status: 500 Internal Server Error", "push-failed"),
        ("dial tcp: lookup registry.example.com: no such host", "push-failed"),
        ("x509: certificate signed by unknown authority", "push-failed"),
        ("write tcp 10.0.0.1:4030: broken pipe", "push-failed"),
    ],
)
def test_the_registrys_words_decide_what_is_wrong(words: str, id: str) -> None:
    failed = push_failure(words, IMAGE, None)
    assert (failed.id, failed.cause) == (id, words)


def test_a_repository_that_is_missing_is_told_with_the_command_that_creates_it() -> None:
    failed = push_failure(NOT_FOUND, f"{PLACE}/0123456789ab:latest", None)
    assert (failed.id, failed.cause, failed.hint) == ("repository-missing", NOT_FOUND, CREATION)
    assert failed.message == (
        "images cannot be pushed: Artifact Registry has no repository lab in us-central1 of project totoro-project"
    )


@pytest.mark.parametrize(
    ("place", "name", "location", "project"),
    [
        ("gcr.io/totoro-project", "gcr.io", "us", "totoro-project"),
        ("us.gcr.io/totoro-project", "us.gcr.io", "us", "totoro-project"),
        ("eu.gcr.io/totoro-project", "eu.gcr.io", "europe", "totoro-project"),
        ("asia.gcr.io/totoro-project/sub", "asia.gcr.io", "asia", "totoro-project"),
        ("gcr.io/example.com/wonder", "gcr.io", "us", "example.com:wonder"),
        ("europe-docker.pkg.dev/example.com/wonder/lab", "lab", "europe", "example.com:wonder"),
    ],
)
@pytest.mark.parametrize("words", [NO_GCR_IO, MAY_NOT_MAKE_IT])
def test_every_name_of_a_repository_leads_to_its_command(
    place: str, name: str, location: str, project: str, words: str
) -> None:
    failed = push_failure(words, f"{place}/0123456789ab:latest", None)
    assert (failed.id, failed.hint) == (
        "repository-missing",
        f"create it: gcloud artifacts repositories create {name} --repository-format=docker --location={location} "
        f"--project={project}",
    )


@pytest.mark.parametrize("place", [PLACE, "gcr.io/totoro-project"])
def test_an_api_that_is_not_enabled_is_told_with_the_command_that_enables_it(place: str) -> None:
    failed = push_failure(DISABLED, f"{place}/0123456789ab:latest", None)
    assert (failed.id, failed.hint) == (
        "registry-api-disabled",
        "enable it: gcloud services enable artifactregistry.googleapis.com --project=totoro-project",
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
def test_a_denial_names_the_role_and_how_to_create_what_may_be_missing(words: str) -> None:
    failed = push_failure(words, f"{PLACE}/0123456789ab:latest", None)
    assert (failed.id, failed.cause, failed.hint) == (
        "push-refused",
        words,
        "the account needs the role roles/artifactregistry.writer on the repository lab in us-central1 of project "
        f"totoro-project; if there is no such repository: {CREATION.removeprefix('create it: ')}",
    )


def test_a_denial_by_gcr_io_names_the_role_that_makes_the_repository_as_well() -> None:
    hint = push_failure("denied: no", "gcr.io/totoro-project/0123456789ab:latest", None).hint or ""
    assert "or roles/artifactregistry.createOnPushWriter; " in hint


def test_a_host_of_google_s_whose_repository_nobody_can_create_names_the_role_alone() -> None:
    failed = push_failure("denied: no", "staging-k8s.gcr.io/totoro-project/0123456789ab:latest", None)
    assert failed.hint == "the account needs the role roles/artifactregistry.writer there"


@pytest.mark.parametrize("words", [NOT_FOUND, DISABLED])
def test_google_s_words_mean_nothing_special_elsewhere(words: str) -> None:
    assert push_failure(words, IMAGE, None).id == "push-refused"


def test_a_place_that_is_refused_is_told_without_the_password() -> None:
    refused = place_refusal(f"denied: not with {PASSWORD}", PLACE, Login(USER, PASSWORD))
    assert (refused.id, refused.message, refused.cause) == (
        "push-refused",
        f"images cannot be pushed to {PLACE}: it is refused",
        "denied: not with ***",
    )


@pytest.mark.parametrize(
    ("words", "place", "id"),
    [
        (NOT_FOUND, PLACE, "repository-missing"),
        (NO_GCR_IO, "gcr.io/totoro-project", None),  # the push may make it
        (MAY_NOT_MAKE_IT, "gcr.io/totoro-project", "repository-missing"),
        (DISABLED, PLACE, "registry-api-disabled"),
        (DISABLED, "gcr.io/totoro-project", "registry-api-disabled"),
        ('manifest unknown: Failed to fetch "latest"', PLACE, None),
        ("denied: no reading", PLACE, None),  # who may push need not be one who may read
    ],
)
def test_only_what_every_push_would_meet_is_told_before_one(words: str, place: str, id: str | None) -> None:
    lack = certain_lack(words, place)
    assert (lack.id if lack else None) == id
