"""The Docker Engine: reaching it, and having images built. docker-py is imported when an engine is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, cast

from caliban.errors import ImageError
from caliban.images.context import BuildContext, collect
from caliban.images.docker.build_log import BuildLog
from caliban.images.docker.endpoint import EngineAddress, docker_folder, find_engine, malformed
from caliban.images.dockerfile import DOCKERFILE, BuildUser, dockerfile, instructions
from caliban.images.spec import BuildSpec
from caliban.records import ImageRef
from caliban.redaction import strip_userinfo
from caliban.reporter import Reporter

if TYPE_CHECKING:
    import docker
    import requests
    from docker.tls import TLSConfig

LABELS = {"caliban": "image"}
"""What images of ours carry, so that they can be told from others: ``docker images --filter label=caliban``."""


@dataclass(frozen=True)
class Engine:
    """A Docker Engine that answers.

    Attributes:
        client: docker-py's client.
        host: where it is, for messages; without a password.
        environ: the environment that it was found by.
    """

    client: docker.DockerClient
    host: str
    environ: Mapping[str, str] = field(repr=False)

    @classmethod
    def connect(cls, environ: Mapping[str, str]) -> Engine:
        """Reach the engine of DOCKER_HOST (DOCKER_TLS_VERIFY, DOCKER_CERT_PATH), or else of docker's current context.

        Raises:
            ImageError: ``docker-unreachable``, ``docker-config-malformed``, ``docker-context-missing``.
        """
        import docker
        import docker.errors

        address = find_engine(environ)
        host = strip_userinfo(address.host or "") or "the default socket"
        if address.context:
            host += f" (docker context {address.context})"
        config = docker_folder(environ) / "config.json"
        try:
            client = docker.DockerClient(address.host, tls=_tls(address))
        except docker.errors.InvalidConfigFile as error:
            raise malformed(config, str(error)) from error
        except (docker.errors.DockerException, OSError) as error:
            # from None: docker-py's words, which may hold DOCKER_HOST with its password, are the cause, without it.
            raise unreachable(error, host) from None
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            # What docker-py makes of a file whose values are of the wrong kind; none of these shows a value.
            raise malformed(config, f"{type(error).__name__}: {error}") from error
        return cls(client, host, environ)

    def close(self) -> None:
        """Give back the connections."""
        self.client.close()

    def build(self, spec: BuildSpec, user: BuildUser, reporter: Reporter, *, no_cache: bool = False) -> ImageRef:
        """Build an image; the same spec, files and user give the same image from the cache.

        Ctrl-C closes the connection, upon which the engine stops building.

        Returns:
            ``sha256:...``.

        Raises:
            ImageError: ``base-image-unavailable``, ``build-step-failed``, ``disk-full``, ``build-refused``,
                ``docker-unreachable``, or what :func:`caliban.images.context.collect` finds wrong.
        """
        steps = instructions(spec, user)
        context = collect(spec, dockerfile(spec, user), self.environ)
        for warning in context.warnings():
            reporter.warn(warning)
        with self.translate_errors(), self.responses() as responses:
            try:
                events = self._send(context, reporter, no_cache=no_cache or spec.no_cache)
                # One step more: the engine adds the labels at the end.
                with reporter.progress("build", total=len(steps) + 1, unit="step") as progress:
                    log = BuildLog(steps, reporter, progress)
                    for event in events:
                        log.feed(event)
            finally:
                for response in responses:
                    response.close()
            if log.image is None:
                raise unreachable(ConnectionError("the engine's answer ended before the build did"), self.host)
            return self.image_id(log.image)

    def image_exists(self, ref: ImageRef) -> bool:
        """Tell whether the engine has this image already.

        Raises:
            ImageError: ``docker-unreachable``, ``docker-refused``.
        """
        import docker.errors

        with self.translate_errors():
            try:
                self.client.images.get(ref)
            except docker.errors.ImageNotFound:
                return False
            return True

    def image_id(self, ref: ImageRef) -> ImageRef:
        """Look up ``sha256:...`` of an image that the engine has.

        Raises:
            ImageError: ``image-not-found``, ``docker-unreachable``, ``docker-refused``.
        """
        import docker.errors

        with self.translate_errors():
            try:
                return str(self.client.images.get(ref).id)
            except docker.errors.ImageNotFound as error:
                raise ImageError(
                    "image-not-found",
                    f"the Docker Engine has no image {ref}",
                    cause=error.explanation,
                    hint=f"get it with `docker pull {ref}`, or build it",
                ) from error

    def _send(self, context: BuildContext, reporter: Reporter, *, no_cache: bool) -> Iterable[dict[str, Any]]:
        """Send the context; the answer starts when all of it is there."""
        with reporter.progress("build context", total=context.size, unit="B") as progress:
            return self.client.api.build(
                # docker-py hands this to requests as it is, which sends an iterator in chunks.
                fileobj=cast("IO[bytes]", context.stream(progress.advance)),
                custom_context=True,
                dockerfile=DOCKERFILE,
                decode=True,
                rm=True,
                forcerm=True,
                nocache=no_cache,
                labels=LABELS,
            )

    @contextmanager
    def responses(self) -> Iterator[list[requests.Response]]:
        """Collect the responses that arrive meanwhile: docker-py keeps them to itself, and they have to be closed."""
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
        """Turn docker-py's and the connection's errors into ours.

        Raises:
            ImageError: ``docker-unreachable``, ``docker-refused``.
        """
        import docker.errors
        import requests
        import urllib3.exceptions

        try:
            yield
        except docker.errors.APIError as error:
            raise ImageError(
                "docker-refused",
                "the Docker Engine refused a request",
                cause=str(error.explanation or error),
                hint="the engine's own log tells more, as a rule: `journalctl -u docker`",
            ) from error
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            docker.errors.DockerException,
            docker.errors.StreamParseError,
        ) as error:
            raise unreachable(error, self.host) from error


def _tls(address: EngineAddress) -> TLSConfig | bool:
    """Say how to speak TLS, if at all: verified, whatever a context says.

    Raises:
        docker.errors.TLSParameterError: a certificate or its key is not there.
    """
    from docker.tls import TLSConfig

    class GivenAuthority(TLSConfig):
        """TLS by the authority that the person named: $REQUESTS_CA_BUNDLE would take its place."""

        def configure_client(self, client: docker.APIClient) -> None:
            super().configure_client(client)
            client.trust_env = self.ca_cert is None

    if address.certificates is None:
        return False
    certificate, key, authority = (address.certificates / name for name in ("cert.pem", "key.pem", "ca.pem"))
    return GivenAuthority(
        # An engine may ask for no certificate of ours; a folder with nothing at all in it is a mistake, which docker-py
        # tells. Without an authority of its own, those that this machine trusts count.
        client_cert=None if authority.exists() and not certificate.exists() else (str(certificate), str(key)),
        ca_cert=str(authority) if authority.exists() else None,
        verify=True,
    )


def unreachable(error: BaseException, host: str) -> ImageError:
    """Say why the engine does not answer, and what to do about it.

    Args:
        error: what docker-py or the connection raised.
        host: where the engine should be.
    """
    reason = _first_cause(error)
    hint = "see that Docker runs (`docker info`), and that DOCKER_HOST, where it is set, names it"
    if isinstance(reason, PermissionError):
        hint = (
            "you may not use Docker's socket: join the group docker (`sudo usermod -aG docker $USER`), then log in anew"
        )
    elif isinstance(reason, FileNotFoundError | ConnectionRefusedError):
        hint = (
            "start Docker: `sudo systemctl start docker`, or Docker Desktop"
            if host == "the default socket"
            else "start Docker there, or correct DOCKER_HOST (unset: the default socket)"
        )
    if "certificate verify failed" in str(error):
        hint = (
            "certificates are always verified, whatever a docker context says: see that ca.pem in DOCKER_CERT_PATH, or "
            "in the context, is of the authority that signed the engine's certificate"
        )
    words = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    return ImageError("docker-unreachable", f"Docker does not answer at {host}", cause=strip_userinfo(words), hint=hint)


def _first_cause(error: BaseException) -> BaseException:
    """Find the operating system's word at the bottom of what requests and urllib3 wrap around it."""
    seen = error
    while (below := seen.__cause__ or seen.__context__) is not None:
        seen = below
        if isinstance(seen, PermissionError | FileNotFoundError | ConnectionRefusedError):
            return seen
    return error
