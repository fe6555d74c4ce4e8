"""Requests that the Docker Engine answers with a stream of events: builds and pushes.

They are made on a thread of their own, so that the command can see a silence, give up, and react to Ctrl-C at once.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from caliban.bounded import MEBIBYTE, TooLargeError, parse_json
from caliban.images.docker.silence import INTERVAL
from caliban.threads import Watch, watched

if TYPE_CHECKING:
    import docker
    import requests

    from caliban.images.docker.engine import Engine

EVENT_LIMIT = 4 * MEBIBYTE
"""Bytes of one event: a line of output is one, however long it is."""

_PIECE = 1 << 16
_SIGNS = ("stream", "status", "aux", "error", "message", "progress", "progressDetail")
"""What an event has that reports something (github.com/moby/moby/blob/master/pkg/jsonmessage/jsonmessage.go)."""

Request = Callable[["docker.APIClient", Callable[[], None]], object]
"""Makes a request with ``stream``; gets a function to call when a part of it was sent."""


@contextmanager
def streamed_events(engine: Engine, request: Request, watch: Watch) -> Iterator[Iterator[Mapping[str, object]]]:
    """Make a request, and give the events of its answer; the connection is closed at the end of the block.

    The first one is empty: it means that the engine has got the whole request.

    Raises:
        TooLargeError: an event is too large.
        ValueError: what arrives is not the answer of a Docker Engine.
        Exception: whatever docker-py, ``request`` or ``watch`` raise.
    """
    connection = _Connection()

    def produce(go_on: Callable[[], None]) -> Generator[Mapping[str, object], None, None]:
        with _response(engine, request, go_on) as response:
            connection.opened(response)
            yield {}
            yield from read_events(response.iter_content(_PIECE))

    with closing(connection), closing(watched(produce, engine.clock, watch, INTERVAL)) as events:
        yield events


@contextmanager
def _response(engine: Engine, request: Request, go_on: Callable[[], None]) -> Iterator[requests.Response]:
    """Make a request and give its response, which docker-py does not return; close it at the end of the block."""
    responses: list[requests.Response] = []
    thread = threading.get_ident()

    def keep(response: requests.Response, *_: object, **how: object) -> None:
        if how.get("stream") and threading.get_ident() == thread:  # others make requests meanwhile
            responses.append(response)

    api = engine.client.api
    api.hooks["response"].append(keep)
    try:
        request(api, go_on)
    finally:
        api.hooks["response"].remove(keep)
    with closing(responses[-1]) as response:
        yield response


class _Connection:
    """The connection of a response that another thread reads: only its socket can be closed under that thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_closed = False

    def opened(self, response: requests.Response) -> None:
        # None where the answer was read to its end already
        with self._lock, suppress(AttributeError, OSError, ValueError):
            self._socket = socket.socket(fileno=os.dup(response.raw.fileno()))
            if self._is_closed:
                self._shut_down()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with self._socket, suppress(OSError):  # the engine has closed it
                self._socket.shutdown(socket.SHUT_RDWR)


def read_events(pieces: Iterator[bytes]) -> Iterator[Mapping[str, object]]:
    """Yield those events of an answer that report something. Each is a line, however it is cut into pieces.

    Raises:
        TooLargeError: an event is too large.
        ValueError: a line is not a JSON object.
    """
    line = bytearray()
    for piece in pieces:
        *ends, rest = piece.split(b"\n")
        for end in ends:
            _extend(line, end)
            yield from _event(bytes(line))
            line.clear()
        _extend(line, rest)
    with suppress(ValueError):  # the connection was broken in the middle of it
        yield from _event(bytes(line))


def _extend(line: bytearray, part: bytes) -> None:
    line += part
    if len(line) > EVENT_LIMIT:
        raise TooLargeError(f"an event is larger than {EVENT_LIMIT // MEBIBYTE} MiB")


def _event(line: bytes) -> Iterator[Mapping[str, object]]:
    if not line.strip():
        return
    event = parse_json(line)
    if not isinstance(event, Mapping):
        raise ValueError("an event is no JSON object")
    if any(event.get(key) for key in _SIGNS):
        yield event
