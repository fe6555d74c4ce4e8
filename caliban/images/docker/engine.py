"""Connect to the Docker Engine and build images. docker-py is imported with the first connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from caliban.bounded import DeadlineExceededError, TooLargeError, read_limited
from caliban.clock import Clock, SystemClock
from caliban.errors import CalibanError, ImageError
from caliban.images.docker.connect import connected_client, give_streams_connections, unconnected_client
from caliban.images.docker.endpoint import DEFAULT_SOCKET, Endpoint, docker_config_dir, find_endpoint, malformed
from caliban.images.docker.identity import EngineIdentity, engine_identity
from caliban.images.docker.unreachable import unreachable as unreachable
from caliban.images.dockerfile import BuildUser
from caliban.images.secret_files import GENERIC, SecretFiles
from caliban.images.spec import BuildSpec
from caliban.records import ImageRef
from caliban.redaction import clean_text, exception_text, strip_userinfo
from caliban.reporter import Reporter
from caliban.threads import within

if TYPE_CHECKING:
    import docker
    import requests

    from caliban.images.context_stream import Observer

_T = TypeVar("_T")

CONNECT_SECONDS = 20.0
"""How long an engine has to tell its version."""

ANSWER_SECONDS = 60.0
"""How long an engine has to answer a request; a busy one needs half a minute to list its containers."""

_PIECE = 1 << 16


def _say_nothing(line: str) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Engine:
    """A connection to a Docker Engine.

    Attributes:
        client: docker-py's client.
        host: its endpoint, for messages, without a password.
        environ: the environment variables that name it.
        secret_files: which files never go into an image.
        clock: the time, and waiting.
        on_slow: called with a line for the user when the engine takes long.
    """

    client: docker.DockerClient
    host: str
    environ: Mapping[str, str] = field(repr=False)
    secret_files: SecretFiles = field(default=GENERIC, repr=False)
    clock: Clock = field(default_factory=SystemClock, repr=False)
    on_slow: Callable[[str], None] = field(default=_say_nothing, repr=False)

    @classmethod
    def connect(
        cls,
        environ: Mapping[str, str],
        secret_files: SecretFiles = GENERIC,
        *,
        clock: Clock | None = None,
        on_slow: Callable[[str], None] = _say_nothing,
    ) -> Engine:
        """Connect to the engine of DOCKER_HOST (DOCKER_TLS_VERIFY, DOCKER_CERT_PATH), or of the current docker context.

        Args:
            environ: the environment variables.
            secret_files: which files never go into an image.
            clock: the time, and waiting; None for that of this machine.
            on_slow: called with a line for the user when the engine takes long.

        Raises:
            ImageError: ``docker-unreachable``, ``docker-config-malformed``, ``docker-context-missing``.
        """
        import docker.errors

        endpoint = find_endpoint(environ)
        host = strip_userinfo(endpoint.host or "") or DEFAULT_SOCKET
        if endpoint.context:
            host += f" (docker context {endpoint.context})"
        config = docker_config_dir(environ) / "config.json"
        clock = clock or SystemClock()
        try:
            client = within(
                CONNECT_SECONDS,
                lambda: connected_client(endpoint, environ),
                clock,
                lambda: on_slow(_slow_line(host, CONNECT_SECONDS)),
            )
        except DeadlineExceededError as error:
            raise unreachable(error, host) from None
        except docker.errors.InvalidConfigFile as error:
            raise malformed(config, str(error)) from error
        except (docker.errors.DockerException, OSError) as error:
            # from None: docker-py's message may contain DOCKER_HOST with its password.
            raise unreachable(error, host, environ) from None
        except Exception as error:  # noqa: BLE001 - docker-py read a value of the wrong type
            raise _odd_value(error, endpoint, environ, host) from None
        client.api.hooks["response"].append(_read_bounded)
        give_streams_connections(client.api)
        return cls(client, host, environ, secret_files, clock, on_slow)

    def ask(self, request: Callable[[docker.APIClient], _T], *, seconds: float = ANSWER_SECONDS) -> _T:
        """Return what docker-py returns for a request, at its deadline at the latest.

        Args:
            request: makes the request.
            seconds: the deadline.

        Raises:
            DeadlineExceededError: the engine has not answered; it may still do what was requested.
            Exception: whatever docker-py raises.
        """
        return self.within(seconds, lambda: request(self.client.api), _slow_line(self.host, seconds))

    def within(self, seconds: float, call: Callable[[], _T], slow_line: str) -> _T:
        """Return ``call()``; see :func:`caliban.threads.within`."""
        return within(seconds, call, self.clock, lambda: self.on_slow(slow_line))

    def identity(self) -> EngineIdentity:
        """Return which engine this is.

        Raises:
            ImageError: ``docker-unreachable``, ``docker-refused``, ``docker-answer-malformed``.
        """
        with self.translate_errors():
            return engine_identity(self.ask(lambda api: api.info()))

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def build(
        self,
        spec: BuildSpec,
        user: BuildUser,
        reporter: Reporter,
        *,
        no_cache: bool = False,
        observer: Observer | None = None,
    ) -> ImageRef:
        """Build an image. The same spec, files and user result in the same image, from the cache.

        Ctrl-C closes the connection, and the engine stops building.

        Args:
            spec: what is built.
            user: as whom the code runs.
            reporter: gets progress and warnings.
            no_cache: build every layer again.
            observer: sees the build context as it is sent.

        Returns:
            ``sha256:...``.

        Raises:
            ImageError: ``base-image-unavailable``, ``build-step-failed``, ``disk-full``, ``build-refused``,
                ``emulation-missing``, ``image-platform-wrong``,
                ``docker-unreachable``, ``docker-stalled``, or what
                :func:`caliban.images.context.collect` raises.
        """
        from caliban.images.docker.build import build_image
        from caliban.images.docker.emulation import checked_emulation

        with checked_emulation(self, spec, reporter) as check:
            without_cache = no_cache or spec.no_cache
            image = build_image(self, spec, user, reporter, no_cache=without_cache, observer=observer)
            check(image)
        return image

    def image_exists(self, ref: ImageRef) -> bool:
        """Return whether the engine has an image.

        Raises:
            ImageError: ``docker-unreachable``, ``docker-refused``.
        """
        import docker.errors

        with self.translate_errors():
            try:
                self.ask(lambda _: self.client.images.get(ref))
            except docker.errors.ImageNotFound:
                return False
            return True

    def image_entrypoint(self, ref: ImageRef) -> list[str] | None:
        """Return what containers of an image run, as far as it says that; None where the engine does not have it.

        Raises:
            ImageError: ``docker-unreachable``, ``docker-refused``.
        """
        import docker.errors

        with self.translate_errors():
            try:
                config = self.ask(lambda _: self.client.images.get(ref)).attrs.get("Config")
            except docker.errors.ImageNotFound:
                return None
        config = config if isinstance(config, Mapping) else {}
        parts = (config.get("Entrypoint"), config.get("Cmd"))
        return [str(word) for part in parts if isinstance(part, list) for word in part]

    def image_id(self, ref: ImageRef) -> ImageRef:
        """Return the id of an image, ``sha256:...``.

        Raises:
            ImageError: ``image-not-found``, ``docker-unreachable``, ``docker-refused``.
        """
        import docker.errors

        with self.translate_errors():
            try:
                return str(self.ask(lambda _: self.client.images.get(ref)).id)
            except docker.errors.ImageNotFound as error:
                raise ImageError(
                    "image-not-found",
                    f"image not found: {ref}",
                    cause=error.explanation,
                    hint=f"run: docker pull {ref}, or build the image",
                ) from error

    @contextmanager
    def responses(self) -> Iterator[list[requests.Response]]:
        """Collect the responses that arrive meanwhile: they have to be closed, and docker-py does not return them."""
        responses: list[requests.Response] = []

        def keep(response: requests.Response, *_: object, **__: object) -> None:
            responses.append(response)

        hooks = self.client.api.hooks["response"]
        hooks.append(keep)
        try:
            yield responses
        finally:
            hooks.remove(keep)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Translate the errors of docker-py and of the connection.

        Raises:
            ImageError: ``docker-unreachable``, ``docker-refused``, ``docker-answer-malformed``.
        """
        import docker.errors
        import requests
        import urllib3.exceptions

        try:
            yield
        except docker.errors.APIError as error:
            raise ImageError(
                "docker-refused",
                "the Docker Engine rejected a request",
                cause=clean_text(str(error.explanation or error)),
                hint="for details, check the engine's log: journalctl -u docker",
            ) from error
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            docker.errors.DockerException,
            docker.errors.StreamParseError,
            DeadlineExceededError,
        ) as error:
            raise unreachable(error, self.host) from error
        except TooLargeError as error:
            raise unexpected_answer(error, self.host) from error
        except (CalibanError, OSError):
            raise
        except Exception as error:  # docker-py raises anything where it reads an odd answer, Exception itself too
            raise unexpected_answer(error, self.host) from error


def unexpected_answer(error: Exception, host: str) -> ImageError:
    """Return the error for an answer that no Docker Engine gives: something else listens there, or a proxy replied."""
    return ImageError(
        "docker-answer-malformed",
        f"unexpected answer of the Docker daemon at {host}",
        cause=exception_text(error),
        hint="check that a Docker Engine listens there (docker version), and the value of DOCKER_HOST",
    )


def _read_bounded(response: requests.Response, *_: object, **how: object) -> None:
    """Read an answer with a limit of its size, which requests would read whole; streams are left alone."""
    if how.get("stream"):
        return
    try:
        response._content = read_limited(response.iter_content(_PIECE))
    except BaseException:  # Ctrl-C, too
        response.close()  # the rest of the answer is not wanted
        raise


def _odd_value(error: Exception, endpoint: Endpoint, environ: Mapping[str, str], host: str) -> ImageError:
    """Return the error for a value that docker-py cannot read: in DOCKER_HOST, its configuration or the answer."""
    import docker.utils

    try:
        docker.utils.parse_host(endpoint.host)
    except Exception as invalid:  # noqa: BLE001 - it raises whatever the parts of a URL raise
        return unreachable(invalid, host)
    try:
        unconnected_client(endpoint, environ).close()
    except Exception as invalid:  # noqa: BLE001 - docker-py read a value of the wrong type in a file
        # These messages contain no value.
        config = docker_config_dir(environ) / "config.json"
        return malformed(config, f"{type(invalid).__name__}: {exception_text(invalid)}")
    return unexpected_answer(error, host)


def _slow_line(host: str, seconds: float) -> str:
    return f"waiting for an answer of the Docker daemon at {host} (for up to {seconds:.0f} s) ..."
