"""A stream of the Docker Engine has a connection of its own: closing it ends no other request."""

from __future__ import annotations

import itertools
import socketserver
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from caliban.images.docker.engine import Engine
from tests.serving import UnixHandler, serve_in_thread


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str) -> None:
        super().__init__(path, _Handler)
        self.numbers = itertools.count()
        self.requests: list[tuple[str, int]] = []


class _Handler(UnixHandler):
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.number = next(self.server.numbers)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/v1.41")
        self.server.requests.append((path, self.number))
        self.reply(b'{"ApiVersion": "1.41"}')


@pytest.fixture
def server() -> Iterator[_Server]:
    with TemporaryDirectory(dir="/tmp") as directory:
        server = _Server(str(Path(directory, "sock")))
        with serve_in_thread(server):
            yield server


def test_requests_share_a_connection_and_a_stream_has_its_own(server: _Server) -> None:
    with closing(Engine.connect({"DOCKER_HOST": f"unix://{server.server_address}"})) as engine:
        engine.ask(lambda api: api.info())
        list(engine.ask(lambda api: api.events()))
        engine.ask(lambda api: api.info())
        list(engine.ask(lambda api: api.events()))
    (_, info), (_, stream), (_, again), (_, second_stream) = server.requests[-4:]
    assert info == again
    assert len({info, stream, second_stream}) == 3
