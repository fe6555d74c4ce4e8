"""Read the events of the Docker Engine's answer to a push: bytes of layers, the digest, or the registry's error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from caliban.errors import ImageError
from caliban.reporter import Progress

# The last status of a push. Only an engine that stores images itself sends the digest as an event of its own ("aux").
_DIGEST = re.compile(r"digest: (sha256:[0-9a-f]{64})")


class PushLog:
    """Follows one push event by event.

    Args:
        size: bytes of all layers, uncompressed.
        progress: counts the bytes.
        failure: makes the error for an error event, from its message.
    """

    def __init__(self, size: int, progress: Progress, failure: Callable[[str], ImageError]) -> None:
        self.digest: str | None = None
        """Digest of the manifest, ``sha256:<64 hex digits>``; None until the registry has accepted the image."""
        self._left = size
        self._progress = progress
        self._failure = failure
        self._sent: dict[str, int] = {}

    def feed(self, event: Mapping[str, object]) -> None:
        """Process one event of the engine's answer to ``POST /images/NAME/push``.

        Raises:
            ImageError: the event is an error.
        """
        if not isinstance(event, Mapping):  # odd, but no error
            return
        if "error" in event or "message" in event:
            raise self._failure(str(event.get("error") or event.get("message")).strip())
        status, layer, detail = event.get("status"), event.get("id"), event.get("progressDetail")
        if (digest := _digest(event)) is not None:
            self._finish(digest)
        elif isinstance(layer, str) and isinstance(status, str):
            self._progress.note(f"{layer}: {status}")
            if isinstance(detail, Mapping) and isinstance(current := detail.get("current"), int):
                self._count(layer, current)

    def _count(self, layer: str, current: int) -> None:
        """Count each byte of a layer once, although the engine starts again after a broken connection."""
        before = self._sent.get(layer, 0)
        if current > before:
            self._sent[layer] = current
            self._advance(current - before)

    def _finish(self, digest: str) -> None:
        """Count the layers that were not sent since the registry has them."""
        self.digest = digest
        self._advance(self._left)

    def _advance(self, amount: int) -> None:
        # The engine counts the bytes of archives, which are slightly larger than the files in them.
        counted = min(amount, self._left)
        self._left -= counted
        self._progress.advance(counted)


def _digest(event: Mapping[str, object]) -> str | None:
    status, aux = event.get("status"), event.get("aux")
    if isinstance(aux, Mapping) and isinstance(aux.get("Digest"), str):
        return str(aux["Digest"])
    match = _DIGEST.search(status) if isinstance(status, str) else None
    return match[1] if match else None
