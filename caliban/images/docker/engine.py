"""Connect to the Docker Engine and build images. docker-py is imported with the first connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, cast

from caliban.errors import ImageError
from caliban.images.context import BuildContext, collect
from caliban.images.docker.build_log import BuildLog
from caliban.images.docker.endpoint import DEFAULT_SOCKET, Endpoint, docker_config_dir, find_endpoint, malformed
from caliban.images.dockerfile import DOCKERFILE, BuildUser, dockerfile, instructions
from caliban.images.secret_files import GENERIC, SecretFiles
from caliban.images.spec import BuildSpec
from caliban.records import ImageRef
from caliban.redaction import strip_userinfo
from caliban.reporter import Reporter

if TYPE_CHECKING:
    import docker
    import requests
    from docker.tls import TLSConfig

LABELS = {"caliban": "image"}
"""The labels of images that caliban builds: ``docker images --filter label=caliban``."""


@dataclass(frozen=True)
class Engine:
    """A connection to a Docker Engine.

    Attributes:
        client: docker-py's client.
        host: its endpoint, for messages, without a password.
        environ: the environment variables that name it.
        secret_files: which files never go into an image.
    """

    client: docker.DockerClient
    host: str
    environ: Mapping[str, str] = field(repr=False)
    secret_files: SecretFiles = field(default=GENERIC, repr=False)

    @classmethod
    def connect(cls, environ: Mapping[str, str], secret_files: SecretFiles = GENERIC) -> Engine:
        """Connect to the engine of DOCKER_HOST (DOCKER_TLS_VERIFY, DOCKER_CERT_PATH), or of the current docker context.

        Args:
            environ: the environment variables.
            secret_files: which files never go into an image.

        Raises:
            ImageError: ``docker-unreachable``, ``docker-config-malformed``, ``docker-context-missing``.
        """
        import docker
        import docker.errors

        endpoint = find_endpoint(environ)
        host = strip_userinfo(endpoint.host or "") or DEFAULT_SOCKET
        if endpoint.context:
            host += f" (docker context {endpoint.context})"
        config = docker_config_dir(environ) / "config.json"
        try:
            client = docker.DockerClient(endpoint.host, tls=_tls(endpoint))
        except docker.errors.InvalidConfigFile as error:
            raise malformed(config, str(error)) from error
        except (docker.errors.DockerException, OSError) as error:
            # from None: docker-py's message may contain DOCKER_HOST with its password.
            raise unreachable(error, host) from None
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            # docker-py read a value of the wrong type in a file; these messages contain no value.
            raise malformed(config, f"{type(error).__name__}: {error}") from error
        return cls(client, host, environ, secret_files)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def build(self, spec: BuildSpec, user: BuildUser, reporter: Reporter, *, no_cache: bool = False) -> ImageRef:
        """Build an image. The same spec, files and user result in the same image, from the cache.

        Ctrl-C closes the connection, and the engine stops building.

        Returns:
            ``sha256:...``.

        Raises:
            ImageError: ``base-image-unavailable``, ``build-step-failed``, ``disk-full``, ``build-refused``,
                ``docker-unreachable``, or what :func:`caliban.images.context.collect` raises.
        """
        steps = instructions(spec, user)
        context = collect(spec, dockerfile(spec, user), self.environ, self.secret_files)
        for warning in context.warnings():
            reporter.warn(warning)
        with self.translate_errors(), self.responses() as responses:
            try:
                events = self._send(context, reporter, no_cache=no_cache or spec.no_cache)
                # The last step is the engine's own: it adds the labels.
                with reporter.progress("build", total=len(steps) + 1, unit="step") as progress:
                    log = BuildLog(steps, reporter, progress)
                    for event in events:
                        log.feed(event)
            finally:
                for response in responses:
                    response.close()
            if log.image is None:
                raise unreachable(ConnectionError("the response ended before the build did"), self.host)
            return self.image_id(log.image)

    def image_exists(self, ref: ImageRef) -> bool:
        """Return whether the engine has an image.

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
        """Return the id of an image, ``sha256:...``.

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
                    f"image not found: {ref}",
                    cause=error.explanation,
                    hint=f"run: docker pull {ref}, or build the image",
                ) from error

    def _send(self, context: BuildContext, reporter: Reporter, *, no_cache: bool) -> Iterable[dict[str, Any]]:
        """Send the context, and return the events of the build, which start when all of it has arrived."""
        with reporter.progress("build context", total=context.size, unit="B") as progress:
            return self.client.api.build(
                # docker-py passes this on to requests, which sends an iterator in chunks.
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
                "the Docker Engine rejected a request",
                cause=str(error.explanation or error),
                hint="for details, check the engine's log: journalctl -u docker",
            ) from error
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            docker.errors.DockerException,
            docker.errors.StreamParseError,
        ) as error:
            raise unreachable(error, self.host) from error


def _tls(endpoint: Endpoint) -> TLSConfig | bool:
    """Return the TLS settings, False without TLS. Certificates are verified, whatever a context says.

    Raises:
        docker.errors.TLSParameterError: a certificate or its key is missing.
    """
    from docker.tls import TLSConfig

    class OwnCertificateAuthority(TLSConfig):
        """TLS with the given certificate authority, which $REQUESTS_CA_BUNDLE would replace otherwise."""

        def configure_client(self, client: docker.APIClient) -> None:
            super().configure_client(client)
            client.trust_env = self.ca_cert is None

    if endpoint.certificates is None:
        return False
    certificate, key, authority = (endpoint.certificates / name for name in ("cert.pem", "key.pem", "ca.pem"))
    return OwnCertificateAuthority(
        # An engine may require no client certificate; an empty directory is a mistake, which docker-py reports.
        # Without ca.pem, the certificate authorities that this machine trusts are used.
        client_cert=None if authority.exists() and not certificate.exists() else (str(certificate), str(key)),
        ca_cert=str(authority) if authority.exists() else None,
        verify=True,
    )


def unreachable(error: BaseException, host: str) -> ImageError:
    """Return the error for an engine that cannot be reached, with a hint that fits the cause.

    Args:
        error: what docker-py or the connection raised.
        host: the engine's endpoint.
    """
    reason = _first_cause(error)
    hint = "check that Docker runs (docker info), and the value of DOCKER_HOST"
    if isinstance(reason, PermissionError):
        hint = "join the group docker, then log in again: sudo usermod -aG docker $USER"
    elif isinstance(reason, FileNotFoundError | ConnectionRefusedError):
        hint = "start Docker, or set DOCKER_HOST"
    if "certificate verify failed" in str(error):
        hint = (
            "certificates are always verified, whatever a docker context says: check that ca.pem in DOCKER_CERT_PATH, "
            "or in the context, belongs to the certificate authority that signed the engine's certificate"
        )
    words = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    return ImageError(
        "docker-unreachable", f"cannot reach the Docker daemon at {host}", cause=strip_userinfo(words), hint=hint
    )


def _first_cause(error: BaseException) -> BaseException:
    """Return the error of the operating system below what requests and urllib3 wrap around it."""
    seen = error
    while (below := seen.__cause__ or seen.__context__) is not None:
        seen = below
        if isinstance(seen, PermissionError | FileNotFoundError | ConnectionRefusedError):
            return seen
    return error
