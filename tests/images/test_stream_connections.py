"""A stream of the Docker Engine is that of its own request, whatever other threads request meanwhile."""

from __future__ import annotations

import itertools
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit

import docker
import pytest

from caliban.images.docker.engine import Engine
from caliban.images.docker.events import streamed_events
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

    def do_POST(self) -> None:
        self.reply(json.dumps({"status": parse_qs(urlsplit(self.path).query)["fromImage"][0]}).encode())


class Patience:
    """Waits for as long as it takes."""

    def on_silence(self, seconds: float) -> None:
        """Go on."""

    def on_progress(self) -> None:
        """Go on."""


@pytest.fixture
def server() -> Iterator[_Server]:
    with TemporaryDirectory(dir="/tmp") as directory:
        server = _Server(str(Path(directory, "sock")))
        with serve_in_thread(server):
            yield server


def connected(server: _Server) -> closing[Engine]:
    return closing(Engine.connect({"DOCKER_HOST": f"unix://{server.server_address}"}))


def test_requests_share_a_connection_and_a_stream_has_its_own(server: _Server) -> None:
    with connected(server) as engine:
        engine.ask(lambda api: api.info())
        list(engine.ask(lambda api: api.events()))
        engine.ask(lambda api: api.info())
        list(engine.ask(lambda api: api.events()))
    (_, info), (_, stream), (_, again), (_, second_stream) = server.requests[-4:]
    assert info == again
    assert len({info, stream, second_stream}) == 3


def test_events_are_those_of_the_request_whatever_another_thread_requests(server: _Server) -> None:
    def pull(api: docker.APIClient, go_on: Callable[[], None]) -> None:
        api.pull("mine:1", stream=True)
        other = threading.Thread(target=lambda: api.pull("other:1", stream=True))
        other.start()
        other.join()

    with connected(server) as engine, streamed_events(engine, pull, Patience()) as events:
        assert [event["status"] for event in events if event] == ["mine"]
