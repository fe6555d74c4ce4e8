"""What it means when a registry does not take an image, and what can be done about it."""

from __future__ import annotations

import re

from caliban.errors import ImageError
from caliban.images.registry.auth import Login
from caliban.images.registry.names import ArtifactRepository, artifact_repository, is_google_registry, registry_host
from caliban.records import ImageRef

# The codes of the distribution specification as the engine spells them, and its own words for a login that it lacks.
_REFUSED = re.compile(
    r"\b(denied|unauthori[sz]ed|forbidden|authentication required|no basic auth credentials|insufficient_scope)\b"
    r"|name unknown|\b(status|HTTP)\D{0,12}40[13]\b",
    re.IGNORECASE,
)
_FULL = re.compile(r"no space left on device|insufficient storage|quota exceeded|exceeds? the quota", re.IGNORECASE)
_BROKEN = re.compile(r"status:? 5\d\d\b", re.IGNORECASE)
# Google's words, from reports of those who met them: GoogleCloudPlatform/cloud-builders-community#588 (name unknown:
# Repository "gcr.io" not found); "gcr.io repo does not exist. Creating on push requires the
# artifactregistry.repositories.createOnPush permission"; "Artifact Registry API has not been used in project 1 before
# or it is disabled"; google/ax#140 (Permission "artifactregistry.repositories.uploadArtifacts" denied on resource
# "projects/p/locations/us/repositories/gcr.io" (or it may not exist)).
_NO_REPOSITORY = re.compile(r'repository "[^"]*" not found|\brepo does not exist\b', re.IGNORECASE)
_MAY_NOT_MAKE_IT = re.compile(r"createOnPush")
_DISABLED = re.compile(r"\bAPI has not been used in project\b")


def push_failure(words: str, image: ImageRef, login: Login | None) -> ImageError:
    """Turn the reason that the registry, or the engine, gave into advice.

    Args:
        words: their own words.
        image: the reference that was to be pushed.
        login: whose password is taken out of the words.
    """
    host = registry_host(image)
    words = login.hidden_in(words) if login else words
    if (lack := _lack(words, image)) is not None:
        return lack
    if _FULL.search(words):
        return ImageError(
            "registry-full",
            f"the image was not pushed: {host} has no room for {image}",
            cause=words,
            hint="remove images there that nobody needs any more, or name another registry in .calibanconfig.json",
        )
    if _REFUSED.search(words):
        return push_refusal(words, image, login)
    if _BROKEN.search(words):
        # The engine keeps the body of such an answer to itself.
        return ImageError(
            "push-failed",
            f"the image was not pushed: {host} failed while it took {image}",
            cause=words,
            hint=f"the log of {host} tells why; a disk that is full there looks like this too",
        )
    return ImageError(
        "push-failed",
        f"the image was not pushed: the connection to {host} failed",
        cause=words,
        hint=f"see that {host} answers from the machine of the Docker Engine, then run the command again: "
        "layers that have arrived are not sent again",
    )


def push_refusal(words: str, image: ImageRef, login: Login | None) -> ImageError:
    """Say that the registry does not let us in, and what opens it."""
    words = login.hidden_in(words) if login else words
    return _lack(words, image) or ImageError(
        "push-refused",
        f"the image was not pushed: {registry_host(image)} refused {image}",
        cause=words,
        hint=_hint(image.rpartition("/")[0]),
    )


def place_refusal(words: str, place: str, login: Login | None) -> ImageError:
    """Say, before there is an image, that the registry will not let us in.

    Args:
        words: the registry's own words.
        place: ``HOST[:PORT]/NAME``, which images are to be pushed below.
        login: whose password is taken out of the words.
    """
    words = login.hidden_in(words) if login else words
    return _lack(words, place) or ImageError(
        "push-refused", f"images cannot be pushed to {place}: it is refused", cause=words, hint=_hint(place)
    )


def certain_lack(words: str, place: str) -> ImageError | None:
    """Find what is missing in Google Cloud so that every push to ``place`` would fail, by what is said of the place.

    A repository with the name of a host of Container Registry may come into being with the first push, unless it is
    said that it may not.
    """
    repository = artifact_repository(place)
    is_made = repository is not None and repository.is_made_by_push and not _MAY_NOT_MAKE_IT.search(words)
    return None if is_made and _NO_REPOSITORY.search(words) else _lack(words, place)


def _lack(words: str, name: str) -> ImageError | None:
    """Tell of a repository that is not there, or of an API that is not enabled; for Google's registries."""
    repository = artifact_repository(name)
    if repository is not None and _DISABLED.search(words):
        return ImageError(
            "registry-api-disabled",
            f"images cannot be pushed: the API of Artifact Registry is not enabled in project {repository.project}",
            cause=words,
            hint=f"enable it: gcloud services enable artifactregistry.googleapis.com --project={repository.project}",
        )
    if repository is not None and _NO_REPOSITORY.search(words):
        return ImageError(
            "repository-missing",
            f"images cannot be pushed: Artifact Registry has no repository {repository.name} in "
            f"{repository.location} of project {repository.project}",
            cause=words,
            hint=f"create it: {repository.creation}",
        )
    return None


def _hint(place: str) -> str:
    """Say what opens a place.

    Source of roles: cloud.google.com/artifact-registry/docs/access-control.
    """
    host, repository = registry_host(place), artifact_repository(place)
    if repository is not None:
        return f"{_role(repository)}; if there is no such repository: {repository.creation}"
    if is_google_registry(place):
        return "the account needs the role roles/artifactregistry.writer there"
    return f"log in with `docker login {host}`, as a user who may push to {place}"


def _role(repository: ArtifactRepository) -> str:
    role = f"the account needs the role roles/artifactregistry.writer on the repository {repository.name} in "
    role += f"{repository.location} of project {repository.project}"
    return f"{role}, or roles/artifactregistry.createOnPushWriter" if repository.is_made_by_push else role
