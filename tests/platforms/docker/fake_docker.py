"""A fake Docker Engine, behind a Unix socket that speaks its HTTP API, and a fake ``docker`` command for it.

It accepts only the requests and flags that it knows, and fails a test that uses others. Its messages are those of
Docker 20.10 to 29.
"""

from __future__ import annotations

import base64
import json
import socketserver
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.serving import serve_in_thread

NEVER = "0001-01-01T00:00:00Z"
_FLAGS_WITH_VALUE = frozenset({"--name", "--label", "--mount", "--gpus", "--ipc", "-e", "-v"})
_FLAGS = frozenset({"--detach", "--privileged"})
# The client sends everything to the fake engine, which answers with the streams and the exit code.
_CLIENT = """\
#!{python} -ISE
import base64, json, os, socket, sys
request = json.dumps({{"arguments": sys.argv[1:], "environ": dict(os.environ)}}).encode()
connection = socket.socket(socket.AF_UNIX)
connection.connect({socket!r})
head = b"POST /cli HTTP/1.1\\r\\nHost: docker\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n"
connection.sendall(head % len(request) + request)
answer = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\\r\\n\\r\\n")[2]
code, out, err = json.loads(answer)
os.write(1, base64.b64decode(out))
os.write(2, base64.b64decode(err))
sys.exit(code)
"""


@dataclass
class Container:
    """A container, with the state that the API reports."""

    id: str
    name: str
    labels: dict[str, str]
    image: str
    arguments: list[str]
    docker_arguments: list[str]
    state: dict[str, Any]
    out: bytes = b""
    err: bytes = b""

    def end(self, code: int = 0, *, oom: bool = False) -> None:
        """The program ends."""
        self.state |= {
            "Status": "exited",
            "ExitCode": code,
            "OOMKilled": oom,
            "FinishedAt": "2020-05-29T10:54:00.987654321Z",
        }


@dataclass(frozen=True)
class CliCall:
    """One call of the ``docker`` command."""

    arguments: list[str]
    environ: Mapping[str, str]


@dataclass
class FakeDocker:
    """The engine.

    Attributes:
        requests: the API requests, ``METHOD PATH`` without the version, in order.
        calls: the calls of the ``docker`` command, in order.
        containers: by name.
        images: the images that it has.
        start_error: the error of every start, or None.
        failure: why the engine answers no request but that for its version, or None.
        lost: the answer of ``docker run`` is lost: the container runs, the client fails.
        on_wait: called when a client waits for a container.
    """

    socket: Path
    requests: list[str] = field(default_factory=list)
    calls: list[CliCall] = field(default_factory=list)
    containers: dict[str, Container] = field(default_factory=dict)
    images: set[str] = field(default_factory=lambda: {"lab:1"})
    start_error: str | None = None
    failure: str | None = None
    lost: bool = False
    on_wait: Callable[[Container], None] = lambda container: container.end()
    unexpected: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def run(self, arguments: list[str]) -> tuple[int, bytes, bytes]:
        """``docker run``."""
        container = self._parse(arguments)
        if isinstance(container, str):
            return 125, b"", f"docker: {container}\n\nRun 'docker run --help' for more information\n".encode()
        if container.name in self.containers:
            return self._failure(f'Conflict. The container name "/{container.name}" is already in use')
        if container.image not in self.images:
            unable = f"Unable to find image '{container.image}' locally\n".encode()
            code, out, error = self._failure(f"pull access denied for {container.image}")
            return code, out, unable + error
        self.containers[container.name] = container
        if self.start_error:
            container.state |= {"ExitCode": 128, "Error": self.start_error}
            return self._failure(self.start_error)
        container.state |= {"Status": "running", "StartedAt": "2020-05-29T10:53:40.123456789Z"}
        if self.lost:
            return 125, b"", b"error during connect: EOF\n"
        return 0, f"{container.id}\n".encode(), b"WARNING: no swap limit support\n"

    def _failure(self, message: str) -> tuple[int, bytes, bytes]:
        text = f"docker: Error response from daemon: {message}\n\nRun 'docker run --help' for more information\n"
        return 125, b"", text.encode()

    def _parse(self, arguments: list[str]) -> Container | str:
        words = list(arguments)
        flags: list[tuple[str, str]] = []
        while words and words[0].startswith("-"):
            name = words.pop(0)
            if name not in _FLAGS_WITH_VALUE | _FLAGS:
                return f"unknown flag: {name}"
            flags.append((name, words.pop(0) if name in _FLAGS_WITH_VALUE else ""))
        values = dict(flags)
        assert "--detach" in values, "docker run would block"
        labels = dict(value.partition("=")[::2] for name, value in flags if name == "--label")
        state = {"Status": "created", "ExitCode": 0, "OOMKilled": False, "Error": "", "StartedAt": NEVER}
        image, *rest = words
        docker_arguments = arguments[: len(arguments) - len(words)]
        return Container(
            uuid.uuid4().hex * 2,
            values["--name"],
            labels,
            image,
            rest,
            docker_arguments,
            {**state, "FinishedAt": NEVER},
        )

    def logs(self, arguments: list[str]) -> tuple[int, bytes, bytes]:
        """``docker logs --follow NAME``: blocks until the container ends."""
        follow, name = arguments
        assert follow == "--follow"
        container = self.containers[name]
        while container.state["Status"] == "running" and not self.closing.wait(0.005):
            pass
        return 0, container.out, container.err

    def find(self, name: str) -> Container | None:
        found = (each for each in self.containers.values() if name in (each.name, each.id))
        return next(found, None)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    docker: FakeDocker


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        path, query = self._path()
        if path == "/version":
            self._reply(200, {"ApiVersion": "1.41", "Version": "20.10.24"})
        elif self.server.docker.failure:
            self._reply(500, {"message": self.server.docker.failure})
        elif path == "/containers/json":
            self._list(query)
        elif path.startswith("/containers/") and path.endswith("/json"):
            self._with(path.split("/")[2], lambda container: (200, self._inspected(container)))
        else:
            self._unexpected()

    def do_POST(self) -> None:
        path, query = self._path()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/cli":
            self._cli(json.loads(body))
        elif path.endswith("/stop"):
            assert query == {"t": ["10"]}
            self._with(path.split("/")[2], self._stop)
        elif path.endswith("/wait"):
            self._with(path.split("/")[2], self._wait)
        else:
            self._unexpected()

    def do_DELETE(self) -> None:
        path, query = self._path()
        assert query.get("force") == ["True"]
        self._with(path.split("/")[2], self._remove)

    def _path(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        path = parts.path.removeprefix("/v1.41")
        if path not in ("/version", "/cli"):
            self.server.docker.requests.append(f"{self.command} {path}")
        return unquote(path), parse_qs(parts.query)

    def _list(self, query: dict[str, list[str]]) -> None:
        assert query["all"] == ["1"]
        [label] = json.loads(query["filters"][0])["label"]
        key, _, value = label.partition("=")
        self._reply(
            200,
            [
                {"Id": each.id, "Names": [f"/{each.name}"], "State": each.state["Status"]}
                for each in self.server.docker.containers.values()
                if key in each.labels and value in ("", each.labels[key])
            ],
        )

    @staticmethod
    def _inspected(container: Container) -> dict[str, Any]:
        return {"Id": container.id, "State": container.state, "Config": {"Image": container.image}}

    def _stop(self, container: Container) -> tuple[int, object]:
        container.end(137)
        return 204, None

    def _wait(self, container: Container) -> tuple[int, object]:
        self.server.docker.on_wait(container)
        return 200, {"StatusCode": container.state["ExitCode"]}

    def _remove(self, container: Container) -> tuple[int, object]:
        del self.server.docker.containers[container.name]
        return 204, None

    def _cli(self, call: dict[str, Any]) -> None:
        docker, arguments = self.server.docker, call["arguments"]
        docker.calls.append(CliCall(arguments, call["environ"]))
        command = {"run": docker.run, "logs": docker.logs}[arguments[0]]
        code, out, err = command(arguments[1:])
        self._reply(200, [code, base64.b64encode(out).decode(), base64.b64encode(err).decode()])
        self.close_connection = True

    def _with(self, name: str, answer: Callable[[Container], tuple[int, object]]) -> None:
        container = self.server.docker.find(name)
        if container is None:
            self._reply(404, {"message": f"No such container: {name}"})
        else:
            self._reply(*answer(container))

    def _unexpected(self) -> None:
        self.server.docker.unexpected.append(f"{self.command} {self.path}")
        self._reply(501, {"message": f"the fake engine does not know {self.command} {self.path}"})

    def _reply(self, status: int, body: object) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def address_string(self) -> str:
        return "a Unix socket has no address"


@contextmanager
def fake_docker(directory: Path) -> Iterator[FakeDocker]:
    """Start the engine at ``directory/docker.sock``, and install the command as ``directory/bin/docker``."""
    docker = FakeDocker(directory / "docker.sock")
    command = directory / "bin" / "docker"
    command.parent.mkdir()
    command.write_text(_CLIENT.format(python=sys.executable, socket=str(docker.socket)))
    command.chmod(0o755)
    server = _Server(str(docker.socket), _Handler)
    server.docker = docker
    with serve_in_thread(server):
        try:
            yield docker
        finally:
            docker.closing.set()
    assert docker.unexpected == []
