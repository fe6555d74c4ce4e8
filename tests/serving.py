"""Servers in threads of the tests' process that stop at once."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer


class UnixHandler(BaseHTTPRequestHandler):
    """Answers HTTP requests on a Unix socket, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def reply(self, body: bytes, status: int = 200) -> None:
        """Send an answer of a known length."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        """Say that the connection ends with this answer if the client asked for that, as Go's server does."""
        if self.close_connection:
            self.send_header("Connection", "close")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def address_string(self) -> str:
        return "a Unix socket has no address"


@contextmanager
def serve_in_thread(server: TCPServer) -> Iterator[None]:
    """Serve requests in a thread until the end of the block, and close the server.

    ``shutdown()`` waits until the server looks whether it is to stop; this one is woken.
    """
    server.timeout = 0  # of handle_request(): a client that has disconnected must not block it
    woken, waker = socket.socketpair()

    def serve() -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(server.fileno(), selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while all(key.fileobj is not woken for key, _ in selector.select()):
                server.handle_request()

    thread = threading.Thread(target=serve, daemon=True)
    with woken, waker, server:
        thread.start()
        try:
            yield
        finally:
            waker.send(b".")
            thread.join()
