"""What every stand-in is: a server on loopback that keeps what it is asked, and goes wrong when it is told to."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from tests.serving import serve_in_thread
from tests.standins.faults import Fault, Faults

_Self = TypeVar("_Self", bound="StandIn")


@dataclass(frozen=True)
class Received:
    """One request, as it came: the last value of each query parameter; a body of JSON as what it says."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Call:
    """One request that is to be answered.

    Attributes:
        target: path and query as they were sent.
        path: without the query, decoded.
        headers: found by their names in whatever case.
        certificate_name: the common name of the certificate that the caller has shown.
    """

    verb: str
    target: str
    path: str
    query: Mapping[str, list[str]]
    headers: Message
    raw: bytes
    certificate_name: str | None = None

    @property
    def last(self) -> dict[str, str]:
        """The last value of each query parameter."""
        return {name: values[-1] for name, values in self.query.items()}

    @property
    def json(self) -> Any:
        """What the body says; None where there is none, or where it is no JSON."""
        return parsed(self.raw)

    @property
    def bearer(self) -> str | None:
        """The token that was sent."""
        kind, _, token = (self.headers.get("Authorization") or "").partition(" ")
        return token if kind == "Bearer" else None


@dataclass(frozen=True)
class Answer:
    """Status, JSON body and further headers: a value of several lines is sent as several headers.

    Attributes:
        pieces: a body that is sent as it comes, in place of JSON; the connection breaks where that raises an OSError.
    """

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: Iterable[bytes] | None = None


class _Server(ThreadingHTTPServer):
    """A server that knows its connections, by the ports of their clients."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.changed = threading.Condition()
        self.connections: dict[int, int] = {}  # id of the socket -> port of the client
        super().__init__(("127.0.0.1", 0), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.changed:
            self.connections[id(request)] = client_address[1]
            self.changed.notify_all()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self.changed:
            del self.connections[id(request)]
            self.changed.notify_all()


class StandIn(ABC):
    """A service on loopback: what was asked of it, and what is to go wrong.

    Attributes:
        requests: every request, in order.
    """

    content_type = "application/json; charset=UTF-8"

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.faults = Faults()
        self.requests: list[Received] = []
        self._threads: list[threading.Thread] = []
        self._serving = ExitStack()
        self._server = _Server(type("Handler", (_Handler,), {"service": self}))
        if tls is not None:
            # The handshake belongs to the thread of its connection: one that never comes must not hold up the others.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
            self._server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]

    @abstractmethod
    def name_of(self, call: Call) -> str:
        """The method that is asked for, as faults and counts name it; ``unknown`` for none."""

    @abstractmethod
    def answer(self, call: Call, fault: Fault | None) -> Answer:
        """Answer one request; as ``fault`` says where its kind is ``status``."""

    @abstractmethod
    def control(self, path: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Answer another process that steers this one, by a path below ``/_standin/``.

        Raises:
            LookupError, TypeError, ValueError: that is nothing to steer by; answered with 400 and what is wrong.
        """

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def counts(self) -> Counter[str]:
        """Requests by method."""
        return Counter(received.method for received in list(self.requests))

    def bodies(self, method: str) -> list[Any]:
        """The bodies that were sent to one method."""
        return [received.body for received in list(self.requests) if received.method == method]

    def drain(self) -> None:
        """Wait until all requests are handled that clients sent which have ended or closed their connections."""
        changed, connections = self._server.changed, self._server.connections
        # connections are accepted in the order in which they were made: those before this one have been, too
        with socket.create_connection(("127.0.0.1", self.port)) as last, changed:
            port = last.getsockname()[1]
            assert changed.wait_for(lambda: port in connections.values(), 60)
        with changed:
            assert changed.wait_for(lambda: not connections, 60)

    def in_background(self, work: Callable[[], None]) -> None:
        """Let ``work`` go on beside the server; leaving the stand-in waits for its end."""
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """End what goes on in the background."""

    def __enter__(self: _Self) -> _Self:
        self._serving.enter_context(serve_in_thread(self._server))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._serving.close()
        self.close()
        for thread in self._threads:
            thread.join(30)


class _Handler(BaseHTTPRequestHandler):
    service: StandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body that follows its headers would wait 40 ms for their acknowledgement

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the requests are kept."""

    def _answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        if url.path.startswith("/_standin/"):
            self._send(self._steered(url.path, parsed(raw) or {}))
            return
        query = parse_qs(url.query, keep_blank_values=True)
        call = Call(self.command, self.path, unquote(url.path), query, self.headers, raw, self._certificate_name())
        name = self.service.name_of(call)
        body = call.json if call.json is not None else raw or None
        self.service.requests.append(Received(name, url.path, call.last, dict(self.headers.items()), body))
        fault = self.service.faults.next(name)
        if fault is not None and fault.kind == "delay":
            time.sleep(fault.seconds)
        if fault is not None and fault.kind == "hold":
            fault.hold.pass_through()
        if fault is not None and fault.kind == "refuse":
            self._hang_up()
            return
        answer = self.service.answer(call, fault)
        if fault is not None and fault.kind == "drop":
            self._hang_up()
        elif fault is not None and fault.kind == "garbage":
            self._send_bytes(200, b"<html>A proxy's page</html>", {"Content-Type": "text/html"})
        elif fault is not None and fault.kind == "replace":
            self._send_bytes(fault.status, fault.body, {"Content-Type": "text/html", **fault.headers})
        else:
            self._send(answer)

    def _steered(self, path: str, given: Mapping[str, Any]) -> Answer:
        try:
            return Answer(200, self.service.control(path, given))
        except (LookupError, TypeError, ValueError) as error:
            return Answer(400, {"error": f"{type(error).__name__}: {error}"})

    def _certificate_name(self) -> str | None:
        shown = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
        subject: Any = (shown or {}).get("subject", ())
        return next((str(value) for part in subject for key, value in part if key == "commonName"), None)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _send(self, answer: Answer) -> None:
        if answer.pieces is not None:
            self._send_pieces(answer, answer.pieces)
            return
        headers = {**answer.headers, "Content-Type": self.service.content_type}
        self._send_bytes(answer.status, json.dumps(answer.body).encode(), headers)

    def _send_pieces(self, answer: Answer, pieces: Iterable[bytes]) -> None:
        try:
            self.send_response(answer.status)
            for name, value in {"Content-Type": "text/plain", **answer.headers, "Transfer-Encoding": "chunked"}.items():
                self.send_header(name, value)
            self.end_headers()
            for piece in pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b"")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:  # the caller has left, or the answer is to break
            self._hang_up()

    def _send_bytes(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            for line in value.split("\n"):
                self.send_header(name, line)
        self.end_headers()
        self.wfile.write(data)


def stop_event() -> threading.Event:
    """What SIGTERM and SIGINT set from now on, for a stand-in that is a process of its own."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    return over


def parsed(raw: bytes) -> Any:
    """What the bytes say as JSON; None where they say nothing."""
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return None
