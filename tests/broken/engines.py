"""A Docker Engine that crashes at a chosen moment: a proxy of the real one that closes all connections.

A client sees the same of an engine that is killed: open connections end, and new ones are refused.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from tests.sockets import listening_socket


class CrashingEngine:
    """Forwards everything until the engine sends ``crash_after``; then every connection ends.

    Args:
        path: of its socket.
        crash_after: bytes of a response of the engine.
        restarts: whether it accepts connections again at once, like an engine that systemd restarts.
    """

    def __init__(self, listening: socket.socket, path: Path, crash_after: bytes, *, restarts: bool) -> None:
        self.address = f"unix://{path}"
        self.has_crashed = threading.Event()
        self._path = path
        self._crash_after = crash_after
        self._restarts = restarts
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listening = listening
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Close all connections, and accept no more."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._path.unlink(missing_ok=True)
        self._disconnect()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
                engine = _connect()
            except OSError:
                return
            with self._lock:
                self._open |= {client, engine}
            threading.Thread(target=self._forward, args=(client, engine, b""), daemon=True).start()
            threading.Thread(target=self._forward, args=(engine, client, self._crash_after), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, crash_after: bytes) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if crash_after and crash_after in data and not self.has_crashed.is_set():
                    self._crash()
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _crash(self) -> None:
        self.has_crashed.set()
        if self._restarts:
            self._disconnect()
        else:
            self.close()

    def _disconnect(self) -> None:
        with self._lock:
            closed, self._open = self._open, set()
        for connection in closed:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def _connect() -> socket.socket:
    real = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    if real.scheme != "unix":
        return socket.create_connection((real.hostname or "", real.port or 2375))
    engine = socket.socket(socket.AF_UNIX)
    engine.connect(real.path)
    return engine


@contextmanager
def crashing_engine(crash_after: bytes, *, restarts: bool) -> Iterator[CrashingEngine]:
    """Start an engine, and close it at the end of the block."""
    with listening_socket() as (listening, path):
        engine = CrashingEngine(listening, path, crash_after, restarts=restarts)
        try:
            yield engine
        finally:
            engine.close()
