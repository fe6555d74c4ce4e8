"""Reach a Docker Engine through ``ssh``, as the docker client does: ``ssh HOST docker system dial-stdio``.

docker-py's own way is not used: it needs paramiko also where it runs the ssh command, its connections have no timeout
and no end, and what ssh reports is lost.

Source: https://github.com/docker/cli/blob/master/cli/connhelper/connhelper.go, and ssh/ssh.go beside it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, TYPE_CHECKING

import requests
import requests.adapters
import urllib3
import urllib3.connection

from caliban.images.docker.ssh_address import SshAddress
from caliban.redaction import clean_text

if TYPE_CHECKING:
    import docker

_URL = "tcp://docker.invalid:2375"
"""What docker-py gets for an address. Nothing resolves it: every connection goes through ssh."""

_MAX_WORDS = 2000


class SshError(requests.ConnectionError):
    """The connection through ssh failed; the message is ssh's, or says that it cannot be run."""


class Tunnel:
    """Opens connections to an engine, each through an ssh process of its own.

    Args:
        address: of the engine.
        environ: the environment of ssh.
    """

    def __init__(self, address: SshAddress, environ: Mapping[str, str]) -> None:
        self._command = address.command()
        self._environ = dict(environ)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._not_run: str | None = None
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()

    def open(self) -> socket.socket:
        """Return a new connection.

        Raises:
            OSError: ssh cannot be run.
        """
        self._processes = [each for each in self._processes if each.poll() is None]
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = subprocess.Popen(
                    self._command,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=self._stderr,
                    env=self._environ,
                    start_new_session=True,  # Ctrl-C is for this process only; as docker's own, it asks for no password
                )
            except (OSError, ValueError) as error:
                ours.close()
                words = error.strerror if isinstance(error, OSError) else str(error)
                self._not_run = f"cannot run ssh: {words}"
                raise OSError(self._not_run) from None
        self._processes.append(process)
        return ours

    def failure(self, error: Exception) -> Exception:
        """Return why a connection failed, where ssh said so, or cannot be run; else ``error``."""
        if self._not_run is not None:
            return SshError(self._not_run)
        with suppress(OSError, ValueError):  # ValueError: closed meanwhile
            size = os.fstat(self._stderr.fileno()).st_size
            words = os.pread(self._stderr.fileno(), _MAX_WORDS, max(0, size - _MAX_WORDS))
            if text := clean_text(words.decode("utf-8", "replace").strip()):
                return SshError(text)
        return error

    def close(self) -> None:
        """End every connection."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes = []
        self._stderr.close()


class _Connection(urllib3.connection.HTTPConnection):
    def __init__(self, tunnel: Tunnel) -> None:
        super().__init__("docker.invalid")
        self._tunnel_to_engine = tunnel

    def connect(self) -> None:
        self.sock = self._tunnel_to_engine.open()
        timeout = self.timeout
        self.sock.settimeout(timeout if isinstance(timeout, int | float) else None)


class _Pool(urllib3.HTTPConnectionPool):
    def __init__(self, tunnel: Tunnel) -> None:
        super().__init__("docker.invalid", maxsize=4)
        self._tunnel_to_engine = tunnel

    def _new_conn(self) -> _Connection:
        return _Connection(self._tunnel_to_engine)


class _Adapter(requests.adapters.HTTPAdapter):
    """Sends requests through ssh."""

    def __init__(self, tunnel: Tunnel) -> None:
        super().__init__()
        self._tunnel = tunnel
        self._pool = _Pool(tunnel)

    def get_connection_with_tls_context(self, *_: object, **__: object) -> _Pool:
        return self._pool

    def get_connection(self, *_: object, **__: object) -> _Pool:  # of requests before 2.32
        return self._pool

    def request_url(self, request: requests.PreparedRequest, proxies: object) -> str:
        return str(request.path_url)

    def send(self, request: requests.PreparedRequest, *arguments: object, **options: object) -> requests.Response:
        try:
            return super().send(request, *arguments, **options)  # type: ignore[arg-type]
        except requests.ConnectionError as error:
            failure = error
        raise self._tunnel.failure(failure)

    def close(self) -> None:
        super().close()
        self._pool.close()
        self._tunnel.close()


def ssh_client(host: str, environ: Mapping[str, str], version: str) -> docker.DockerClient:
    """Return docker-py's client of an engine, without a connection.

    Args:
        host: ``ssh://[USER@]HOST[:PORT][/SOCKET]``.
        environ: the environment of ssh.
        version: of the API.

    Raises:
        docker.errors.DockerException: ``host`` is malformed.
    """
    import docker
    import docker.errors

    try:
        address = SshAddress.parse(host)
    except ValueError as error:
        raise docker.errors.DockerException(str(error)) from None
    client = docker.DockerClient(_URL, version=version)
    client.api.trust_env = False  # no proxies, and no login of ~/.netrc
    client.api.mount("http://", _Adapter(Tunnel(address, environ)))
    return client
