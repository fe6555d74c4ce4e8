"""A server on loopback that sends whatever bytes a test wants, with TLS or without."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

Handler = Callable[[socket.socket], None]


class RawServer:
    """Calls ``handle`` with each connection, on a thread of its own.

    Attributes:
        port: where it listens.
        received: the first bytes of each request that came to it.
        closing: set at the end of the test; a handler that waits, waits for it.
    """

    def __init__(self, handle: Callable[[RawServer, socket.socket], None], tls: ssl.SSLContext | None = None) -> None:
        self._handle, self._tls = handle, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.received: list[bytes] = []
        self.connections = 0
        self.closing = threading.Event()

    def __enter__(self) -> RawServer:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def read(self, connection: socket.socket) -> bytes:
        """Read the head of a request."""
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = connection.recv(65536)
            if not chunk:
                break
            head += chunk
        self.received.append(head)
        return head

    def drip(self, connection: socket.socket, data: bytes, pause: float = 0.02) -> None:
        """Send a byte at a time, again and again, until nobody reads."""
        while not self.closing.is_set():
            for byte in data:
                connection.sendall(bytes([byte]))
                if self.closing.wait(pause):
                    return

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        with suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                self._handle(self, connection)


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return a whole response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
