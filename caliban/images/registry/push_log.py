"""What Docker tells while it pushes: layers and their bytes, the end, or the registry's reason why not."""

from __future__ import annotations

import re
from collections.abc import Mapping

from caliban.images.registry.auth import Login
from caliban.images.registry.errors import push_failure
from caliban.records import ImageRef
from caliban.reporter import Progress

# The last line of a push; only an engine that keeps its images itself says the same in an event of its own ("aux").
_DONE = re.compile(r"digest: (sha256:[0-9a-f]{64})")


class PushLog:
    """Follows one push event by event.

    Args:
        image: the reference that is pushed.
        size: bytes of all layers, not compressed.
        login: whose password is kept out of errors.
        progress: counts the bytes.
    """

    def __init__(self, image: ImageRef, size: int, login: Login | None, progress: Progress) -> None:
        self.digest: str | None = None
        """Of the manifest, ``sha256:<64 hex digits>``, once the registry has taken the image; None before."""
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
        if (digest := _digest(event)) is not None:
            self._finish(digest)
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

    def _finish(self, digest: str) -> None:
        """Count what was not sent, as the registry had it already."""
        self.digest = digest
        self._advance(self._left)

    def _advance(self, amount: int) -> None:
        # The engine counts the archive, headers and all, which is a little more than the files in it.
        counted = min(amount, self._left)
        self._left -= counted
        self._progress.advance(counted)


def _digest(event: Mapping[str, object]) -> str | None:
    """Find what an event tells of the manifest that the registry has taken."""
    status, told = event.get("status"), event.get("aux")
    if isinstance(told, Mapping) and isinstance(told.get("Digest"), str):
        return str(told["Digest"])
    match = _DONE.search(status) if isinstance(status, str) else None
    return match[1] if match else None
