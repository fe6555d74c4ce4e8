"""Find the endpoint of the Docker daemon: DOCKER_HOST, or the current docker context. TLS is always verified.

docker-py's own lookup is not used: it does not verify certificates where only DOCKER_CERT_PATH is set or a context
does not require it, falls back to the default socket where a context is missing, and raises any exception for a
malformed file.

Sources: https://docs.docker.com/reference/cli/docker/#environment-variables, and for the files of contexts
https://github.com/docker/cli/blob/master/cli/context/store/store.go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from caliban.bounded import parse_json
from caliban.errors import ImageError
from caliban.input_files import InputFileError, read_bytes
from caliban.records import JsonObject
from caliban.redaction import exception_text
from caliban.urls import is_loopback

DEFAULT = "default"
"""The name of the context that means the default socket."""

_NETWORK = frozenset({"tcp", "http", "https"})

DEFAULT_SOCKET = "unix:///var/run/docker.sock"


@dataclass(frozen=True)
class Endpoint:
    """The endpoint of a Docker daemon.

    Attributes:
        host: in the format of DOCKER_HOST; None for the default socket. May contain a password.
        certificates: the directory with ``cert.pem``, ``key.pem`` and ``ca.pem``; None without TLS.
        context: the name of the docker context that defines it, or None.
    """

    host: str | None = field(repr=False)
    certificates: Path | None = None
    context: str | None = None

    @property
    def is_ssh(self) -> bool:
        """Whether it is reached through ssh."""
        return (self.host or "").startswith("ssh://")

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is on another machine, which has files of its own."""
        if self.is_ssh:
            return True
        host = self.host or DEFAULT_SOCKET
        try:
            parts = urlsplit(host if "://" in host else f"tcp://{host}")
        except ValueError:
            return False
        return parts.scheme in _NETWORK and not is_loopback(parts.hostname or "localhost")


def find_endpoint(environ: Mapping[str, str]) -> Endpoint:
    """Find the endpoint as the docker client does: DOCKER_HOST, then DOCKER_CONTEXT, then the current context.

    Raises:
        ImageError: ``docker-config-malformed``, ``docker-context-missing``.
    """
    directory = docker_config_dir(environ)
    config = _read(directory / "config.json") if _exists(directory / "config.json") else {}
    if host := environ.get("DOCKER_HOST"):
        path = environ.get("DOCKER_CERT_PATH")
        wants_tls = bool(path or environ.get("DOCKER_TLS_VERIFY"))
        return Endpoint(host, Path(path) if path else directory if wants_tls else None)
    name = environ.get("DOCKER_CONTEXT") or config.get("currentContext") or DEFAULT
    if not isinstance(name, str):
        raise malformed(directory / "config.json", "currentContext is not a string")
    return Endpoint(None) if name == DEFAULT else _of_context(name, directory)


def contexts_by_host(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the names of the docker contexts by their ``Host``; those that cannot be read are left out."""
    found: dict[str, str] = {}
    try:
        paths = sorted((docker_config_dir(environ) / "contexts" / "meta").glob("*/meta.json"))
    except OSError:
        return found
    for path in paths:
        try:
            content = _read(path)
            name, host = content.get("Name"), _host(content)
        except ImageError:
            continue
        if isinstance(name, str) and host is not None:
            found.setdefault(host, name)
    return found


def is_engine_here(environ: Mapping[str, str]) -> bool:
    """Return whether the engine listens at a Unix socket: it sees the same files then, unless this is a container."""
    try:
        host = find_endpoint(environ).host
    except ImageError:  # raised again by whoever connects to it
        return False
    return host is None or host.startswith("unix://")


def docker_config_dir(environ: Mapping[str, str]) -> Path:
    """Return the directory of docker's own configuration: DOCKER_CONFIG, or ``~/.docker``."""
    given = environ.get("DOCKER_CONFIG")
    return Path(given) if given else Path.home() / ".docker"


def malformed(path: Path, cause: str) -> ImageError:
    """Return the error for a malformed file of docker's configuration."""
    return ImageError(
        "docker-config-malformed",
        f"invalid Docker configuration: {path}",
        cause=cause,
        hint="correct the file, or delete it and create it again with: docker login, docker context create",
    )


def _of_context(name: str, directory: Path) -> Endpoint:
    key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    path = directory / "contexts" / "meta" / key / "meta.json"
    if not _exists(path):
        raise ImageError(
            "docker-context-missing",
            f"docker context not found: {name}",
            cause=f"file not found: {path}",
            hint="list contexts with: docker context ls; choose one with: docker context use, or DOCKER_CONTEXT",
        )
    host = _host(_read(path))
    if host is None:
        raise malformed(path, "Endpoints.docker.Host is missing")
    certificates = directory / "contexts" / "tls" / key / "docker"
    return Endpoint(host, certificates if certificates.is_dir() else None, name)


def _host(content: JsonObject) -> str | None:
    endpoints = content.get("Endpoints")
    endpoint = endpoints.get("docker") if isinstance(endpoints, Mapping) else None
    host = endpoint.get("Host") if isinstance(endpoint, Mapping) else None
    return host if isinstance(host, str) and host else None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # not searchable, as after `su` with $HOME kept: docker finds none there either
        return False


def _read(path: Path) -> JsonObject:
    try:
        content = parse_json(read_bytes(path))
    except InputFileError as error:
        raise malformed(path, error.cause or error.message) from error
    except (OSError, ValueError) as error:
        raise malformed(path, exception_text(error)) from error
    if not isinstance(content, dict):
        raise malformed(path, "not a JSON object")
    return content
