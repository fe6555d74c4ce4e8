"""Pushing images to where jobs that run elsewhere can get them. docker-py is imported when something is pushed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from caliban.errors import ImageError
from caliban.images.docker.engine import Engine, unreachable
from caliban.images.registry.api import NoAnswerError, RegistryRefusedError, digest_there, words_about
from caliban.images.registry.auth import Login, stored_login
from caliban.images.registry.errors import certain_lack, place_refusal, push_failure, push_refusal
from caliban.images.registry.names import is_google_registry, reference, registry_host, repository
from caliban.images.registry.push_log import PushLog
from caliban.records import ImageRef
from caliban.reporter import Reporter

__all__ = ["Login", "PushedImage", "check_place", "is_google_registry", "push", "reference", "repository"]

_SECONDS_OF_SILENCE = 3600
_KEEPER = "caliban-being-pushed"
# Two blocks of zeros: the end of a tar archive, with nothing before it.
_EMPTY_ARCHIVE = bytes(1024)


@dataclass(frozen=True)
class PushedImage:
    """An image that a registry has, by both of its names there.

    Attributes:
        by_tag: ``REPOSITORY/SHORT_ID:latest``; whoever may push can give the name to another image.
        digest: of its manifest, ``sha256:<64 hex digits>``.
    """

    by_tag: ImageRef
    digest: str

    @property
    def by_digest(self) -> ImageRef:
        """``REPOSITORY/SHORT_ID@sha256:...``: this image and no other, as long as the registry keeps it.

        Without the tag, which nobody looks at beside a digest (kubernetes.io/docs/concepts/containers/images), and
        which not every program that reads image names expects there.
        """
        return f"{self.by_tag.rpartition(':')[0]}@{self.digest}"


def push(engine: Engine, image: ImageRef, repository: str, reporter: Reporter, *, login: Login | None) -> PushedImage:
    """Push an image as ``REPOSITORY/SHORT_ID:latest``, unless the registry has exactly that image already.

    The engine has the same names for it afterwards as before.

    Args:
        engine: has the image.
        image: its id, or a name that the engine knows.
        repository: as :func:`repository` gives it.
        reporter: gets the progress, in bytes of layers.
        login: for the registry; None for what ``docker login`` stored.

    Returns:
        The references under which the registry has it.

    Raises:
        ImageError: ``repository-missing``, ``registry-api-disabled``, ``push-refused``, ``registry-full``,
            ``push-failed``, ``image-not-found``, ``docker-unreachable``, ``docker-refused``.
    """
    image_id = engine.image_id(image)
    target = reference(repository, image_id)
    login = login or stored_login(registry_host(target), reporter)
    digest = _digest_there(target, image_id, login, reporter)
    if digest is not None:
        reporter.info(f"{target} is in the registry already")
        return PushedImage(target, digest)
    with _named(engine, image_id, target, reporter):
        return PushedImage(target, _send(engine, target, login, reporter))


def check_place(repository: str, reporter: Reporter, *, login: Login | None) -> None:
    """Learn before an image is built whether it could be pushed; nothing is written to the registry.

    Args:
        repository: as :func:`repository` gives it.
        reporter: hears of a stored login that cannot be read.
        login: for the registry; None for what ``docker login`` stored.

    Raises:
        ImageError: ``repository-missing``, ``registry-api-disabled`` or ``push-refused``, where that is certain.
    """
    login = login or stored_login(registry_host(repository), reporter)
    try:
        words = words_about(repository, login)
    except RegistryRefusedError as error:
        raise place_refusal(str(error), repository, login) from error
    except NoAnswerError:  # the push will show what is wrong, if anything is
        return
    lack = certain_lack(words, repository) if words else None
    if lack is not None:
        raise lack


def _digest_there(target: ImageRef, image_id: str, login: Login | None, reporter: Reporter) -> str | None:
    """Ask the registry; where it does not answer, let the push show what is wrong, if anything is."""
    try:
        return digest_there(target, image_id, login)
    except RegistryRefusedError as error:
        raise push_refusal(str(error), target, login) from error
    except NoAnswerError as error:
        words = login.hidden_in(str(error)) if login else str(error)
        reporter.info(f"whether {registry_host(target)} has the image is not known, so it is pushed ({words})")
        return None


def _send(engine: Engine, target: ImageRef, login: Login | None, reporter: Reporter) -> str:
    """Have the engine push, and give the manifest's digest; Ctrl-C closes the connection, upon which it stops."""
    import docker.errors

    # A connection of its own: it may be silent for longer than others while a registry stores a large layer, and
    # pushes of several threads do not get each other's responses.
    with closing(Engine.connect(engine.environ)) as own, own.told(), own.responses() as responses:
        own.client.api.timeout = _SECONDS_OF_SILENCE
        size = int(own.client.images.get(target).attrs["Size"])
        try:
            with reporter.progress("push", total=size, unit="B") as progress:
                log = PushLog(target, size, login, progress)
                auth = login.for_engine(registry_host(target)) if login else {}
                for event in own.client.api.push(target, stream=True, decode=True, auth_config=auth):
                    log.feed(event)
        except docker.errors.APIError as error:
            if error.is_client_error():  # the engine's own word; others are what the registry told it
                raise
            # from None: these words, which may hold the password, are told without it.
            raise push_failure(str(error.explanation or error), target, login) from None
        finally:
            for response in responses:
                response.close()
    if log.digest is None:
        raise unreachable(ConnectionError("the engine's answer ended before the push did"), engine.host)
    return log.digest


@contextmanager
def _named(engine: Engine, image_id: str, target: ImageRef, reporter: Reporter) -> Iterator[None]:
    """Give the image the name that it is pushed by, and take it away again where the engine did not have it before."""
    was_there = engine.image_exists(target)
    with engine.told():
        engine.client.api.tag(image_id, target.rpartition(":")[0], target.rpartition(":")[2])
    try:
        yield
    finally:
        if not was_there:
            try:
                with engine.told():
                    _take_name(engine, image_id, target)
            except ImageError as error:
                # What the push itself came to is worth more than a name that stays.
                reporter.warn(f"the name {target} stays in the Docker Engine: {error.cause or error.message}")


def _take_name(engine: Engine, image_id: str, target: ImageRef) -> None:
    """Take a name, and the digest that a push adds to it, from an image that may have no other.

    The engine has no request for that: it removes an image together with its last name. So the image gets a second
    name, loses the first, and loses the second to an empty image, which is then removed.
    """
    tag = uuid.uuid4().hex
    api = engine.client.api
    api.tag(image_id, _KEEPER, tag)
    api.remove_image(target)
    api.import_image_from_data(_EMPTY_ARCHIVE, repository=_KEEPER, tag=tag)
    api.remove_image(f"{_KEEPER}:{tag}")
