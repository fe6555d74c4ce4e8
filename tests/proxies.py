"""Proxies on loopback: HTTP (CONNECT), the same over TLS, and SOCKS 5. Whatever name is asked for is this machine.

Sources: RFC 9110, section 9.3.6; RFC 1928; RFC 1929.
"""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from contextlib import ExitStack, suppress
from types import TracebackType


class ProxyServer:
    """A proxy that notes where it was asked to connect to.

    Attributes:
        port: where it listens.
        asked: ``HOST:PORT``, as it was asked.
        login: a user and a password that it demands, or None.
    """

    def __init__(self, kind: str, tls: ssl.SSLContext | None = None) -> None:
        self._kind, self._tls = kind, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closing = ExitStack()
        self.port: int = self._listener.getsockname()[1]
        self.asked: list[str] = []
        self.login: tuple[str, str] | None = None

    def __enter__(self) -> ProxyServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._closing.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), ExitStack() as stack:
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
            self._closing.enter_context(client)
            stack.enter_context(client)
            reader = stack.enter_context(client.makefile("rb", buffering=0))
            target = self._socks(client, reader) if self._kind == "socks5" else self._connect(client, reader)
            if target is None:
                return
            self.asked.append(target)
            upstream = stack.enter_context(socket.create_connection(("127.0.0.1", int(target.rpartition(":")[2]))))
            client.sendall(b"\5\0\0\1\0\0\0\0\0\0" if self._kind == "socks5" else b"HTTP/1.1 200 OK\r\n\r\n")
            threading.Thread(target=_pump, args=(upstream, client), daemon=True).start()
            _pump(client, upstream)

    def _connect(self, client: socket.socket, reader: socket.SocketIO) -> str | None:
        lines = []
        while line := reader.readline().strip():
            lines.append(line.decode())
        if self.login is not None:
            login = base64.b64encode(":".join(self.login).encode()).decode()
            if not any(line.lower() == f"proxy-authorization: basic {login}".lower() for line in lines):
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return None
        return lines[0].split()[1]

    def _socks(self, client: socket.socket, reader: socket.SocketIO) -> str | None:
        methods = reader.read(reader.read(2)[1])
        method = 2 if self.login is not None else 0
        if method not in methods:
            client.sendall(b"\5\xff")
            return None
        client.sendall(bytes((5, method)))
        if self.login is not None:
            given = tuple(reader.read(reader.read(skip)[-1]).decode() for skip in (2, 1))
            client.sendall(b"\1\0" if given == self.login else b"\1\1")
            if given != self.login:
                return None
        kind = reader.read(4)[3]
        host = socket.inet_ntoa(reader.read(4)) if kind == 1 else reader.read(reader.read(1)[0]).decode()
        return f"{host}:{int.from_bytes(reader.read(2), 'big')}"


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
