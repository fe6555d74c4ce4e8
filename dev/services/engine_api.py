"""The few questions that the scripts ask of a Docker Engine, without its client.

A machine may have an engine and no ``docker`` program, and docker-py is not there before the virtual environment.
Paths and answers: https://docs.docker.com/reference/api/engine/
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

from services.shell import Failure

DEFAULT_SOCKET = "unix:///var/run/docker.sock"
_NOT_FOUND, _CONFLICT = 404, 409


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class EngineApi:
    """One engine.

    Args:
        address: as in DOCKER_HOST: ``unix:///path`` or ``tcp://host:port``; DOCKER_TLS_VERIFY and DOCKER_CERT_PATH
            count for the latter.

    Raises:
        Failure: no such address can be used here (``ssh://`` for one).
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._parts = urlsplit(address)
        if self._parts.scheme not in ("unix", "tcp", "http", "https"):
            raise Failure(
                f"DOCKER_HOST is {address}: these scripts know unix:// and tcp:// only",
                "forward the engine's socket to this machine and name it as unix:///path",
            )

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self._parts.scheme == "unix":
            return _UnixConnection(self._parts.path, timeout)
        host, port = self._parts.hostname or "localhost", self._parts.port
        certificates = os.environ.get("DOCKER_CERT_PATH") or str(Path.home() / ".docker")
        if self._parts.scheme == "https" or os.environ.get("DOCKER_TLS_VERIFY"):
            context = ssl.create_default_context(cafile=f"{certificates}/ca.pem")
            context.load_cert_chain(f"{certificates}/cert.pem", f"{certificates}/key.pem")
            return http.client.HTTPSConnection(host, port or 2376, timeout=timeout, context=context)
        return http.client.HTTPConnection(host, port or 2375, timeout=timeout)

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | Sequence[str]] | None = None,
        *,
        body: bytes | IO[bytes] | None = None,
        size: int = 0,
        timeout: float = 60,
    ) -> bytes:
        """Ask, and give the whole answer.

        Args:
            method: GET, POST or DELETE.
            path: without a version: the engine's newest is taken.
            query: parameters; a sequence becomes a repeated one.
            body: a tar archive, or None.
            size: of the body in bytes.
            timeout: seconds without a word from the engine.

        Raises:
            OSError: nobody answers.
            Failure: the engine says no (status of 400 and above, or an ``error`` in a stream of JSON lines). Its
                ``status`` attribute has the number.
        """
        connection = self._connect(timeout)
        try:
            headers = {"Content-Type": "application/x-tar", "Content-Length": str(size)} if body is not None else {}
            target = f"{path}?{urlencode(query, doseq=True)}" if query else path
            connection.request(method, target, body=body, headers=headers)
            response = connection.getresponse()
            answer = response.read()
        except http.client.HTTPException as error:
            raise OSError(f"{self.address} does not speak like an engine: {error!r}") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise EngineRefusal(response.status, _message(answer))
        return answer

    def answers(self) -> str | None:
        """Say why the engine cannot be used; None when it answers."""
        try:
            self.request("GET", "/_ping", timeout=5)
        except (OSError, EngineRefusal) as error:
            return str(error)
        return None

    def version(self) -> str:
        """Return the engine's version, for people: ``29.1 (API 1.52)``."""
        found = json.loads(self.request("GET", "/version"))
        return f"{found['Version']} (API {found['ApiVersion']})"

    def has_image(self, name: str) -> bool:
        """Say whether the engine has an image of that name."""
        try:
            self.request("GET", f"/images/{quote(name)}/json")
        except EngineRefusal as refusal:
            if refusal.status == _NOT_FOUND:
                return False
            raise
        return True

    def import_image(self, tar: Path, repository: str, tag: str, changes: Sequence[str]) -> None:
        """Make an image of one layer from an archive of a root file system."""
        query = {"fromSrc": "-", "repo": repository, "tag": tag, "changes": changes}
        with tar.open("rb") as body:
            lines = self.request("POST", "/images/create", query, body=body, size=tar.stat().st_size, timeout=300)
        _check_stream(lines)

    def pull(self, name: str, *, patience: float) -> None:
        """Pull an image; the registry may be silent for ``patience`` seconds at most."""
        repository, _, tag = name.rpartition(":")
        _check_stream(self.request("POST", "/images/create", {"fromImage": repository, "tag": tag}, timeout=patience))

    def build(self, context: bytes, name: str) -> None:
        """Build an image from a tar archive with a Dockerfile in it."""
        query = {"t": name, "rm": "1", "forcerm": "1"}
        _check_stream(self.request("POST", "/build", query, body=context, size=len(context), timeout=300))

    def containers(self, label: str) -> list[str]:
        """Give the ids of all containers with a label (``name=value``), running or not."""
        query = {"all": "1", "filters": json.dumps({"label": [label]})}
        return [str(found["Id"]) for found in self._list("/containers/json", query)]

    def images(self, label: str) -> dict[str, list[str]]:
        """Give the images with a label that are no mere step of another one: id -> names."""
        query = {"filters": json.dumps({"label": [label]})}
        return {str(found["Id"]): list(found["RepoTags"] or ()) for found in self._list("/images/json", query)}

    def containers_of_image(self, image: str) -> list[str]:
        """Give the ids of all containers that were made from an image, running or not."""
        query = {"all": "1", "filters": json.dumps({"ancestor": [image]})}
        return [str(found["Id"]) for found in self._list("/containers/json", query)]

    def _list(self, path: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.request("GET", path, query))
        return found

    def remove_container(self, identifier: str) -> bool:
        """Stop and remove a container; False when somebody else is at it or has done it."""
        return self._remove(f"/containers/{identifier}", {"force": "1", "v": "1"})

    def remove_image(self, name: str) -> bool:
        """Remove an image by name or id, all its names with it; False when it is in use or gone."""
        return self._remove(f"/images/{quote(name)}", {"force": "1"})

    def _remove(self, path: str, query: Mapping[str, str]) -> bool:
        try:
            self.request("DELETE", path, query)
        except EngineRefusal as refusal:
            if refusal.status in (_NOT_FOUND, _CONFLICT):
                return False
            raise
        return True


class EngineRefusal(Failure):
    """The engine answers, and says no. ``status`` is the HTTP status; 200 for an error within a stream."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the Docker Engine says: {message}")
        self.status = status


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace").strip()


def _check_stream(lines: bytes) -> None:
    for line in lines.splitlines():
        told = json.loads(line) if line.strip() else {}
        if "error" in told:
            raise EngineRefusal(200, str(told["error"]))
