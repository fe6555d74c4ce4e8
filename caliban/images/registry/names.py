"""Names of pushed images, and the addresses that they lead to."""

from __future__ import annotations

from caliban import urls
from caliban.config import CONFIG_FILE, EXPECTED_REGISTRY, is_registry, redact_user
from caliban.errors import ExitCode, ImageError
from caliban.records import ImageRef
from caliban.urls import split_url

_TAG = "latest"
_SHORT_ID_DIGITS = 12
# Docker's own names for Docker Hub, and the host of its registry (moby: registry/config.go).
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io"})
_DOCKER_HUB_API = "registry-1.docker.io"


class RegistryNameError(ImageError):
    """The name of a registry is malformed: a mistake in the project's configuration, or in a flag."""

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, *, cause: str, hint: str) -> None:
        super().__init__("registry-name-malformed", message, cause=cause, hint=hint)


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


def image_reference(repository: str, image_id: str) -> ImageRef:
    """Return the name of a pushed image: ``REPOSITORY/SHORT_ID:latest``.

    Args:
        repository: ``HOST[:PORT][/PATH]``.
        image_id: ``sha256:<64 hex digits>``.
    """
    return f"{repository}/{image_id.removeprefix('sha256:')[:_SHORT_ID_DIGITS]}:{_TAG}"


def registry_host(name: str) -> str:
    """Return ``HOST[:PORT]`` of a repository or an image reference."""
    return name.partition("/")[0]


def is_loopback(host: str) -> bool:
    """Return whether ``HOST[:PORT]`` is localhost or in 127.0.0.0/8, where Docker allows plain HTTP.

    Source: docs.docker.com/reference/cli/dockerd, "Insecure registries".
    """
    parts = split_url(f"http://{host}/")
    return parts is not None and urls.is_loopback(parts.hostname or "")


def manifest_url(image: ImageRef) -> str:
    """Return the URL of an image's manifest in the registry's HTTP API, version 2.

    Args:
        image: ``HOST[:PORT]/NAME:TAG``.
    """
    host, _, rest = image.partition("/")
    name, _, tag = rest.rpartition(":")
    scheme = "http" if is_loopback(host) else "https"
    return f"{scheme}://{_DOCKER_HUB_API if host in _DOCKER_HUB else host}/v2/{name}/manifests/{tag}"
