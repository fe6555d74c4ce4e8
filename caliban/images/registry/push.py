"""Push images to a container registry, from which jobs on other machines pull them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from caliban.bounded import DeadlineExceededError
from caliban.clock import SystemClock
from caliban.errors import ImageError
from caliban.images.registry.api import (
    AccessDeniedError,
    RealmRefusedError,
    RegistryUnavailableError,
    find_digest,
    request_push_access,
)
from caliban.images.registry.auth import Login, stored_login
from caliban.images.registry.errors import access_denied, push_denied, push_failure, realm_refused
from caliban.images.registry.names import image_reference, registry_host
from caliban.images.registry.upload import upload
from caliban.records import ImageRef
from caliban.redaction import clean_text
from caliban.reporter import Reporter
from caliban.threads import within

if TYPE_CHECKING:
    from caliban.images.docker.engine import Engine

_ASK_SECONDS = 180.0
"""How long a registry and its token service have for all requests of one question."""


@dataclass(frozen=True)
class Registry:
    """A place in a container registry that images are pushed below. Cloud providers' registries are subclasses.

    Two are equal when they have the same type, repository and ``by_digest``.

    Attributes:
        repository: ``HOST[:PORT][/PATH]``, as :func:`caliban.images.registry.names.check_registry` accepts it.
        reporter: for progress and warnings.
        by_digest: whether jobs name the image by its digest. The tag can be moved to another image by anyone who may
            push; the digest cannot.
        is_probed: whether :meth:`check` asks the registry. One that creates repositories with the first push has
            nothing useful to say before.
    """

    repository: str
    reporter: Reporter = field(repr=False, compare=False)
    by_digest: bool = True
    is_probed: ClassVar[bool] = False

    @property
    def host(self) -> str:
        """``HOST[:PORT]``."""
        return registry_host(self.repository)

    def login(self) -> Login | None:
        """Return the login to use: the one that ``docker login`` stored. None is an anonymous request.

        Raises:
            CalibanError: there is none, where the registry requires one.
        """
        return stored_login(self.host, self.reporter)

    def explain(self, words: str) -> ImageError | None:
        """Return what an error message of this registry means; None where only the usual meanings apply."""
        return None

    def is_resolved_by_push(self, words: str) -> bool:
        """Return whether a push may succeed although the registry answers ``words`` before it."""
        return False

    @property
    def access_hint(self) -> str:
        """How to get access to the repository."""
        return f"run: docker login {self.host}, as a user who may push to {self.repository}"

    def check(self) -> None:
        """Check, before an image is built, that the registry would accept a push. Nothing is written there.

        Raises:
            CalibanError: it certainly would not: ``repository-missing``, ``registry-api-disabled``, ``push-refused``,
                ``registry-realm-refused``, or there is no login.
        """
        if not self.is_probed:
            return
        login = self.login()
        try:
            words = self._ask(lambda: request_push_access(self.repository, login))
        except AccessDeniedError as error:
            words = _redact(login, str(error))
            raise self.explain(words) or access_denied(words, self.repository, self.access_hint) from error
        except RealmRefusedError as error:
            if login is not None:
                raise realm_refused(_redact(login, str(error)), self.host) from error
            return
        except RegistryUnavailableError:  # the push reports what is wrong, if anything is
            return
        problem = None if words is None or self.is_resolved_by_push(words) else self.explain(words)
        if problem is not None:
            raise problem

    def push(self, engine: Engine, image: ImageRef) -> ImageRef:
        """Push an image as ``REPOSITORY/SHORT_ID:latest``, unless the registry has exactly this image already.

        The Docker Engine has the same names for it afterwards as before.

        Args:
            engine: has the image.
            image: its id, or a name that the engine knows.

        Returns:
            What jobs call the image: ``REPOSITORY/SHORT_ID@sha256:...``, or its tag without ``by_digest``. Never both:
            container runtimes ignore the tag then.

        Raises:
            CalibanError: ``repository-missing``, ``registry-api-disabled``, ``push-refused``, ``registry-full``,
                ``registry-realm-refused``, ``push-failed``, ``image-not-found``, ``docker-unreachable``,
                ``docker-refused``, or there is no login.
        """
        image_id = engine.image_id(image)
        reference = image_reference(self.repository, image_id)
        login = self.login()
        digest = self._find_digest(reference, image_id, login)
        if digest is None:

            def failure(words: str) -> ImageError:
                words = _redact(login, words)
                return self.explain(words) or push_failure(words, reference, self.access_hint)

            digest = upload(engine, image_id, reference, login, self.reporter, failure)
        else:
            self.reporter.info(f"{reference} already exists in the registry")
        return f"{reference.rpartition(':')[0]}@{digest}" if self.by_digest else reference

    def _ask(self, call: Callable[[], str | None]) -> str | None:
        """Return ``call()``, which makes a few requests, each with a deadline of its own.

        Raises:
            RegistryUnavailableError: it takes too long.
        """
        try:
            return within(
                _ASK_SECONDS,
                call,
                SystemClock(),
                lambda: self.reporter.info(f"waiting for an answer of the registry {self.host} ..."),
            )
        except DeadlineExceededError as error:
            raise RegistryUnavailableError(str(error)) from None

    def _find_digest(self, reference: ImageRef, image_id: str, login: Login | None) -> str | None:
        """Return the digest of the image in the registry; None where it is missing or this cannot be determined."""
        try:
            return self._ask(lambda: find_digest(reference, image_id, login))
        except AccessDeniedError as error:
            words = _redact(login, str(error))
            raise self.explain(words) or push_denied(words, reference, self.access_hint) from error
        except RealmRefusedError as error:  # the Docker Engine would send the login there
            if login is not None:
                raise realm_refused(_redact(login, str(error)), self.host) from error
            return None
        except RegistryUnavailableError as error:  # the push reports what is wrong, if anything is
            words = _redact(login, str(error))
            self.reporter.info(f"cannot check whether {self.host} has the image, so it is pushed ({words})")
            return None


def _redact(login: Login | None, words: str) -> str:
    """Return a message of the registry or the engine as it may be shown."""
    return clean_text(words, (login.password, login.basic) if login else ())
