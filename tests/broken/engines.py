"""A Docker Engine that dies when a test says so: the real one, reached through somebody who hangs up.

What a client sees of an engine that is killed is its socket: open connections end, new ones are refused.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit


class DyingEngine:
    """Passes on everything until the engine says ``last_words``; then every connection ends.

    Args:
        path: of its socket.
        last_words: bytes of an answer of the engine's.
        comes_back: whether it answers again at once, as one does that systemd restarts.
    """

    def __init__(self, path: Path, last_words: bytes, *, comes_back: bool) -> None:
        self.address = f"unix://{path}"
        self.has_died = threading.Event()
        self._path = path
        self._last_words = last_words
        self._comes_back = comes_back
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End it for good."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._path.unlink(missing_ok=True)
        self._hang_up()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
                engine = _connect()
            except OSError:
                return
            with self._lock:
                self._open |= {client, engine}
            threading.Thread(target=self._pass_on, args=(client, engine, b""), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(engine, client, self._last_words), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, last_words: bytes) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if last_words and last_words in data and not self.has_died.is_set():
                    self._die()
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _die(self) -> None:
        self.has_died.set()
        if self._comes_back:
            self._hang_up()
        else:
            self.close()

    def _hang_up(self) -> None:
        with self._lock:
            gone, self._open = self._open, set()
        for connection in gone:
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
def dying_engine(folder: Path, last_words: bytes, *, comes_back: bool) -> Iterator[DyingEngine]:
    """An engine with a socket in ``folder``, gone at the end of the block."""
    engine = DyingEngine(folder / "sock", last_words, comes_back=comes_back)
    try:
        yield engine
    finally:
        engine.close()
