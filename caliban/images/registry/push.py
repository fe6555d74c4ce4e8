"""Push images to a container registry, from which jobs on other machines pull them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from caliban.bounded import DeadlineExceededError
from caliban.clock import SystemClock
from caliban.errors import ImageError
from caliban.images.registry.access import LoginState, login_user
from caliban.images.registry.api import (
    AccessDeniedError,
    RealmRefusedError,
    RegistryUnavailableError,
    challenge_of,
    find_digest,
    has_tags,
    request_push_access,
)
from caliban.images.registry.auth import Login, stored_login
from caliban.images.registry.errors import (
    access_denied,
    is_about_access,
    push_denied,
    push_failure,
    realm_refused,
    repository_missing,
)
from caliban.images.registry.hosted import Ecr
from caliban.images.registry.kind import Kind
from caliban.images.registry.kinds import kind_of
from caliban.images.registry.names import Place, registry_host, repository_of
from caliban.images.registry.upload import upload
from caliban.records import ImageRef
from caliban.redaction import clean_text
from caliban.reporter import Reporter
from caliban.threads import within

if TYPE_CHECKING:
    from caliban.images.docker.engine import Engine

_T = TypeVar("_T")

_ASK_SECONDS = 180.0
"""How long a registry and its token service have for all requests of one question."""


@dataclass(frozen=True)
class Registry:
    """A place in a container registry that images are pushed to. Cloud providers' registries are subclasses.

    Two are equal when they have the same type, repository, ``by_digest`` and ``is_repository``.

    Attributes:
        repository: ``HOST[:PORT][/PATH]``, as :func:`caliban.images.registry.names.check_registry` accepts it.
        reporter: for progress and warnings.
        by_digest: whether jobs name the image by its digest. The tag can be moved to another image by anyone who may
            push; the digest cannot.
        is_repository: whether all images are tags of this repository, instead of repositories below it.
        problems: why no stored login could be read, for the error of a registry that needs one.
    """

    repository: str
    reporter: Reporter = field(repr=False, compare=False)
    by_digest: bool = True
    is_repository: bool = field(default=False, kw_only=True)
    problems: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    _logins: list[Login | None] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def host(self) -> str:
        """``HOST[:PORT]``."""
        return registry_host(self.repository)

    @property
    def place(self) -> Place:
        """Where images are pushed."""
        return Place(self.repository, self.is_repository)

    def login(self) -> Login | None:
        """Return the login to use: the one that ``docker login`` stored. None is an anonymous request.

        Raises:
            CalibanError: there is none, where the registry requires one.
        """
        if not self.problems:  # a helper that failed would fail, or hang, again
            self._logins[:] = [stored_login(self.host, self.reporter, on_problem=self.problems.append)]
        return self._logins[0]

    def explain(self, words: str) -> ImageError | None:
        """Return what an error message of this registry means; None where only the usual meanings apply."""
        return repository_missing(words, kind_of(self.host, words).missing(self.place, words))

    def is_resolved_by_push(self, words: str) -> bool:
        """Return whether a push may succeed although the registry answers ``words`` before it."""
        return not self.is_repository and isinstance(kind_of(self.host, words), Ecr)

    @property
    def access_hint(self) -> str:
        """How to get access to the repository."""
        return self.denied_hint("")

    def denied_hint(self, words: str) -> str:
        """Return how to get access to the repository, given the registry's message."""
        return self._kind(words).access_hint(self.place, words)

    def login_hint(self, words: str) -> str:
        """Return how to log in, given the registry's message."""
        kind = self._kind(words)
        return kind.login_hint(self.host) if kind.name else kind.access_hint(self.place, words)

    def _kind(self, words: str) -> Kind:
        """Return the kind of the registry. One that anybody may run is asked, unless its message shows the kind."""
        kind = kind_of(self.host, words)
        return kind if kind.name else kind_of(self.host, self._challenge)

    @cached_property
    def _challenge(self) -> str:
        try:
            return self._ask(lambda: challenge_of(self.host))
        except RegistryUnavailableError:
            return ""

    def check(self) -> None:
        """Check, before an image is built, that the registry would accept a push. Nothing is written there.

        A warning says what a push would create that others may see.

        Raises:
            CalibanError: it certainly would not: ``repository-missing``, ``registry-api-disabled``, ``push-refused``,
                ``registry-realm-refused``, or there is no login.
        """
        login = self.login()
        try:
            words = self._ask(lambda: self._request_access(login))
        except AccessDeniedError as error:
            words = _redact(login, str(error))
            state, is_rejected = self._state(login, words), error.is_login_rejected
            raise self.explain(words) or access_denied(
                words, self.repository, self.denied_hint(words), state, is_login_rejected=is_rejected
            ) from error
        except RealmRefusedError as error:
            if login is not None:
                raise realm_refused(_redact(login, str(error)), self.host) from error
            return
        except RegistryUnavailableError:  # the push reports what is wrong, if anything is
            return
        problem = None if words is None or self.is_resolved_by_push(words) else self.explain(words)
        if problem is not None:
            raise problem
        self._warn_of_creation(words, login)

    def push(self, engine: Engine, image: ImageRef) -> ImageRef:
        """Push an image, unless the registry has exactly this image already: see :class:`Place` for its name.

        The Docker Engine has the same names for it afterwards as before.

        Args:
            engine: has the image.
            image: its id, or a name that the engine knows.

        Returns:
            What jobs call the image: ``REPOSITORY/SHORT_ID@sha256:...``, or its tag without ``by_digest``. Never both:
            container runtimes ignore the tag then.

        Raises:
            CalibanError: ``repository-missing``, ``registry-api-disabled``, ``push-refused``, ``registry-full``,
                ``registry-rate-limited``, ``registry-realm-refused``, ``push-failed``, ``image-not-found``,
                ``docker-unreachable``, ``docker-refused``, or there is no login.
        """
        image_id = engine.image_id(image)
        reference = self.place.reference(image_id)
        login = self.login()
        digest = self._find_digest(reference, image_id, login)
        if digest is None:

            def failure(words: str) -> ImageError:
                words = _redact(login, words)
                return self.explain(words) or self._failure(words, reference, login)

            digest = upload(engine, image_id, reference, login, self.reporter, failure)
        else:
            self.reporter.info(f"{reference} already exists in the registry")
        return f"{repository_of(reference)}@{digest}" if self.by_digest else reference

    def _request_access(self, login: Login | None) -> str | None:
        if self.is_repository:
            return request_push_access(self.repository, login, sample=self.place.sample)
        return request_push_access(self.repository, login)

    def _warn_of_creation(self, words: str | None, login: Login | None) -> None:
        """Warn of repositories that the push creates, or would have to create."""
        warning = kind_of(self.host).creation(self.place)
        if warning is None or words is None:
            return
        if self.is_repository:
            try:
                if self._ask(lambda: has_tags(self.repository, login)):
                    return
            except (AccessDeniedError, RegistryUnavailableError):  # then it may be new
                pass
        self.reporter.warn(warning)

    def _failure(self, words: str, reference: ImageRef, login: Login | None) -> ImageError:
        """Return the error for a failed push; the kind of a registry matters where it denied access."""
        if not is_about_access(words):
            return push_failure(words, reference, "", kind=kind_of(self.host))
        return push_failure(words, reference, self.denied_hint(words), self._state(login, words))

    def _state(self, login: Login | None, words: str) -> LoginState:
        return LoginState(self.host, login_user(login), self.login_hint(words), tuple(self.problems))

    def _ask(self, call: Callable[[], _T]) -> _T:
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
            state, is_rejected = self._state(login, words), error.is_login_rejected
            raise self.explain(words) or push_denied(
                words, reference, self.denied_hint(words), state, is_login_rejected=is_rejected
            ) from error
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
