"""An engine that builds and pushes up to some event, and then says nothing, or next to nothing."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from caliban.images.docker.silence import INTERVAL
from tests.fakes import FakeClock
from tests.serving import UnixHandler, serve_in_thread


@dataclass
class SilentEngine:
    """The engine.

    Attributes:
        host: its DOCKER_HOST.
        events: what it sends before it falls silent.
        reads: whether it reads the context of a build.
        starts: whether it sends the head of its answer.
        pings: whether it answers pings.
        on_ping: called with the number of each ping, returns what is sent on the silent connection.
        gone: set when the client has closed that connection.
        requests: the requests, ``METHOD PATH``.
    """

    host: str
    events: list[object] = field(default_factory=list)
    reads: bool = True
    starts: bool = True
    pings: bool = True
    on_ping: Callable[[int], bytes] = lambda number: b""
    gone: threading.Event = field(default_factory=threading.Event)
    requests: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    send: Callable[[bytes], None] = lambda data: None


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    engine: SilentEngine

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing about a client that is gone."""


class _Handler(UnixHandler):
    server: _Server

    def do_GET(self) -> None:
        path = self._record()
        engine = self.server.engine
        if path == "/_ping":
            number = sum(each == "GET /_ping" for each in engine.requests)
            if not engine.pings:
                engine.over.wait()
                return
            engine.send(engine.on_ping(number))
            self.reply(b"OK")
        elif path == "/version":
            self.reply(b'{"ApiVersion": "1.41"}')
        elif path.startswith("/images/localhost"):
            is_tagged = any("/tag" in each for each in engine.requests)
            if is_tagged:
                self.reply(b'{"Id": "sha256:1", "Size": 10}')
            else:
                self.reply(b'{"message": "No such image: x"}', 404)
        else:
            self.reply(b'{"Id": "sha256:1", "Size": 10}')

    def do_POST(self) -> None:
        path = self._record()
        if path == "/build" or path.endswith("/push"):
            self._fall_silent()
        else:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.reply(b"", 201)

    def do_DELETE(self) -> None:
        self._record()
        self.reply(b"[]")

    def _fall_silent(self) -> None:
        engine = self.server.engine
        if engine.reads and "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        if engine.starts:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            engine.send = self._send
            for event in engine.events:
                self._send(json.dumps(event).encode() + b"\r\n")
        while not engine.over.is_set():  # whatever is left of the request is not read
            if not engine.reads:
                engine.over.wait()
            elif not self.connection.recv(1):
                engine.gone.set()
                return

    def _send(self, data: bytes) -> None:
        if data:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _record(self) -> str:
        path = self.path.partition("?")[0].removeprefix("/v1.41")
        self.server.engine.requests.append(f"{self.command} {path}")
        return path


@contextmanager
def silent_engine() -> Iterator[SilentEngine]:
    """Start an engine; its attributes may be changed until the first request."""
    with TemporaryDirectory(dir="/tmp") as directory:
        path = Path(directory, "sock")
        server = _Server(str(path), _Handler)
        server.engine = SilentEngine(f"unix://{path}")
        with serve_in_thread(server):
            yield server.engine
            server.engine.over.set()


class SilenceClock(FakeClock):
    """Lets the intervals of a silence pass at once, once it has begun, and waits for all that is answered.

    Args:
        engine: answers pings, or not.
    """

    def __init__(self, engine: SilentEngine) -> None:
        super().__init__()
        self.has_begun = threading.Event()
        self._engine = engine

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for what comes, unless nothing comes any more."""
        if seconds != INTERVAL:
            is_dead = self.has_begun.is_set() and not self._engine.pings
            return super().wait(event, seconds) if is_dead else event.wait(20)
        while not self.has_begun.is_set() and not event.wait(0.005):
            pass
        return super().wait(event, seconds)
