"""What Docker tells while it pushes: layers and their bytes, the end, or the registry's reason why not."""

from __future__ import annotations

import re
from collections.abc import Mapping

from caliban.errors import ImageError
from caliban.images.registry_login import Login
from caliban.images.registry_names import is_google_registry, registry_host
from caliban.records import ImageRef
from caliban.reporter import Progress

# The codes of the distribution specification as the engine spells them, and its own words for a login that it lacks.
_REFUSED = re.compile(
    r"\b(denied|unauthori[sz]ed|forbidden|authentication required|no basic auth credentials|insufficient_scope)\b"
    r"|name unknown|\b(status|HTTP)\D{0,12}40[13]\b",
    re.IGNORECASE,
)
_FULL = re.compile(r"no space left on device|insufficient storage|quota exceeded|exceeds? the quota", re.IGNORECASE)
_BROKEN = re.compile(r"status:? 5\d\d\b", re.IGNORECASE)
_DONE = re.compile(r"digest: sha256:[0-9a-f]{64}")


class PushLog:
    """Follows one push event by event.

    Args:
        image: the reference that is pushed.
        size: bytes of all layers, not compressed.
        login: whose password is kept out of errors.
        progress: counts the bytes.
    """

    def __init__(self, image: ImageRef, size: int, login: Login | None, progress: Progress) -> None:
        self.is_done = False
        """Whether the registry has taken the image."""
        self._image = image
        self._login = login
        self._left = size
        self._progress = progress
        self._sent: dict[str, int] = {}

    def feed(self, event: Mapping[str, object]) -> None:
        """Take in one event of the engine's answer to ``POST /images/NAME/push``.

        Raises:
            ImageError: ``push-refused``, ``registry-full``, ``push-failed``: the event is an error.
        """
        if "error" in event or "message" in event:
            words = str(event.get("error") or event.get("message")).strip()
            raise push_failure(words, self._image, self._login)
        status, layer, detail = event.get("status"), event.get("id"), event.get("progressDetail")
        if isinstance(event.get("aux"), Mapping) or (isinstance(status, str) and _DONE.search(status)):
            self._finish()
        elif isinstance(layer, str) and isinstance(status, str):
            self._progress.note(f"{layer}: {status}")
            if isinstance(detail, Mapping) and isinstance(current := detail.get("current"), int):
                self._count(layer, current)

    def _count(self, layer: str, current: int) -> None:
        """Count a layer's bytes once, though the engine starts anew after a broken connection."""
        before = self._sent.get(layer, 0)
        if current > before:
            self._sent[layer] = current
            self._advance(current - before)

    def _finish(self) -> None:
        """Count what was not sent, as the registry had it already."""
        self.is_done = True
        self._advance(self._left)

    def _advance(self, amount: int) -> None:
        # The engine counts the archive, headers and all, which is a little more than the files in it.
        counted = min(amount, self._left)
        self._left -= counted
        self._progress.advance(counted)


def push_failure(words: str, image: ImageRef, login: Login | None) -> ImageError:
    """Turn the reason that the registry, or the engine, gave into advice.

    Args:
        words: their own words.
        image: the reference that was to be pushed.
        login: whose password is taken out of the words.
    """
    host = registry_host(image)
    words = login.hidden_in(words) if login else words
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
    """Say that the registry does not let us in, and what opens it.

    Source of roles: cloud.google.com/artifact-registry/docs/access-control; ``createOnPushWriter`` is for gcr.io
    names, whose repositories come into being with the first push.
    """
    host = registry_host(image)
    return ImageError(
        "push-refused",
        f"the image was not pushed: {host} refused {image}",
        cause=login.hidden_in(words) if login else words,
        hint=_google_hint(image)
        if is_google_registry(image)
        else f"log in with `docker login {host}`, as a user who may push to {image.rpartition('/')[0]}",
    )


def _google_hint(image: ImageRef) -> str:
    host = registry_host(image)
    if host.endswith("gcr.io"):
        return (
            f"the repository {host} must exist in the project (Artifact Registry, with the API enabled), and the "
            "account needs the role roles/artifactregistry.writer there, or roles/artifactregistry.createOnPushWriter "
            "to make it with the first push"
        )
    repository = "/".join(image.split("/")[1:-1])
    return (
        f"the repository {repository} must exist in {host.removesuffix('-docker.pkg.dev')} "
        "(`gcloud artifacts repositories list`), and the account needs the role roles/artifactregistry.writer on it"
    )
