"""Turn the error messages of a registry into errors with a hint."""

from __future__ import annotations

import re

from caliban.errors import ImageError
from caliban.images.registry.names import registry_host
from caliban.images.registry.realm import TOKEN_HOSTS_VARIABLE
from caliban.records import ImageRef

# The error codes of the distribution specification as the engine spells them, and the engine's own message for a
# missing login.
_DENIED = re.compile(
    r"\b(denied|unauthori[sz]ed|forbidden|authentication required|no basic auth credentials|insufficient_scope)\b"
    r"|name unknown|\b(status|HTTP)\D{0,12}40[13]\b"
    # Docker 29 passes on the registry's message without its error code.
    r"|^error from registry: ",
    re.IGNORECASE,
)
_FULL = re.compile(r"no space left on device|insufficient storage|quota exceeded|exceeds? the quota", re.IGNORECASE)
# Docker 29 names the request: "unexpected status from PUT request to http://localhost:5000/...: 500 ...".
_SERVER_ERROR = re.compile(r"status(?: from [A-Z]+ request to \S+)?:? 5\d\d\b", re.IGNORECASE)


def push_failure(words: str, image: ImageRef, access_hint: str) -> ImageError:
    """Return the error for a failed push.

    Args:
        words: the message of the registry or of the Docker Engine, without secrets.
        image: the reference that was pushed.
        access_hint: how to get access to the repository.
    """
    host = registry_host(image)
    if _FULL.search(words):
        return ImageError(
            "registry-full",
            f"cannot push the image: {host} has no space left for {image}",
            cause=words,
            hint='delete unused images from the registry, or set another "registry" in .calibanconfig.json',
        )
    if _DENIED.search(words):
        return push_denied(words, image, access_hint)
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


def push_denied(words: str, image: ImageRef, access_hint: str) -> ImageError:
    """Return the error for a push that the registry does not allow."""
    return ImageError(
        "push-refused",
        f"cannot push the image: {registry_host(image)} denied access to {image}",
        cause=words,
        hint=access_hint,
    )


def realm_refused(words: str, host: str) -> ImageError:
    """Return the error for a registry whose token service is not its own, so that the login was not sent."""
    return ImageError(
        "registry-realm-refused",
        f"cannot push images to {host}: the login was not sent to another site",
        cause=words,
        hint=f"if that is the token service of {host}, add its host to ${TOKEN_HOSTS_VARIABLE}, separated by commas",
    )


def access_denied(words: str, repository: str, access_hint: str) -> ImageError:
    """Return the error for a repository that pushes are not allowed to, before there is an image."""
    return ImageError(
        "push-refused", f"cannot push images to {repository}: access denied", cause=words, hint=access_hint
    )
