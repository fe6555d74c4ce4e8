"""A fake Docker Engine, behind a Unix socket that speaks its HTTP API, and a fake ``docker`` command for it.

It accepts only the requests and flags that it knows, and fails a test that uses others. Its messages are those of
Docker 20.10 to 29.
"""

from __future__ import annotations

import base64
import json
import re
import socketserver
import struct
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.serving import UnixHandler, serve_in_thread

INFO = {"ID": "a1b2-engine", "Name": "catbus", "DockerRootDir": "/var/lib/docker"}
NEVER = "0001-01-01T00:00:00Z"
_FLAGS_WITH_VALUE = frozenset(
    {
        "--name",
        "--label",
        "--mount",
        "--gpus",
        "--ipc",
        "-e",
        "-v",
        "--restart",
        "--pull",
        "--entrypoint",
        "--user",
        "-u",
    }
)
_FLAGS = frozenset({"--privileged", "-i", "-t", "--init", "--init=false"})
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


_HELP = b"""
Usage:  docker create [OPTIONS] IMAGE [COMMAND] [ARG...]

Options:
  -Z, --zone string                      The zone
      --new-switch                       A switch of a newer docker
      --new-value list                   A value
                                         (default [])
"""


def _frame(number: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", number + 1, len(data)) + data


def _messages(number: int, data: bytes, ends: list[int]) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield what a log has of a stream: the time in seconds, as it is written, and a line, or 16 KB of one.

    A line ends with the run of the program, too: ``ends``.
    """
    runs = [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]
    for line in (line for run in runs for line in re.findall(rb"[^\n]*\n|[^\n]+", run)):
        for start in range(0, len(line), 16384):
            number += 2
            moment = f"1590749620.{number:09}"
            yield moment, f"2020-05-29T10:53:40.{number:09}Z".encode(), line[start : start + 16384]


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
    restarts: int = 0
    ends: list[tuple[int, int]] = field(default_factory=list)

    def end(self, code: int = 0, *, oom: bool = False) -> None:
        """The program ends."""
        self.ends.append((len(self.out), len(self.err)))
        self.state |= {
            "Status": "exited",
            "ExitCode": code,
            "OOMKilled": oom,
            "FinishedAt": "2020-05-29T10:54:00.987654321Z",
        }


_Message = tuple[int, str, bytes, bytes]
"""A message of a log: the number of its stream, its time in seconds, its time as it is written, and its data."""


def _log(
    container: Container, sizes: Sequence[int], lost: int, since: str, sent: list[int], *, only_lines: bool
) -> list[_Message]:
    """Return the messages that were not sent yet, and count them in ``sent``: standard output first."""
    messages: list[_Message] = []
    for number, data in enumerate((container.out[: sizes[0]], container.err[: sizes[1]])):
        data = data[: max(0, len(data) - lost)]
        data = data[: data.rfind(b"\n") + 1] if only_lines else data
        found = [
            (number, *each)
            for each in _messages(number, data, [end[number] for end in container.ends])
            if each[0] >= since
        ]
        messages += found[sent[number] :]
        sent[number] = len(found)
    return messages


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
        lost: what is done without an answer: ``start``, ``create``.
        hooks: called before a request ``METHOD PATH`` is processed, once; what they return is the answer, unless None.
        info: the answer to ``GET /info``.
        starts: the ids of the containers that were started, in order.
        stop_code: the exit code of a container that is stopped.
        stop_seconds: the grace period that a request to stop has to name.
        stall: while it is set, no request is answered.
        lost_output: bytes of the end of each stream that the engine does not deliver to those who follow it.
        create_stderr: what ``docker create`` writes beside the id.
        config: what containers have in ``Config`` beside their image and labels.
        image_config: what images have in ``Config``.
        kills: the ids of the containers that were killed, in order.
        attach_error: why nobody can be attached to a container, or None.
        cut_attached: while it is set, connections to attached containers end.
        logs_error: why no log can be read, or None.
        on_wait: called when a client waits for a container.
    """

    socket: Path
    requests: list[str] = field(default_factory=list)
    calls: list[CliCall] = field(default_factory=list)
    containers: dict[str, Container] = field(default_factory=dict)
    images: set[str] = field(default_factory=lambda: {"lab:1"})
    start_error: str | None = None
    failure: str | None = None
    lost: set[str] = field(default_factory=set)
    hooks: dict[str, Callable[[], tuple[int, object] | None]] = field(default_factory=dict)
    info: object = field(
        default_factory=lambda: {"ID": "a1b2-engine", "Name": "catbus", "DockerRootDir": "/var/lib/docker"}
    )
    stop_code: int = 137
    stop_seconds: list[str] = field(default_factory=lambda: ["10"])
    starts: list[str] = field(default_factory=list)
    create_stderr: bytes = b""
    lost_output: int = 0
    config: dict[str, object] = field(default_factory=dict)
    image_config: dict[str, object] = field(default_factory=dict)
    kills: list[str] = field(default_factory=list)
    attach_error: str | None = None
    cut_attached: threading.Event = field(default_factory=threading.Event)
    logs_error: str | None = None
    on_wait: Callable[[Container], None] = lambda container: container.end()
    unexpected: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    stall: threading.Event = field(default_factory=threading.Event)

    def create(self, arguments: list[str]) -> tuple[int, bytes, bytes]:
        """``docker create``."""
        if arguments == ["--help"]:
            return 0, _HELP, b""
        container = self._parse(arguments)
        if isinstance(container, str):
            return 125, b"", f"{container}\n\nRun 'docker create --help' for more information\n".encode()
        if container.name in self.containers:
            return self._failure(f'Conflict. The container name "/{container.name}" is already in use')
        if container.image not in self.images:
            unable = f"Unable to find image '{container.image}' locally\n".encode()
            code, out, error = self._failure(f"pull access denied for {container.image}")
            return code, out, unable + error
        self.containers[container.name] = container
        if "create" in self.lost:
            return 1, b"", b"error during connect: EOF\n"
        return 0, f"{container.id}\n".encode(), self.create_stderr

    def _failure(self, message: str) -> tuple[int, bytes, bytes]:
        text = f"Error response from daemon: {message}\n\nRun 'docker create --help' for more information\n"
        return 1, b"", text.encode()

    def start(self, container: Container) -> tuple[int, object]:
        """``POST /containers/NAME/start``."""
        if container.state["Status"] == "running":
            return 304, None
        if self.start_error:
            container.state |= {"ExitCode": 128, "Error": self.start_error}
            return 500, {"message": self.start_error}
        self.starts.append(container.id)
        container.state |= {"Status": "running", "StartedAt": "2020-05-29T10:53:40.123456789Z"}
        return 204, None

    def _parse(self, arguments: list[str]) -> Container | str:
        words = list(arguments)
        flags: list[tuple[str, str]] = []
        while words and words[0].startswith("-"):
            name = words.pop(0)
            if name not in _FLAGS_WITH_VALUE | _FLAGS:
                return f"unknown flag: {name}"
            flags.append((name, words.pop(0) if name in _FLAGS_WITH_VALUE else ""))
        values = dict(flags)
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

    def rename(self, container: Container, name: str) -> tuple[int, object]:
        """``POST /containers/NAME/rename``."""
        if name == container.name:
            return 400, {"message": "Renaming a container with the same name as its current name"}
        assert name not in self.containers
        del self.containers[container.name]
        container.name = name
        self.containers[name] = container
        return 204, None

    def find(self, name: str) -> Container | None:
        found = (each for each in self.containers.values() if name in (each.name, each.id))
        return next(found, None)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    docker: FakeDocker

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing about a client that is gone; anything else fails the test."""
        if not isinstance(error := sys.exc_info()[1], ConnectionError):
            self.docker.unexpected.append(repr(error))


class _Handler(UnixHandler):
    server: _Server

    def do_GET(self) -> None:
        path, query = self._path()
        if path == "/_ping":
            self._reply(200, b"OK")
        elif path == "/version":
            self._reply(200, {"ApiVersion": "1.41", "Version": "20.10.24"})
        elif self._hooked() or self._failed():
            pass
        elif path == "/info":
            self._reply(200, self.server.docker.info)
        elif path.startswith("/images/") and path.endswith("/json"):
            image = path.removeprefix("/images/").removesuffix("/json")
            if image in self.server.docker.images:
                self._reply(200, {"Id": "sha256:1", "Config": self.server.docker.image_config})
            else:
                self._reply(404, {"message": f"No such image: {image}"})
        elif path == "/containers/json":
            self._list(query)
        elif path.startswith("/containers/") and path.endswith("/json"):
            self._with(path.split("/")[2], lambda container: (200, self._inspected(container)))
        elif path.startswith("/containers/") and path.endswith("/logs"):
            self._logs(path.split("/")[2], query)
        else:
            self._unexpected()

    def do_POST(self) -> None:
        path, query = self._path()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/cli":
            self._cli(json.loads(body))
        elif self._hooked() or self._failed():
            pass
        elif path.endswith("/start"):
            self._with(path.split("/")[2], self.server.docker.start)
            if "start" in self.server.docker.lost:
                self.close_connection = True
        elif path.endswith("/rename"):
            self._with(path.split("/")[2], lambda each: self.server.docker.rename(each, query["name"][0]))
        elif path.endswith("/stop"):
            assert query == {"t": self.server.docker.stop_seconds}
            self._with(path.split("/")[2], self._stop)
        elif path.endswith("/kill"):
            self._with(path.split("/")[2], self._kill)
        elif path.endswith("/wait"):
            self._with(path.split("/")[2], self._wait)
        elif path.endswith("/attach"):
            assert query == {"stream": ["1"], "stdout": ["1"], "stderr": ["1"]}
            self._attach(path.split("/")[2])
        else:
            self._unexpected()

    def do_DELETE(self) -> None:
        path, query = self._path()
        assert query.get("force") == ["False"], "a container that runs must not be removed"
        if not self._hooked() and not self._failed():
            self._with(path.split("/")[2], self._remove)

    def _hooked(self) -> bool:
        while self.server.docker.stall.is_set() and not self.server.docker.closing.wait(0.005):
            pass
        hook = self.server.docker.hooks.pop(self._request, None)
        answer = hook() if hook else None
        if answer is not None:
            self._reply(*answer)
        return answer is not None

    def _failed(self) -> bool:
        if self.server.docker.failure:
            self._reply(500, {"message": self.server.docker.failure})
        return bool(self.server.docker.failure)

    def _path(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        path = parts.path.removeprefix("/v1.41")
        self._request = f"{self.command} {path}"
        if path not in ("/version", "/cli"):
            self.server.docker.requests.append(self._request)
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

    def _inspected(self, container: Container) -> dict[str, Any]:
        return {
            "Id": container.id,
            "Name": f"/{container.name}",
            "State": container.state,
            "RestartCount": container.restarts,
            "Config": {**self.server.docker.config, "Image": container.image, "Labels": container.labels},
        }

    def _stop(self, container: Container) -> tuple[int, object]:
        if container.state["Status"] == "exited":
            return 304, None
        container.end(self.server.docker.stop_code)
        return 204, None

    def _kill(self, container: Container) -> tuple[int, object]:
        if container.state["Status"] == "exited":
            return 409, {"message": f"Cannot kill container: {container.id}: Container {container.id} is not running"}
        self.server.docker.kills.append(container.id)
        container.end(137)
        return 204, None

    def _wait(self, container: Container) -> tuple[int, object]:
        self.server.docker.on_wait(container)
        return 200, {"StatusCode": container.state["ExitCode"]}

    def _attach(self, name: str) -> None:
        """Answer with a stream of what the container writes, until it ends."""
        docker, container = self.server.docker, self.server.docker.find(name)
        if container is None or docker.attach_error is not None:
            self._reply(404 if container is None else 403, {"message": docker.attach_error or "No such container"})
            return
        self.wfile.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        self.close_connection = True
        sent = [0, 0]
        is_over = False
        while not is_over and not docker.closing.is_set() and not docker.cut_attached.is_set():
            is_over = container.state["Status"] in ("exited", "restarting") or docker.find(container.id) is None
            for number, data in enumerate((container.out, container.err)):
                if len(data) > sent[number]:
                    self.wfile.write(_frame(number, data[sent[number] :]))
                    sent[number] = len(data)
            docker.closing.wait(0.005)

    def _logs(self, name: str, query: dict[str, list[str]]) -> None:
        """Answer with the messages of a container: all of standard output, then all of standard error."""
        docker, container = self.server.docker, self.server.docker.find(name)
        if container is None or docker.logs_error is not None:
            message = docker.logs_error or f"No such container: {name}"
            self._reply(404 if container is None else 501, {"message": message})
            return
        assert (query["stdout"], query["stderr"], query["timestamps"]) == (["1"], ["1"], ["1"])
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        lost = docker.lost_output if container.state["Status"] == "running" else 0
        tail = None if query["tail"] == ["all"] else int(query["tail"][0])
        is_over, sent, seen = False, [0, 0], (-1, -1)
        while not is_over:
            is_over = query["follow"] != ["1"] or container.state["Status"] != "running" or docker.closing.wait(0.005)
            sizes = (len(container.out), len(container.err))
            if is_over or sizes != seen:
                messages = _log(container, sizes, lost, query["since"][0], sent, only_lines=not is_over)
                self._send_messages(messages if tail is None else messages[max(0, len(messages) - tail) :])
                seen, tail = sizes, None
        self.wfile.write(b"0\r\n\r\n")

    def _send_messages(self, messages: list[_Message]) -> None:
        content = b"".join(_frame(number, stamp + b" " + data) for number, _, stamp, data in messages)
        for start in range(0, len(content), 100_000):
            chunk = content[start : start + 100_000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))

    def _remove(self, container: Container) -> tuple[int, object]:
        if container.state["Status"] in ("running", "paused", "restarting"):
            return 409, {"message": "You cannot remove a running container. Stop the container before removing it"}
        del self.server.docker.containers[container.name]
        return 204, None

    def _cli(self, call: dict[str, Any]) -> None:
        docker, arguments = self.server.docker, call["arguments"]
        docker.calls.append(CliCall(arguments, call["environ"]))
        command = {"create": docker.create}[arguments[0]]
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
        if "start" in self.server.docker.lost and self.path.endswith("/start"):
            return
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


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
