"""Turn the error messages of a registry into errors with a hint."""

from __future__ import annotations

import re

from caliban.config import CONFIG_FILE
from caliban.errors import ImageError
from caliban.images.registry.access import LoginState, is_expired, refused
from caliban.images.registry.kind import Advice, Kind
from caliban.images.registry.names import registry_host
from caliban.images.registry.realm import TOKEN_HOSTS_VARIABLE
from caliban.records import ImageRef

# The error codes of the distribution specification as the engine spells them, and the engine's own message for a
# missing login.
_ACCESS = re.compile(
    r"\b(denied|unauthori[sz]ed|unauthenticated|forbidden|authentication required|no basic auth credentials"
    r"|insufficient_scope)\b",
    re.IGNORECASE,
)
_DENIED = re.compile(
    rf"{_ACCESS.pattern}|name unknown"
    r"|\b(status|HTTP)\D{0,12}40[13]\b|\b40[13] (?:Unauthorized|Forbidden)\b"
    # Docker 29 passes on the registry's message without its error code.
    r"|^error from registry: ",
    re.IGNORECASE,
)
# Without a word about access: the login has nothing to do with it.
_UNKNOWN = re.compile(r"name unknown|not known to registry", re.IGNORECASE)
_FULL = re.compile(
    r"no space left on device|insufficient storage|exceeds? the quota|quota\b[^.\n]{0,40}\bexceeded|storage limit"
    # Harbor
    r"|will exceed the configured upper limit",
    re.IGNORECASE,
)
RATE_LIMIT = re.compile(
    r"toomanyrequests|too many requests|pull rate limit|rate exceeded|\b(?:status|HTTP)\D{0,12}429\b", re.IGNORECASE
)
"""Messages of a registry that limits how often it is asked: the error code of the distribution specification, the
status of HTTP, and the words of Docker Hub and Amazon ECR."""
# Amazon ECR: "The image tag 'x' already exists in the 'y' repository and cannot be overwritten because the tag is
# immutable."; Harbor: "Failed to process request due to 'x:y' configured as immutable.".
_IMMUTABLE = re.compile(r"immutable|cannot be overwritten", re.IGNORECASE)
# Docker 29 names the request: "unexpected status from PUT request to http://localhost:5000/...: 500 ...".
_SERVER_ERROR = re.compile(r"status(?: from [A-Z]+ request to \S+)?:? 5\d\d\b", re.IGNORECASE)


def is_about_access(words: str) -> bool:
    """Return whether a message of a registry or an engine means that access was denied, not that anything failed."""
    return is_expired(words) or _DENIED.search(words) is not None


def push_failure(
    words: str, image: ImageRef, access_hint: str, state: LoginState | None = None, kind: Kind | None = None
) -> ImageError:
    """Return the error for a failed push.

    Args:
        words: the message of the registry or of the Docker Engine, without secrets.
        image: the reference that was pushed.
        access_hint: how to get access to the repository.
        state: the login; None where nothing is known of it.
        kind: of the registry.
    """
    host = registry_host(image)
    if (failure := _unrelated_to_access(words, image, kind or Kind())) is not None:
        return failure
    if is_about_access(words):
        is_about_name = _UNKNOWN.search(words) and not _ACCESS.search(words)
        return push_denied(words, image, access_hint, None if is_about_name else state)
    if _SERVER_ERROR.search(words):
        # The engine does not pass on the body of such a response.
        return ImageError(
            "push-failed",
            f"cannot push the image: {host} failed while receiving {image}",
            cause=words,
            hint=f"check the log of {host}; a full disk there causes this error too",
        )
    return ImageError(
        "push-failed",
        f"cannot push the image: the connection to {host} failed",
        cause=words,
        hint=f"check that {host} can be reached from the Docker Engine's machine, then run the command again: "
        "layers that were uploaded are not sent again",
    )


def _unrelated_to_access(words: str, image: ImageRef, kind: Kind) -> ImageError | None:
    """Return the error for a registry that is full, limits requests, or keeps the image that a tag has."""
    host = registry_host(image)
    if _FULL.search(words):
        return ImageError(
            "registry-full",
            f"cannot push the image: {host} has no space left for {image}",
            cause=words,
            hint=f'delete unused images from the registry, or set another "registry" in {CONFIG_FILE}',
        )
    if RATE_LIMIT.search(words):
        return ImageError(
            "registry-rate-limited",
            f"cannot push the image: {host} limits how often it is asked",
            cause=words,
            hint=kind.pull_limit(words),
        )
    if _IMMUTABLE.search(words):
        return ImageError(
            "push-refused",
            f"cannot push the image: {host} has another image as {image}, and does not allow to replace it",
            cause=words,
            hint="delete that image from the registry, or allow tags to be overwritten there",
        )
    return None


def push_denied(
    words: str, image: ImageRef, access_hint: str, state: LoginState | None, *, is_login_rejected: bool = False
) -> ImageError:
    """Return the error for a push that the registry does not allow."""
    action, denied = "cannot push the image", f"{registry_host(image)} denied access to {image}"
    if state is None:
        return ImageError("push-refused", f"{action}: {denied}", cause=words, hint=access_hint)
    return refused(words, action, denied, access_hint, state, is_login_rejected=is_login_rejected)


def repository_missing(words: str, advice: Advice | None) -> ImageError | None:
    """Return the error for what has to be created before a push; None where nothing has to be."""
    if advice is None:
        return None
    return ImageError("repository-missing", f"cannot push images: {advice.message}", cause=words, hint=advice.hint)


def realm_refused(words: str, host: str) -> ImageError:
    """Return the error for a registry whose token service is not its own, so that the login was not sent."""
    return ImageError(
        "registry-realm-refused",
        f"cannot push images to {host}: the login was not sent to another site",
        cause=words,
        hint=f"if that is the token service of {host}, add its host to ${TOKEN_HOSTS_VARIABLE}, separated by commas",
    )


def access_denied(
    words: str, repository: str, access_hint: str, state: LoginState, *, is_login_rejected: bool = False
) -> ImageError:
    """Return the error for a repository that pushes are not allowed to, before there is an image."""
    action = f"cannot push images to {repository}"
    return refused(words, action, "access denied", access_hint, state, is_login_rejected=is_login_rejected)
