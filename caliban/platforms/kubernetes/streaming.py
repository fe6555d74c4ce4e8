"""Responses that are read while they come, as the output of a pod that runs. They may be silent for hours."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import suppress
from threading import Event

from urllib3 import BaseHTTPResponse, PoolManager
from urllib3.exceptions import ReadTimeoutError

from caliban.platforms.kubernetes.transport import (
    CHUNK,
    ClientCall,
    GivenUpError,
    NoResponseError,
    OversizedError,
    Request,
    Response,
)

_MAX_UNREAD = 64
"""Pieces that are kept for a consumer that is slow."""
_LOOK_INTERVAL = 0.2
"""Seconds of real time after which a side notices that the other one has left, or that the command is to stop."""


class ErrorResponseError(Exception):
    """The response is not the requested one.

    Attributes:
        response: with its status and content.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(response.reason)
        self.response = response


def stream(
    pool: PoolManager, request: Request, timeouts: tuple[float, float], stopping: Event, *, ends_when_silent: bool
) -> Iterator[bytes]:
    """Send a request once, and yield its response in pieces, as they come.

    Closing the iterator, or setting ``stopping``, ends the request.

    Args:
        pool: connections, of :func:`caliban.platforms.kubernetes.transport.make_pool`.
        request: what to send.
        timeouts: seconds for a connection, and from one piece to the next.
        stopping: ends the iterator.
        ends_when_silent: whether the iterator ends when no piece came in time; otherwise that is an error.

    Raises:
        ErrorResponseError: the status is not 200, or the response is the page of a gateway or login.
        NoResponseError: there is no response, or it is not complete.
        OversizedError: an error response cannot be read to its end.
    """
    call = _StreamingCall(pool, request, timeouts)
    call.start()
    try:
        while not stopping.is_set():
            try:
                piece = call.pieces.get(timeout=_LOOK_INTERVAL)
            except queue.Empty:
                piece = b""
            if piece:
                yield piece
            elif call.done.is_set() and call.pieces.empty():
                break
        else:
            return
    finally:
        call.give_up()
    if ends_when_silent and isinstance(call.error, ReadTimeoutError):
        return
    if isinstance(call.error, OversizedError):
        raise call.error
    if call.error is not None:
        raise NoResponseError(call.error, was_sent=call.was_sent) from call.error
    if call.response is not None and (call.response.status != 200 or call.is_page):
        raise ErrorResponseError(call.response)


class _StreamingCall(ClientCall):
    """A request on its thread, which passes on the pieces of a good response.

    Attributes:
        pieces: what is passed on.
        is_page: whether the response is HTML, which is nothing that an API server answers.
    """

    def __init__(self, pool: PoolManager, request: Request, timeouts: tuple[float, float]) -> None:
        super().__init__(pool, request, timeouts)
        self.pieces: queue.Queue[bytes] = queue.Queue(_MAX_UNREAD)
        self.is_page = False

    def read(self, response: BaseHTTPResponse) -> bytes:
        """Pass on the pieces; return the content of an error."""
        self.is_page = response.headers.get("Content-Type", "").lower().startswith("text/html")
        if response.status != 200 or self.is_page:
            return super().read(response)
        for piece in _pieces(response):
            self._put(piece)
        return b""

    def on_end(self) -> None:
        """Wake the consumer with an empty piece, if it waits for one."""
        with suppress(queue.Full):
            self.pieces.put_nowait(b"")

    def _put(self, piece: bytes) -> None:
        while not self.is_given_up:
            try:
                self.pieces.put(piece, timeout=_LOOK_INTERVAL)
            except queue.Full:
                continue
            return
        raise GivenUpError


def _pieces(response: BaseHTTPResponse) -> Iterator[bytes]:
    """Yield what was received, without waiting for more."""
    read1 = getattr(response, "read1", None)  # since urllib3 2.2
    if read1 is None or response.headers.get("Transfer-Encoding", "").lower() == "chunked":
        yield from response.stream(CHUNK, decode_content=False)
        return
    while piece := read1(CHUNK, decode_content=False):
        yield piece
