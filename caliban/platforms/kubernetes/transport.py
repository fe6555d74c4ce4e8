"""HTTP with an end: one request, with a deadline for the whole call and a bound on the size of its response.

The timeouts of a socket count from one byte to the next, so a server may stretch a response without end. Each call
therefore runs on a thread of its own, which the caller leaves at the deadline, or at Ctrl-C. A request that was not
written by then is never written.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import urllib3
from urllib3 import BaseHTTPResponse, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, ProtocolError

from caliban.bounded import BODY_LIMIT, TooLargeError, read_limited
from caliban.platforms.kubernetes.proxies import proxy_manager

MAX_BODY = BODY_LIMIT
"""Bytes of a response: a page of 500 jobs has a few MB."""

CHUNK = 2**16
"""Bytes that are read at a time."""
_REPORT_AFTER = 3
"""Seconds after which a message says what is waited for."""


@dataclass(frozen=True)
class Response:
    """A response that was read to its end.

    Attributes:
        status, reason: of the status line.
        headers: by name; the values of a repeated header are joined with commas.
        content: the body.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Request:
    """One HTTP request.

    Attributes:
        method: ``GET``.
        url: the whole URL.
        headers: with the credentials.
        body: of the request, or None.
        repeated: more headers, whose names may occur several times.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    repeated: tuple[tuple[str, str], ...] = ()


class NoResponseError(Exception):
    """A request without a response.

    Attributes:
        error: an exception of urllib3, or a TimeoutError.
        was_sent: whether any of the request may have been written to a connection.
    """

    def __init__(self, error: Exception, *, was_sent: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.was_sent = was_sent


class OversizedError(Exception):
    """A response is larger than it may be, or not encoded as requested."""


def exchange(
    pool: PoolManager, request: Request, timeouts: tuple[float, float], on_wait: Callable[[], None] = lambda: None
) -> Response:
    """Send a request once, and return the response, whatever its status. Redirects are not followed.

    Args:
        pool: connections, of :func:`make_pool`.
        request: what to send.
        timeouts: seconds for a connection, and for the response; their sum is the deadline of the whole call.
        on_wait: called when the call takes longer than a few seconds.

    Raises:
        NoResponseError: there is none.
        OversizedError: it cannot be read to its end.
    """
    call = ClientCall(pool, request, timeouts)
    call.start()
    total = sum(timeouts)
    try:
        # In real time, like the timeouts of sockets.
        if total > _REPORT_AFTER and not call.done.wait(_REPORT_AFTER):
            on_wait()
            total -= _REPORT_AFTER
        is_done = call.done.wait(total)
    except BaseException:
        call.give_up()
        raise
    if not is_done:
        was_sent = call.give_up()
        raise NoResponseError(TimeoutError(f"no complete response within {sum(timeouts):.0f} s"), was_sent=was_sent)
    if call.error is not None:
        if isinstance(call.error, OversizedError):
            raise call.error
        raise NoResponseError(call.error, was_sent=call.was_sent) from call.error
    assert call.response is not None
    return call.response


class GivenUpError(Exception):
    """The caller of a call does not wait for it any more."""


class ClientCall:
    """A request on its thread.

    Attributes:
        done: set at the end.
        was_sent: whether any of the request may have been written.
        response, error: how it ended.
    """

    def __init__(self, pool: PoolManager, request: Request, timeouts: tuple[float, float]) -> None:
        self._pool, self._request, self._timeouts = pool, request, timeouts
        self._lock = threading.Lock()
        self._is_given_up = False
        self._socket: socket.socket | None = None
        self.done = threading.Event()
        self.was_sent = False
        self.response: Response | None = None
        self.error: Exception | None = None

    def start(self) -> None:
        """Make the request on a thread that nobody has to wait for."""
        threading.Thread(target=self._run, name="kubernetes-request", daemon=True).start()

    @property
    def is_given_up(self) -> bool:
        """Whether the caller has left."""
        return self._is_given_up

    def read(self, response: BaseHTTPResponse) -> bytes:
        """Return the body of a response, decompressed.

        Raises:
            OversizedError: there is too much of it, or it is compressed in a way that was not requested.
        """
        return _read(response)

    def _run(self) -> None:
        _current.call = self
        try:
            self.response = self._send()
        except (HTTPError, OversizedError, OSError, GivenUpError) as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - whatever http.client raises of an odd response is no response
            self.error = ProtocolError(f"malformed response: {type(error).__name__}")
        finally:
            with self._lock:
                if self._socket is not None:
                    self._socket.close()
                    self._socket = None
            self.done.set()
            self.on_end()

    def on_end(self) -> None:
        """Called on the thread when the call has ended."""

    def give_up(self) -> bool:
        """End the call; return whether any of the request may have been written."""
        with self._lock:
            self._is_given_up = True
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
            return self.was_sent

    def watch(self, connected: socket.socket) -> None:
        """Remember the connection, so that :meth:`give_up` can end it. TLS takes over the socket: it is duplicated."""
        with self._lock:
            if self._is_given_up:
                raise GivenUpError
            if self._socket is not None:
                self._socket.close()
            self._socket = socket.socket(fileno=os.dup(connected.fileno()))

    def begin(self) -> None:
        """Note that the request is about to be written."""
        with self._lock:
            if self._is_given_up:
                raise GivenUpError
            self.was_sent = True

    def _send(self) -> Response:
        request = self._request
        headers = urllib3.HTTPHeaderDict({"Accept-Encoding": "identity", **request.headers})
        for name, value in request.repeated:
            headers.add(name, value)
        found = self._pool.request(
            request.method,
            request.url,
            body=request.body,
            headers=headers,
            timeout=urllib3.Timeout(connect=self._timeouts[0], read=self._timeouts[1]),
            preload_content=False,
            redirect=False,
            retries=False,
        )
        try:
            content = self.read(found)
        except BaseException:
            found.close()
            raise
        found.release_conn()
        return Response(found.status, str(found.reason or ""), dict(found.headers.itermerged()), content)


class _Current(threading.local):
    call: ClientCall | None = None


_current = _Current()


class _Plain(HTTPConnection):
    """A connection that belongs to the current call from its first packet, and connects before a request begins."""

    def _new_conn(self) -> socket.socket:
        return _watched(super()._new_conn())

    def request(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 - as urllib3 calls it
        if self.sock is None:
            self.connect()
        _begin(self)
        super().request(*args, **more)


class _Tls(_Plain, HTTPSConnection):
    """The same with TLS, whose connection is a kind of the plain one in urllib3, too."""


@cache
def _socks_pools() -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """Return the same by a SOCKS proxy; for few users, and imported late therefore."""
    from urllib3.contrib.socks import SOCKSConnection, SOCKSHTTPSConnection

    class Plain(_Plain, SOCKSConnection):
        pass

    class Tls(Plain, SOCKSHTTPSConnection):
        pass

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Tls


def make_pool(proxy: str | None = None, **options: Any) -> PoolManager:  # noqa: ANN401 - of urllib3
    """Return a pool of connections for :func:`exchange`.

    Args:
        proxy: the URL of a proxy (see :func:`caliban.platforms.kubernetes.proxies.checked_proxy`), or None.
        options: of ``urllib3.PoolManager``: ``ssl_context``.
    """
    made = proxy_manager(proxy, maxsize=8, **options) if proxy else PoolManager(maxsize=8, **options)
    is_socks = proxy is not None and proxy.startswith("socks")
    made.pool_classes_by_scheme = _socks_pools() if is_socks else {"http": _PlainPool, "https": _TlsPool}
    return made


def _watched(connected: socket.socket) -> socket.socket:
    call = _current.call
    if call is not None:
        try:
            call.watch(connected)
        except GivenUpError:
            connected.close()
            raise
    return connected


def _begin(connection: Any) -> None:  # noqa: ANN401 - one of urllib3
    call = _current.call
    if call is not None:
        inner = getattr(connection.sock, "socket", connection.sock)  # below TLS within the TLS of an https proxy
        if isinstance(inner, socket.socket):  # one that was kept alive is not watched yet
            call.watch(inner)
        call.begin()


def _read(response: BaseHTTPResponse) -> bytes:
    """Return the body, decompressed.

    Raises:
        OversizedError: there is too much of it, or it is compressed in a way that was not requested.
    """
    chunks = iter(lambda: response.read(CHUNK, decode_content=False), b"")
    try:
        return read_limited(chunks, response.headers.get("Content-Encoding", ""), MAX_BODY)
    except (TooLargeError, ValueError) as error:
        raise OversizedError(str(error)) from error
