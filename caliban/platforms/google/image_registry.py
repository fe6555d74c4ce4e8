"""Google's container registries: Artifact Registry, and gcr.io, which Artifact Registry answers for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from caliban.config import CONFIG_FILE, is_registry
from caliban.errors import ImageError
from caliban.images.registry.kinds import name_problem
from caliban.images.registry.names import (
    Place,
    RegistryNameError,
    check_registry,
    check_repository,
    registry_host,
)
from caliban.images.registry.push import Registry
from caliban.platforms.context import PlatformContext
from caliban.platforms.google.errors import NO_CREDENTIALS, CredentialsError

if TYPE_CHECKING:
    from caliban.images.registry.auth import Login
    from caliban.platforms.google.client import Google

_DEFAULT_HOST = "gcr.io"
"""Needs no repository in its names. Artifact Registry answers there since Container Registry was shut down on
2025-03-18 (cloud.google.com/artifact-registry/docs/transition)."""

_GCR_HOST = re.compile(r"(?:[a-z0-9-]+\.)*gcr\.io")
_ARTIFACT_HOST = re.compile(r"([a-z0-9-]+)-docker\.pkg\.dev")
_GCR_LOCATIONS: Mapping[str, str] = {"gcr.io": "us", "us.gcr.io": "us", "eu.gcr.io": "europe", "asia.gcr.io": "asia"}
"""Host of Container Registry -> location of the repository in Artifact Registry that has the host's name.
Source: cloud.google.com/artifact-registry/docs/transition/setup-gcr-repo."""

# Messages of Google's registries, from user reports: GoogleCloudPlatform/cloud-builders-community#588 (name unknown:
# Repository "gcr.io" not found); "gcr.io repo does not exist. Creating on push requires the
# artifactregistry.repositories.createOnPush permission"; "Artifact Registry API has not been used in project 1 before
# or it is disabled"; google/ax#140 (Permission "artifactregistry.repositories.uploadArtifacts" denied on resource
# "projects/p/locations/us/repositories/gcr.io" (or it may not exist)).
_NO_REPOSITORY = re.compile(r'repository "[^"]*" not found|\brepo does not exist\b', re.IGNORECASE)
_MAY_NOT_CREATE = re.compile(r"createOnPush")
_API_DISABLED = re.compile(r"\bAPI has not been used in project\b")


@dataclass(frozen=True)
class ArtifactRepository:
    """A repository of Artifact Registry.

    Attributes:
        project: the id of its project, ``example.com:proj`` for a domain-scoped one.
        location: a region, or ``us``, ``europe``, ``asia``.
        name: its id; for names of Container Registry the host.
    """

    project: str
    location: str
    name: str

    @property
    def is_created_by_push(self) -> bool:
        """Whether the first push creates it, for an account with the role artifactregistry.createOnPushWriter."""
        return self.name in _GCR_LOCATIONS

    @property
    def create_command(self) -> str:
        """The command that creates it."""
        return (
            f"gcloud artifacts repositories create {self.name} --repository-format=docker "
            f"--location={self.location} --project={self.project}"
        )


def artifact_repository(name: str) -> ArtifactRepository | None:
    """Return the repository of Artifact Registry that a registry name or an image reference belongs to.

    Source: cloud.google.com/artifact-registry/docs/docker/names.

    Args:
        name: starts with ``LOCATION-docker.pkg.dev/PROJECT/REPOSITORY`` or ``gcr.io/PROJECT``.

    Returns:
        None for any other registry, and where the name has no repository.
    """
    host, *path = name.split("/")
    if len(path) > 1 and "." in path[0]:
        path[:2] = [f"{path[0]}:{path[1]}"]
    if host in _GCR_LOCATIONS and path:
        return ArtifactRepository(path[0], _GCR_LOCATIONS[host], host)
    match = _ARTIFACT_HOST.fullmatch(host)
    return ArtifactRepository(path[0], match[1], path[1]) if match and len(path) > 1 else None


def is_google_registry(repository: str) -> bool:
    """Return whether the registry accepts a Google access token: gcr.io, its regional hosts, Artifact Registry."""
    host = registry_host(repository)
    return any(pattern.fullmatch(host) for pattern in (_GCR_HOST, _ARTIFACT_HOST))


def default_repository(project: str) -> str:
    """Return ``gcr.io/PROJECT``: where images of a project are pushed unless the configuration names a registry.

    Args:
        project: its id. A domain-scoped one (``example.com:proj``) has a slash instead of the colon
            (cloud.google.com/artifact-registry/docs/docker/names, "Domain-scoped projects").

    Raises:
        RegistryNameError: no project has such an id.
    """
    name = f"{_DEFAULT_HOST}/{project.replace(':', '/', 1)}"
    if not is_registry(name):
        raise RegistryNameError(
            f'cannot push images to the registry of project "{project}"',
            cause="expected a project ID: lowercase letters, digits and hyphens, and at most one colon",
            hint=f'list project IDs with: gcloud projects list; or set "registry" in {CONFIG_FILE}',
        )
    return name


@dataclass(frozen=True)
class GoogleRegistry(Registry):
    """A registry of Google.

    Attributes:
        google: provides an access token when one is needed.
    """

    google: Google = field(kw_only=True, repr=False, compare=False)

    def login(self) -> Login | None:
        """Return an access token as a login; without Google credentials, the login that docker stored.

        Raises:
            CalibanError: there is neither, or Google does not accept the credentials.
        """
        from caliban.images.registry.auth import Login

        try:
            return Login("oauth2accesstoken", self.google.access_token())
        except CredentialsError as error:
            if error.id != NO_CREDENTIALS:
                raise
            if (stored := super().login()) is not None:
                return stored
            raise CredentialsError(
                NO_CREDENTIALS,
                f"no Google credentials found, and no docker login stored for {self.host}",
                cause=error.cause,
                hint=f"{error.hint}; or run: gcloud auth configure-docker {self.host}, or docker login {self.host}",
            ) from error

    def explain(self, words: str) -> ImageError | None:
        """Recognize a missing repository, and an API that is not enabled."""
        repository = artifact_repository(self.repository)
        if repository is not None and _API_DISABLED.search(words):
            return ImageError(
                "registry-api-disabled",
                f"cannot push images: the Artifact Registry API is not enabled in project {repository.project}",
                cause=words,
                hint=f"run: gcloud services enable artifactregistry.googleapis.com --project={repository.project}",
            )
        if repository is not None and _NO_REPOSITORY.search(words):
            return ImageError(
                "repository-missing",
                f"cannot push images: Artifact Registry has no repository {repository.name} in "
                f"{repository.location} of project {repository.project}",
                cause=words,
                hint=f"run: {repository.create_command}",
            )
        return None

    def is_resolved_by_push(self, words: str) -> bool:
        """Return whether ``words`` report a missing repository that the first push may create."""
        repository = artifact_repository(self.repository)
        is_created = repository is not None and repository.is_created_by_push and not _MAY_NOT_CREATE.search(words)
        return is_created and _NO_REPOSITORY.search(words) is not None

    def login_hint(self, words: str) -> str:
        """Return both ways to log in. Source: cloud.google.com/artifact-registry/docs/docker/authentication."""
        return f"run: gcloud auth application-default login; or gcloud auth configure-docker {self.host}"

    def denied_hint(self, words: str) -> str:
        """Return how to get access: the same for all messages."""
        return self.access_hint

    @property
    def access_hint(self) -> str:
        """The role that is needed. Source: cloud.google.com/artifact-registry/docs/access-control."""
        role = "grant the account the role roles/artifactregistry.writer"
        repository = artifact_repository(self.repository)
        if repository is None:
            return role
        role += f" on the repository {repository.name} in {repository.location} of project {repository.project}"
        if repository.is_created_by_push:
            role += ", or roles/artifactregistry.createOnPushWriter"
        return f"{role}; if the repository does not exist, run: {repository.create_command}"


def image_registry(
    config_registry: str | None,
    project: str | None,
    context: PlatformContext,
    google: Google,
    *,
    by_digest: bool = True,
    config_repository: str | None = None,
) -> Registry | None:
    """Return the registry that images are pushed to. Nothing is connected to.

    Args:
        config_registry: ``registry`` of the project's configuration, or None.
        project: the id of the Google Cloud project whose registry is the default, or None.
        context: reports progress.
        google: provides an access token, if the registry is Google's.
        by_digest: whether jobs name images by digest.
        config_repository: ``repository`` of the project's configuration, or None.

    Returns:
        None where neither a registry nor a repository nor a project is given.

    Raises:
        RegistryNameError: ``registry-name-malformed``.
    """
    if config_repository is not None:
        place = Place(check_repository(config_repository), is_repository=True)
    elif config_registry is not None:
        place = Place(check_registry(config_registry))
    elif project is not None:
        place = Place(default_repository(project))
    else:
        return None
    _check_complete(place)
    if not is_google_registry(place.name):
        return Registry(place.name, context.reporter, by_digest, is_repository=place.is_repository)
    return GoogleRegistry(place.name, context.reporter, by_digest, is_repository=place.is_repository, google=google)


def _check_complete(place: Place) -> None:
    """Google's registries keep images in projects, Artifact Registry in repositories of projects."""
    expected = name_problem(place)
    if is_google_registry(place.name):
        is_artifact_host = _ARTIFACT_HOST.fullmatch(place.host) is not None
        levels = ["PROJECT", *(["REPOSITORY"] if is_artifact_host else []), *(["IMAGE"] if place.is_repository else [])]
        is_domain_scoped = bool(place.parts) and "." in place.parts[0]
        expected = "/".join((place.host, *levels)) if len(place.parts) < len(levels) + is_domain_scoped else None
    if expected is not None:
        raise RegistryNameError(
            f'cannot push images to "{place.name}"',
            cause=f"expected {expected}",
            hint=f'correct "{place.key}" in {CONFIG_FILE}',
        )
