"""Why the first step of a build failed: the base image is missing, private, for other machines, or out of reach.

The messages are those of the Docker Engine (distribution client, containerd) and of Podman.
"""

from __future__ import annotations

import re

from caliban.config import CONFIG_FILE
from caliban.errors import ImageError
from caliban.redaction import clean_text

_ANOTHER = f'set another "base_image" in {CONFIG_FILE}'

_NO_PLATFORM = re.compile(
    r"no matching manifest|does not match the specified platform|does not provide the specified platform"
    r"|no match for platform|image operating system .* cannot be used|no image found in (?:manifest|image index)"
    r"|cannot be used on this platform",
    re.IGNORECASE,
)
_RATE_LIMIT = re.compile(r"toomanyrequests|too many requests|pull rate limit", re.IGNORECASE)
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


def _problem(image: str, reason: str) -> tuple[str, str] | None:
    if _NO_PLATFORM.search(reason):
        return (
            f"the base image {image} is not available for the platform of the build",
            f'{_ANOTHER}, or another platform in DOCKER_DEFAULT_PLATFORM (for clusters and clouds: "platform" there)',
        )
    login = f"docker login {_host(image)}".rstrip()
    if _RATE_LIMIT.search(reason):
        return (
            f"the registry limits how often the base image {image} is pulled",
            f"run: {login}; or wait, or {_ANOTHER}",
        )
    if _INVALID_NAME.search(reason):
        return f"invalid name of the base image: {image}", f'correct "base_image" in {CONFIG_FILE}'
    is_not_found, is_denied = bool(_NOT_FOUND.search(reason)), bool(_DENIED.search(reason))
    if is_not_found and is_denied:  # Docker Hub does not say which
        hint = f"check the name; if the image is private, run: {login}; or {_ANOTHER}"
        return f"base image not available: {image}", hint
    if is_not_found:
        return f"base image not available: {image}", f"run: docker pull {image}, or {_ANOTHER}"
    if _OUT_OF_REACH.search(reason):
        return (
            f"cannot reach the registry of the base image {image}",
            f"check the network and the proxy of the Docker Engine (docker info), or {_ANOTHER}",
        )
    if is_denied:
        return f"access denied to the base image {image}", f"run: {login}; or {_ANOTHER}"
    return None


def _host(image: str) -> str:
    """Return the registry's host; "" for Docker Hub."""
    first, slash, _ = image.partition("/")
    return first if slash and (first == "localhost" or "." in first or ":" in first) else ""
