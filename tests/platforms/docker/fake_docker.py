"""A fake Docker Engine, behind a Unix socket that speaks its HTTP API, and a fake ``docker`` command for it.

It accepts only the requests and flags that it knows, and fails a test that uses others. Its messages are those of
Docker 20.10 to 29.
"""

from __future__ import annotations

import base64
import json
import socketserver
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.serving import UnixHandler, serve_in_thread

from .fake_engine import CliCall, Container, FakeDocker, Message, log_messages

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


def _frame(number: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", number + 1, len(data)) + data


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
                messages = log_messages(container, sizes, lost, query["since"][0], sent, only_lines=not is_over)
                self._send_messages(messages if tail is None else messages[max(0, len(messages) - tail) :])
                seen, tail = sizes, None
        self.wfile.write(b"0\r\n\r\n")

    def _send_messages(self, messages: list[Message]) -> None:
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
