"""What pushed images are called, and which registry a name leads to."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from caliban.config import CONFIG_FILE, EXPECTED_REGISTRY, is_registry, without_user
from caliban.errors import ImageError
from caliban.records import ImageRef

DEFAULT_REGISTRY = "gcr.io"
"""Google's registry that needs no repository to be named; Artifact Registry answers there since Container Registry
was shut down on 2025-03-18 (cloud.google.com/artifact-registry/docs/transition)."""

_TAG = "latest"
_SHORT_ID_DIGITS = 12
_GOOGLE_HOST = re.compile(r"(?:[a-z0-9-]+\.)*gcr\.io|[a-z0-9-]+-docker\.pkg\.dev")
_ARTIFACT_HOST = re.compile(r"([a-z0-9-]+)-docker\.pkg\.dev")
_FORMER_HOSTS: Mapping[str, str] = {"gcr.io": "us", "us.gcr.io": "us", "eu.gcr.io": "europe", "asia.gcr.io": "asia"}
"""Host of Container Registry -> location of the repository in Artifact Registry that has the host's name and answers
for it. Source: cloud.google.com/artifact-registry/docs/transition/setup-gcr-repo."""
# Docker's own names for it, and the host where its registry answers (moby: registry/config.go).
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io"})
_DOCKER_HUB_API = "registry-1.docker.io"


@dataclass(frozen=True)
class ArtifactRepository:
    """A repository of Google's Artifact Registry.

    Attributes:
        project: the id of its project, ``example.com:proj`` for a domain-scoped one.
        location: a region, or ``us``, ``europe``, ``asia``.
        name: its id; for names of Container Registry their host.
    """

    project: str
    location: str
    name: str

    @property
    def is_made_by_push(self) -> bool:
        """Whether the first push makes it, by an account that may do so (role artifactregistry.createOnPushWriter)."""
        return self.name in _FORMER_HOSTS

    @property
    def creation(self) -> str:
        """The command that creates it."""
        return (
            f"gcloud artifacts repositories create {self.name} --repository-format=docker "
            f"--location={self.location} --project={self.project}"
        )


def artifact_repository(name: str) -> ArtifactRepository | None:
    """Find the repository of Artifact Registry that a place or an image belongs to.

    Source: cloud.google.com/artifact-registry/docs/docker/names.

    Args:
        name: what begins with ``LOCATION-docker.pkg.dev/PROJECT/REPOSITORY`` or with ``gcr.io/PROJECT``.

    Returns:
        None for any other registry, and where no repository is named.
    """
    host, *path = name.split("/")
    if len(path) > 1 and "." in path[0]:
        path[:2] = [f"{path[0]}:{path[1]}"]
    if host in _FORMER_HOSTS and path:
        return ArtifactRepository(path[0], _FORMER_HOSTS[host], host)
    match = _ARTIFACT_HOST.fullmatch(host)
    return ArtifactRepository(path[0], match[1], path[1]) if match and len(path) > 1 else None


def repository(registry: str | None, project: str) -> str:
    """Name the place that images of a project are pushed to.

    Args:
        registry: what ``.calibanconfig.json`` says under ``registry``; it replaces the default whole.
        project: the id of a Google Cloud project. A domain-scoped one (``example.com:proj``) has a slash instead of
            the colon (cloud.google.com/artifact-registry/docs/docker/names, "Domain-scoped projects").

    Returns:
        ``gcr.io/PROJECT``, or ``registry``.

    Raises:
        ImageError: ``registry-name-malformed``.
    """
    if registry is not None:
        if not is_registry(registry):
            raise ImageError(
                "registry-name-malformed",
                f"images cannot be pushed to {without_user(registry)!r}",
                cause=f"expected {EXPECTED_REGISTRY}",
                hint=f"correct registry in {CONFIG_FILE}; for Docker Hub it is docker.io/NAME",
            )
        return registry
    name = f"{DEFAULT_REGISTRY}/{project.replace(':', '/', 1)}"
    if not is_registry(name):
        raise ImageError(
            "registry-name-malformed",
            f"images cannot be pushed to the registry of project {project!r}",
            cause="the id of a project has lower-case letters, digits and hyphens, and at most one colon",
            hint=f"`gcloud projects list` shows the ids of projects; registry in {CONFIG_FILE} names another place",
        )
    return name


def reference(repository: str, image_id: str) -> ImageRef:
    """Name a pushed image: ``REPOSITORY/SHORT_ID:latest``.

    Args:
        repository: as :func:`repository` gives it.
        image_id: ``sha256:<64 hex digits>``.
    """
    return f"{repository}/{image_id.removeprefix('sha256:')[:_SHORT_ID_DIGITS]}:{_TAG}"


def registry_host(name: str) -> str:
    """Give ``HOST[:PORT]`` of a repository or an image reference."""
    return name.partition("/")[0]


def is_google_registry(repository: str) -> bool:
    """Tell whether a Google access token opens this: gcr.io, its mirrors by continent, Artifact Registry."""
    return _GOOGLE_HOST.fullmatch(registry_host(repository)) is not None


def is_loopback(host: str) -> bool:
    """Tell whether ``HOST[:PORT]`` is localhost or in 127.0.0.0/8, where Docker allows plain http.

    Source: docs.docker.com/reference/cli/dockerd, "Insecure registries".
    """
    name = host.rpartition(":")[0] or host
    if name == "localhost":
        return True
    try:
        return ipaddress.IPv4Address(name).is_loopback
    except ipaddress.AddressValueError:
        return False


def manifest_url(image: ImageRef) -> str:
    """Give the address of an image's manifest in the registry's HTTP API, version 2.

    Args:
        image: ``HOST[:PORT]/NAME:TAG``.
    """
    host, _, rest = image.partition("/")
    name, _, tag = rest.rpartition(":")
    scheme = "http" if is_loopback(host) else "https"
    return f"{scheme}://{_DOCKER_HUB_API if host in _DOCKER_HUB else host}/v2/{name}/manifests/{tag}"
