"""Upload an image from the Docker Engine to a registry. docker-py is imported when something is uploaded."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from caliban.errors import ImageError
from caliban.images.registry.auth import Login
from caliban.images.registry.names import registry_host
from caliban.images.registry.push_log import PushLog
from caliban.records import ImageRef
from caliban.reporter import Reporter

if TYPE_CHECKING:
    from caliban.images.docker.engine import Engine

_CLEANUP_SECONDS = 10.0
"""How long the engine has for each step of the cleanup after a failure or Ctrl-C."""

_PLACEHOLDER = "caliban-being-pushed"
_EMPTY_ARCHIVE = bytes(1024)
"""Two blocks of zeros: the end of a tar archive, with nothing before it."""


def upload(
    engine: Engine,
    image_id: str,
    reference: ImageRef,
    login: Login | None,
    reporter: Reporter,
    failure: Callable[[str], ImageError],
) -> str:
    """Push an image. Ctrl-C closes the connection, and the engine stops pushing.

    Args:
        engine: has the image.
        image_id: ``sha256:<64 hex digits>``.
        reference: ``HOST[:PORT]/NAME:TAG``. The engine has the image under this name during the push.
        login: for the registry, or None.
        reporter: for progress, in bytes of layers.
        failure: makes the error for what the registry answered.

    Returns:
        The digest of the manifest, ``sha256:<64 hex digits>``.
    """
    from caliban.images.docker.engine import Engine

    # A connection of its own, so that several threads can push at once.
    with (
        _tagged(engine, image_id, reference, reporter),
        closing(Engine.connect(engine.environ, clock=engine.clock, on_slow=engine.on_slow)) as own,
    ):
        return _push(own, reference, login, reporter, failure)


def _push(
    engine: Engine, reference: ImageRef, login: Login | None, reporter: Reporter, failure: Callable[[str], ImageError]
) -> str:
    import docker.errors

    from caliban.images.docker.engine import unreachable
    from caliban.images.docker.events import streamed_events
    from caliban.images.docker.silence import TRANSFER_SECONDS, DaemonWatch

    engine.client.api.timeout = None  # type: ignore[assignment]  # of requests: the watch gives up, not the socket
    auth = login.for_engine(registry_host(reference)) if login else {}
    watch = DaemonWatch(engine, lambda: (f"pushing {reference}", TRANSFER_SECONDS))
    with engine.translate_errors():
        size = int(engine.ask(lambda _: engine.client.images.get(reference)).attrs["Size"])
        try:
            with (
                reporter.progress("push", total=size, unit="B") as progress,
                streamed_events(
                    engine, lambda api, _: api.push(reference, stream=True, auth_config=auth), watch
                ) as events,
            ):
                log = PushLog(size, progress, failure)
                for event in events:
                    log.feed(event)
        except docker.errors.APIError as error:
            if error.is_client_error():  # the engine refused the request itself
                raise
            # from None: the message may contain the password, which `failure` removes.
            raise failure(str(error.explanation or error)) from None
    if log.digest is None:
        raise unreachable(ConnectionError("the response ended before the push did"), engine.host)
    return log.digest


@contextmanager
def _tagged(engine: Engine, image_id: str, reference: ImageRef, reporter: Reporter) -> Iterator[None]:
    """Give the image the name to push it by, and remove the name afterwards unless the engine had it before."""
    from caliban.images.docker.engine import ANSWER_SECONDS

    existed = engine.image_exists(reference)
    repository, _, tag = reference.rpartition(":")
    with engine.translate_errors():
        engine.ask(lambda api: api.tag(image_id, repository, tag))
    seconds = _CLEANUP_SECONDS
    try:
        yield
        seconds = ANSWER_SECONDS
    finally:
        if not existed:
            try:
                with engine.translate_errors():
                    _untag(engine, image_id, reference, seconds)
            except ImageError as error:  # must not replace the error of the push itself
                cause = error.cause or error.message
                reporter.warn(f"cannot remove the tag {reference} from the Docker Engine: {cause}")


def _untag(engine: Engine, image_id: str, reference: ImageRef, seconds: float) -> None:
    """Remove a tag, and the digest that a push adds to it, from an image that may have no other name.

    The engine has no request for that: it removes an image together with its last name. So the image gets a second
    name, loses the first, and loses the second to an empty image, which is then removed.
    """
    tag = uuid.uuid4().hex
    engine.ask(lambda api: api.tag(image_id, _PLACEHOLDER, tag), seconds=seconds)
    engine.ask(lambda api: api.remove_image(reference), seconds=seconds)
    engine.ask(
        lambda api: api.import_image_from_data(_EMPTY_ARCHIVE, repository=_PLACEHOLDER, tag=tag), seconds=seconds
    )
    engine.ask(lambda api: api.remove_image(f"{_PLACEHOLDER}:{tag}"), seconds=seconds)
