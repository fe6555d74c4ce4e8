"""Why the first step of a build failed: the base image is missing, private, for other machines, or out of reach.

The messages are those of the Docker Engine (distribution client, containerd) and of Podman.
"""

from __future__ import annotations

import re

from caliban.config import CONFIG_FILE
from caliban.errors import ImageError
from caliban.images.registry.access import Refusal, is_expired, refusal
from caliban.images.registry.errors import RATE_LIMIT
from caliban.images.registry.kinds import kind_of
from caliban.images.registry.names import base_image_host, lower_case_name
from caliban.redaction import clean_text

_ANOTHER = f'set another "base_image" in {CONFIG_FILE}'

_NO_PLATFORM = re.compile(
    r"no matching manifest|does not match the specified platform|does not provide the specified platform"
    r"|no match for platform|image operating system .* cannot be used|no image found in (?:manifest|image index)"
    r"|cannot be used on this platform",
    re.IGNORECASE,
)
_FAILED_LOGINS = re.compile(r"failed login attempts", re.IGNORECASE)
# Docker's official images have no namespace, and copies in Amazon ECR Public (gallery.ecr.aws/docker).
_OFFICIAL = re.compile(r"(?:docker\.io/)?(?:library/)?([^/]+)")
_COPIES = "public.ecr.aws/docker/library"
_NOT_FOUND = re.compile(
    r"manifest unknown|manifest for \S+ not found|repository \S+ not found|name unknown|repository does not exist"
    r"|(?:image|reference|tag) (?:\S+ )?(?:not known|not found|does not exist)|: not found$"
    r"|failed to resolve reference .*not found|no such image|404 Not Found",
    re.IGNORECASE,
)
_INVALID_NAME = re.compile(
    r"invalid reference format|repository name .*must be lowercase|invalid repository name", re.IGNORECASE
)
_DENIED = re.compile(
    r"unauthorized|authentication required|no basic auth credentials|denied|forbidden|incorrect username or password"
    r"|\b40[13]\b",
    re.IGNORECASE,
)
_OUT_OF_REACH = re.compile(
    r"dial (?:tcp|udp)|lookup |no such host|i/o timeout|timeout exceeded|timed out|handshake timeout|deadline exceeded"
    r"|connection (?:refused|reset)|network is unreachable|no route to host|server misbehaving"
    r"|Temporary failure in name|request canceled|proxyconnect|unexpected EOF|\bEOF$|x509: |certificate"
    r"|HTTP response to HTTPS client"
    r"|50[0234] |Service Unavailable|Bad Gateway",
    re.IGNORECASE,
)


def base_image_error(image: str, reason: str) -> ImageError | None:
    """Return the error for a base image that the engine could not get; None for a failure of another kind.

    Args:
        image: its reference.
        reason: the engine's message.
    """
    problem = _problem(image, reason)
    if problem is None:
        return None
    message, hint = problem
    return ImageError(
        "base-image-unavailable", f"cannot build the image: {message}", cause=clean_text(reason), hint=hint
    )


def is_about_registry(reason: str) -> bool:
    """Return whether a pull failed for a reason that has nothing to do with the image: a rate limit or a login."""
    return RATE_LIMIT.search(reason) is not None or _login_refusal(reason) is not None


def _problem(image: str, reason: str) -> tuple[str, str] | None:
    if _NO_PLATFORM.search(reason):
        return (
            f"the base image {image} is not available for the platform of the build",
            f'{_ANOTHER}, or another platform in DOCKER_DEFAULT_PLATFORM (for clusters and clouds: "platform" there)',
        )
    if RATE_LIMIT.search(reason):
        return _rate_limit(image, reason)
    host = base_image_host(image)
    login = kind_of(host).pull_login_hint(host)
    if (why := _login_refusal(reason)) is not None:
        problem = f"the login for {host} has expired" if why is Refusal.EXPIRED else f"{host} rejected docker's login"
        hint = f"{login}; or, if the image is public: docker logout{_argument(host)}"
        return f"{problem}, for the base image {image}", hint
    if _INVALID_NAME.search(reason):
        lower = lower_case_name(image)
        case = "" if lower == image else f", in lower case: {lower}"
        return f"invalid name of the base image: {image}", f'correct "base_image" in {CONFIG_FILE}{case}'
    is_not_found, is_denied = bool(_NOT_FOUND.search(reason)), bool(_DENIED.search(reason))
    if is_not_found and is_denied:  # Docker Hub does not say which
        hint = f"check the name; if the image is private, {login}; or {_ANOTHER}"
        return f"base image not available: {image}", hint
    if is_not_found:
        return f"base image not available: {image}", f"run: docker pull {image}, or {_ANOTHER}"
    if _OUT_OF_REACH.search(reason):
        return (
            f"cannot reach the registry of the base image {image}",
            f"check the network and the proxy of the Docker Engine (docker info), or {_ANOTHER}",
        )
    if is_denied:
        return f"access denied to the base image {image}", f"{login}; or {_ANOTHER}"
    return None


def _login_refusal(reason: str) -> Refusal | None:
    """Return whether the stored login itself was refused, as expired or as wrong; None otherwise."""
    if is_expired(reason):
        return Refusal.EXPIRED
    return Refusal.REJECTED if refusal(reason, "") is Refusal.REJECTED else None


def _rate_limit(image: str, reason: str) -> tuple[str, str]:
    """Return message and hint for a registry that limits pulls.

    Source: docs.docker.com/docker-hub/usage/pulls: fewer are allowed without an account.
    """
    host = base_image_host(image)
    kind = kind_of(host)
    limit = kind.pull_limit(reason)
    if _FAILED_LOGINS.search(reason):
        return f"{kind.name or host} allows no login after too many failed ones, for the base image {image}", limit
    message = "the registry limits how often the base image is pulled (rate limit of "
    message += f"{kind.name or host}): {image}"
    official = _OFFICIAL.fullmatch(image)
    if official is None:
        return message, f"{limit}; or {_ANOTHER}"
    return message, f'{limit}; or set "base_image" in {CONFIG_FILE} to a copy: {_COPIES}/{official[1]}'


def _argument(host: str) -> str:
    """Return what ``docker logout`` needs for a registry: nothing for Docker Hub."""
    return "" if host == "docker.io" else f" {host}"
