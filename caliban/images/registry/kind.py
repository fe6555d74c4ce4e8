"""A kind of registry: how to log in, what a push requires, what has to exist before it, and how names look."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from caliban.images.registry.names import Place

_ANONYMOUS = re.compile(r"unauthenticated|anonymous", re.IGNORECASE)


@dataclass(frozen=True)
class Advice:
    """What is wrong, and what to do about it.

    Attributes:
        message: a fragment of a sentence, such as ``Harbor has no project lab``.
        hint: a command or an imperative sentence.
    """

    message: str
    hint: str


class Kind:
    """A registry of which nothing else is known.

    Attributes:
        name: of the service.
        hosts: matches ``HOST[:PORT]`` of its registries.
        signs: found in the header WWW-Authenticate, or in messages, of its registries on any host.
    """

    name: ClassVar[str] = ""
    hosts: ClassVar[re.Pattern[str]] = re.compile(r"(?!)")
    signs: ClassVar[re.Pattern[str]] = re.compile(r"(?!)")

    def login_hint(self, host: str) -> str:
        """Return how to log in, again if need be."""
        return f"run: docker login {host}"

    def pull_login_hint(self, host: str) -> str:
        """Return how to log in where images are only pulled."""
        return f"run: docker login {host}"

    def access_hint(self, place: Place, words: str) -> str:
        """Return how to get access, given the message of a registry that denied it."""
        return f"{self.login_hint(place.host)}, as a user who may push to {place.name}"

    def missing(self, place: Place, words: str) -> Advice | None:
        """Return what has to be created before a push, if the registry's message reports that it is missing."""
        return None

    def expected(self, place: Place) -> str | None:
        """Return the form that the name of a place must have, if it has another one."""
        return None

    def creation(self, place: Place) -> str | None:
        """Return a warning about repositories that a push creates, or would have to; None where there is none."""
        return None

    def pull_limit(self, words: str) -> str:
        """Return what to do when the registry limits how often it is asked."""
        wait = "wait some minutes, then run the command again"
        return f"log in to it, as accounts may have a higher limit; or {wait}" if _ANONYMOUS.search(words) else wait
