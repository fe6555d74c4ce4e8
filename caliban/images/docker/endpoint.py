"""Where the Docker Engine is: DOCKER_HOST, or else docker's current context. TLS to it is always verified.

docker-py has a way of its own to find this out. It verifies nothing where DOCKER_CERT_PATH stands alone or a context
does not ask for it, goes to the default socket where a context is not there, and raises errors of any kind over a
malformed file; so only the connection is left to it.

Sources: https://docs.docker.com/reference/cli/docker/#environment-variables, and for the files of contexts
https://github.com/docker/cli/blob/master/cli/context/store/store.go.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from caliban.errors import ImageError
from caliban.records import JsonObject

DEFAULT = "default"
"""The context that stands for the default socket."""


@dataclass(frozen=True)
class EngineAddress:
    """Where an engine is.

    Attributes:
        host: as DOCKER_HOST has it; None for the default socket. May hold a password.
        certificates: the folder with ``cert.pem``, ``key.pem`` and ``ca.pem``; None where TLS is not used.
        context: the name of docker's context that says so, or None.
    """

    host: str | None = field(repr=False)
    certificates: Path | None = None
    context: str | None = None


def find_engine(environ: Mapping[str, str]) -> EngineAddress:
    """Find the engine as the docker client does: DOCKER_HOST, then DOCKER_CONTEXT, then the current context.

    Raises:
        ImageError: ``docker-config-malformed``, ``docker-context-missing``.
    """
    folder = docker_folder(environ)
    config = _read(folder / "config.json") if _is_there(folder / "config.json") else {}
    if host := environ.get("DOCKER_HOST"):
        path = environ.get("DOCKER_CERT_PATH")
        wants_tls = bool(path or environ.get("DOCKER_TLS_VERIFY"))
        return EngineAddress(host, Path(path) if path else folder if wants_tls else None)
    name = environ.get("DOCKER_CONTEXT") or config.get("currentContext") or DEFAULT
    if not isinstance(name, str):
        raise malformed(folder / "config.json", "currentContext is not the name of a context")
    return EngineAddress(None) if name == DEFAULT else _of_context(name, folder)


def docker_folder(environ: Mapping[str, str]) -> Path:
    """The folder of docker's own configuration: DOCKER_CONFIG, or else ``~/.docker``."""
    given = environ.get("DOCKER_CONFIG")
    return Path(given) if given else Path.home() / ".docker"


def malformed(path: Path, cause: str) -> ImageError:
    """Say that a file of docker's configuration is not one."""
    return ImageError(
        "docker-config-malformed",
        f"Docker is not asked: its configuration {path} cannot be understood",
        cause=cause,
        hint="correct the file; or move it away, and make it anew with `docker login` or `docker context create`",
    )


def _of_context(name: str, folder: Path) -> EngineAddress:
    key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    path = folder / "contexts" / "meta" / key / "meta.json"
    if not _is_there(path):
        raise ImageError(
            "docker-context-missing",
            f"Docker is not asked: there is no docker context {name}",
            cause=f"{path} is not there",
            hint="`docker context ls` shows those there are; `docker context use`, or DOCKER_CONTEXT, names one",
        )
    endpoints = _read(path).get("Endpoints")
    endpoint = endpoints.get("docker") if isinstance(endpoints, Mapping) else None
    host = endpoint.get("Host") if isinstance(endpoint, Mapping) else None
    if not isinstance(host, str) or not host:
        raise malformed(path, "it has no Endpoints.docker.Host")
    certificates = folder / "contexts" / "tls" / key / "docker"
    return EngineAddress(host, certificates if certificates.is_dir() else None, name)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder that may not be searched: as after `su` with $HOME kept, where docker sees none either
        return False


def _read(path: Path) -> JsonObject:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise malformed(path, str(error)) from error
    if not isinstance(content, dict):
        raise malformed(path, "it is not a JSON object")
    return content
