"""Names of pushed images, and the addresses that they lead to."""

from __future__ import annotations

from dataclasses import dataclass

from caliban import urls
from caliban.config import CONFIG_FILE, EXPECTED_REGISTRY, EXPECTED_REPOSITORY, is_registry, is_repository, redact_user
from caliban.errors import ExitCode, ImageError
from caliban.records import ImageRef
from caliban.urls import split_url

_TAG = "latest"
_SHORT_ID_DIGITS = 12
# Docker's own names for Docker Hub, and the host of its registry (moby: registry/config.go).
DOCKER_HUB_HOSTS = frozenset({"docker.io", "index.docker.io"})
_DOCKER_HUB_API = "registry-1.docker.io"


class RegistryNameError(ImageError):
    """The name of a registry is malformed: a mistake in the project's configuration, or in a flag."""

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, *, cause: str, hint: str) -> None:
        super().__init__("registry-name-malformed", message, cause=cause, hint=hint)


@dataclass(frozen=True)
class Place:
    """Where the images of a project are pushed.

    Attributes:
        name: ``HOST[:PORT][/PATH]``.
        is_repository: whether it is one repository, of which each image is a tag (``NAME:SHORT_ID``). Otherwise each
            image has a repository of its own below it (``NAME/SHORT_ID:latest``).
    """

    name: str
    is_repository: bool = False

    @property
    def host(self) -> str:
        """``HOST[:PORT]``."""
        return registry_host(self.name)

    @property
    def path(self) -> str:
        """What follows the host, ``""`` for nothing."""
        return self.name.partition("/")[2]

    @property
    def parts(self) -> tuple[str, ...]:
        """The components of the path."""
        return tuple(self.path.split("/")) if self.path else ()

    @property
    def key(self) -> str:
        """The key of the project's configuration that names it."""
        return "repository" if self.is_repository else "registry"

    def reference(self, image_id: str) -> ImageRef:
        """Return the name of a pushed image, by its id, ``sha256:<64 hex digits>``."""
        return self._tagged(image_id.removeprefix("sha256:")[:_SHORT_ID_DIGITS])

    @property
    def sample(self) -> ImageRef:
        """The name of an image that is not there, to request access with."""
        return self._tagged("caliban")

    def _tagged(self, name: str) -> ImageRef:
        return f"{self.name}:{name}" if self.is_repository else f"{self.name}/{name}:{_TAG}"


def check_registry(registry: str) -> str:
    """Return ``registry``, a value of ``registry`` in ``.calibanconfig.json``.

    Raises:
        RegistryNameError: it is not ``HOST[:PORT][/PATH]``.
    """
    if not is_registry(registry):
        raise RegistryNameError(
            f'cannot push images to "{redact_user(registry)}"',
            cause=f"expected {EXPECTED_REGISTRY}",
            hint=f'correct "registry" in {CONFIG_FILE}; for Docker Hub it is docker.io/NAME',
        )
    return registry


def check_repository(repository: str) -> str:
    """Return ``repository``, a value of ``repository`` in ``.calibanconfig.json``.

    Raises:
        RegistryNameError: it is not ``HOST[:PORT]/PATH``.
    """
    if not is_repository(repository):
        raise RegistryNameError(
            f'cannot push images to "{redact_user(repository)}"',
            cause=f"expected {EXPECTED_REPOSITORY}",
            hint=f'correct "repository" in {CONFIG_FILE}',
        )
    return repository


def image_reference(repository: str, image_id: str) -> ImageRef:
    """Return the name of a pushed image that has a repository of its own: ``REPOSITORY/SHORT_ID:latest``.

    Args:
        repository: ``HOST[:PORT][/PATH]``.
        image_id: ``sha256:<64 hex digits>``.
    """
    return Place(repository).reference(image_id)


def repository_of(image: ImageRef) -> str:
    """Return ``HOST[:PORT]/NAME`` of an image reference with a tag or a digest, or with neither."""
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def lower_case_name(image: ImageRef) -> ImageRef:
    """Return an image reference with its path in lower case, as Docker requires it; host, tag and digest as they are.

    Source: distribution/reference, ``path-component``.
    """
    name = repository_of(image)
    host, slash, path = name.partition("/")
    is_host = bool(slash) and base_image_host(name) == host
    return (f"{host}/{path.lower()}" if is_host else name.lower()) + image[len(name) :]


def registry_host(name: str) -> str:
    """Return ``HOST[:PORT]`` of a repository or an image reference."""
    return name.partition("/")[0]


def base_image_host(image: ImageRef) -> str:
    """Return the registry's host of an image as users write it: ``docker.io`` where none is named.

    Source: distribution/reference, ``splitDockerDomain``.
    """
    first, slash, _ = image.partition("/")
    return first if slash and (first == "localhost" or "." in first or ":" in first) else "docker.io"


def is_loopback(host: str) -> bool:
    """Return whether ``HOST[:PORT]`` is localhost or in 127.0.0.0/8, where Docker allows plain HTTP.

    Source: docs.docker.com/reference/cli/dockerd, "Insecure registries".
    """
    parts = split_url(f"http://{host}/")
    return parts is not None and urls.is_loopback(parts.hostname or "")


def api_url(host: str) -> str:
    """Return the URL of a registry's HTTP API, version 2, with a slash at its end."""
    scheme = "http" if is_loopback(host) else "https"
    return f"{scheme}://{_DOCKER_HUB_API if host in DOCKER_HUB_HOSTS else host}/v2/"


def manifest_url(image: ImageRef) -> str:
    """Return the URL of an image's manifest in the registry's HTTP API, version 2.

    Args:
        image: ``HOST[:PORT]/NAME:TAG`` or ``HOST[:PORT]/NAME@DIGEST``.
    """
    repository = repository_of(image)
    host, _, name = repository.partition("/")
    return f"{api_url(host)}{name}/manifests/{image[len(repository) + 1 :]}"
