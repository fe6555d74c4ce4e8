"""HTTP requests that end: a deadline from connecting to the last byte, and a limit of what is received.

The timeouts of urllib3 and requests count from one byte to the next, so that a server that sends one byte a second, or
``100 Continue`` for ever, is never given up; and they decompress bodies of any size into memory.
"""

from __future__ import annotations

import http.client
import http.cookiejar
import io
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast
from urllib.parse import urlsplit

import requests
import requests.adapters
import requests.exceptions
import urllib3
import urllib3.connection
import urllib3.connectionpool
from urllib3.exceptions import ConnectTimeoutError, ProtocolError, ReadTimeoutError
from urllib3.util.wait import wait_for_read

from caliban.bounded import (
    BODY_LIMIT,
    Budget,
    DeadlineExceededError,
    TooLargeError,
    current_budget,
    limited,
    read_limited,
)
from caliban.clock import Clock
from caliban.urls import is_loopback

_PIECE = 1 << 16
_HEAD_LIMIT = 1 << 20
"""Bytes of status lines and headers, with what is buffered of the body."""
_BODY_HEADERS = frozenset({"content-encoding", "content-length", "transfer-encoding"})


@dataclass(frozen=True)
class Limits:
    """What each request may take.

    Attributes:
        clock: counts the seconds.
        seconds: from connecting to the last byte of the answer.
        body_bytes: of the answer, decompressed.
        on_slow: called once for each request whose answer takes more than some seconds.
    """

    clock: Clock
    seconds: float
    body_bytes: int = BODY_LIMIT
    on_slow: Callable[[], None] = lambda: None


def limit_pools(manager: urllib3.PoolManager, limits: Limits, *, by_socks: bool = False) -> None:
    """Apply limits to every request of a urllib3 pool manager that has not connected yet.

    Answers are read whole, also those that a caller would read piece by piece. Too slow an answer is a
    ``ReadTimeoutError`` of urllib3, one that is too large or not decompressible a ``ProtocolError``.

    Args:
        manager: of urllib3.
        limits: of each request.
        by_socks: whether it connects by a SOCKS proxy.
    """
    plain, tls = _socks_connections() if by_socks else (_HttpConnection, _HttpsConnection)
    manager.pool_classes_by_scheme = _pool_classes(limits, plain, tls)


class LimitedSession(requests.Session):
    """A session whose requests end, go where they are sent, and carry no credentials but those they are given.

    Redirects are not followed: a login or token is for one host only. ``~/.netrc`` and cookies are not sent. The errors
    are those of requests.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        adapter = _Adapter(limits)
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)
        self.headers["Accept-Encoding"] = "gzip, deflate"
        self.auth = keep_authorization
        self.cookies.set_policy(_NoCookies())

    def merge_environment_settings(
        self,
        url: Any,  # noqa: ANN401 - those of requests
        *args: Any,  # noqa: ANN401 - as above
        **kwargs: Any,  # noqa: ANN401 - as above
    ) -> Any:  # noqa: ANN401 - as above
        """Return the settings of the environment; no proxy for this machine, which it could not reach, and would see
        what is sent there without TLS.
        """
        settings: Any = super().merge_environment_settings(url, *args, **kwargs)
        return {**settings, "proxies": {}} if is_loopback(urlsplit(str(url)).hostname or "") else settings

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: redirects are answers."""


def keep_authorization(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave a request as it is. Without an ``auth``, requests sends the login that ``~/.netrc`` has for the host."""
    return request


class _NoCookies(http.cookiejar.DefaultCookiePolicy):
    def __init__(self) -> None:
        super().__init__(allowed_domains=())


class _Adapter(requests.adapters.HTTPAdapter):
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - those of requests
        super().init_poolmanager(*args, **kwargs)
        limit_pools(self.poolmanager, self._limits)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> urllib3.ProxyManager:  # noqa: ANN401 - as above
        is_new = proxy not in self.proxy_manager
        try:
            manager = cast("urllib3.ProxyManager", super().proxy_manager_for(proxy, **kwargs))
        except ValueError as error:
            if isinstance(error, requests.RequestException):
                raise
            # urllib3's text has the proxy's URL with its password
            raise requests.exceptions.InvalidProxyURL(
                "the URL of the proxy is not one of http, https or SOCKS"
            ) from None
        if is_new:
            limit_pools(manager, self._limits, by_socks=proxy.lower().startswith("socks"))
        return manager


class _LimitedReader(io.RawIOBase):
    """What is received on a connection, within the budget of the call."""

    def __init__(self, raw: io.RawIOBase, sock: Any) -> None:  # noqa: ANN401 - a socket, or urllib3's TLS in TLS
        self._raw = raw
        self._sock = sock
        self._timeout: float | None = sock.gettimeout()
        self.head_bytes_left: int | None = _HEAD_LIMIT
        """How much of status lines and headers is still read; None once they have ended."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - a writable buffer
        budget = current_budget()
        if budget is None:
            return self._raw.readinto(buffer)
        self._report_slowness(budget)
        self._sock.settimeout(self._seconds_to_wait(budget))
        count = self._raw.readinto(buffer)
        budget.spend(count or 0)
        self._spend_head(count or 0)
        return count

    def _report_slowness(self, budget: Budget) -> None:
        """Report a slow answer before waiting for more of it."""
        seconds = budget.seconds_until_slow()
        if seconds is None or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
            return
        if seconds >= self._seconds_to_wait(budget):  # it is given up before it is slow
            return
        if seconds <= 0 or not wait_for_read(self._sock, seconds):
            budget.report_slow()

    def _seconds_to_wait(self, budget: Budget) -> float:
        left = budget.seconds_left()
        return left if self._timeout is None else min(left, self._timeout)

    def _spend_head(self, count: int) -> None:
        if self.head_bytes_left is not None:
            self.head_bytes_left -= count
            if self.head_bytes_left < 0:
                raise TooLargeError("the answer starts with too many headers or interim answers")

    def close(self) -> None:
        self._raw.close()
        super().close()


class _LimitedResponse(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - those of http.client
        super().__init__(sock, *args, **kwargs)
        self._reader = _LimitedReader(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        """Read the status line and headers, and those of interim answers (``100 Continue``), of which it skips any
        number.
        """
        super().begin()
        self._reader.head_bytes_left = None


class _HttpConnection(urllib3.connection.HTTPConnection):
    response_class = _LimitedResponse

    def _new_conn(self) -> socket.socket:
        return _connected(self, super()._new_conn)


class _HttpsConnection(urllib3.connection.HTTPSConnection):
    response_class = _LimitedResponse

    def _new_conn(self) -> socket.socket:
        return _connected(self, super()._new_conn)


def _connected(connection: urllib3.connection.HTTPConnection, connect: Callable[[], socket.socket]) -> socket.socket:
    """Return a new socket within the budget of the call.

    The operating system resolves the name, which takes as long as its servers are silent and cannot be interrupted, not
    even by Ctrl-C; and each address of the name has a timeout of its own. So it is done on another thread.
    """
    budget = current_budget()
    if budget is None:
        return connect()
    attempt = _Attempt(connect)
    try:
        if not budget.wait_for(attempt.done):
            raise ConnectTimeoutError(connection, f"no connection to {connection.host} before the deadline")
        return attempt.result()
    except DeadlineExceededError as error:
        raise ConnectTimeoutError(connection, str(error)) from error
    finally:
        attempt.leave()


class _Attempt:
    """A connection that is made on a thread of its own, and closed when nobody wants it any more."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self.done = threading.Event()
        self._lock = threading.Lock()
        self._is_left = False
        self._connect = connect
        self._socket: socket.socket | None = None
        self._failure: BaseException | None = None
        threading.Thread(target=self._run, name="connect", daemon=True).start()

    def result(self) -> socket.socket:
        """Return the connection, which is the caller's from now on, or raise why there is none."""
        if self._failure is not None:
            raise self._failure
        found, self._socket = self._socket, None
        assert found is not None
        return found

    def leave(self) -> None:
        """Close what was not taken, now or when it is made."""
        with self._lock:
            self._is_left = True
            if self._socket is not None:
                self._socket.close()

    def _run(self) -> None:
        try:
            made = self._connect()
            with self._lock:
                self._socket = made
                if self._is_left:
                    made.close()
        except BaseException as error:  # noqa: BLE001 - for the caller's thread
            self._failure = error
        finally:
            self.done.set()


@cache
def _socks_connections() -> tuple[type[_HttpConnection], type[_HttpsConnection]]:
    """Return the connections by a SOCKS proxy; for few users, and imported late therefore."""
    from urllib3.contrib.socks import SOCKSConnection, SOCKSHTTPSConnection

    class Plain(_HttpConnection, SOCKSConnection):
        pass

    class Tls(_HttpsConnection, SOCKSHTTPSConnection):
        pass

    return Plain, Tls


def _pool_classes(
    limits: Limits, plain: type[_HttpConnection], tls: type[_HttpsConnection]
) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    class HTTPConnectionPool(urllib3.HTTPConnectionPool):
        ConnectionCls = plain

        def urlopen(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - those of urllib3
            return _urlopen(super().urlopen, limits, self, method, url, *args, **kwargs)

    class HTTPSConnectionPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = tls

        def urlopen(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - those of urllib3
            return _urlopen(super().urlopen, limits, self, method, url, *args, **kwargs)

    return {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}  # named in messages of urllib3


def _urlopen(
    send: Callable[..., Any],
    limits: Limits,
    pool: urllib3.HTTPConnectionPool,
    method: str,
    url: str,
    *args: Any,  # noqa: ANN401 - those of urllib3
    **kwargs: Any,  # noqa: ANN401 - those of urllib3
) -> urllib3.HTTPResponse:
    """Send a request, and read its answer whole, within the limits."""
    preload = kwargs.pop("preload_content", True)
    kwargs.pop("decode_content", None)
    # Compressed, a body is smaller; the largest one that is not compressed must fit.
    with limited(Budget(limits.clock, limits.seconds, limits.body_bytes + (1 << 20), limits.on_slow)):
        response = send(method, url, *args, preload_content=False, decode_content=False, **kwargs)
        try:
            content = _read(response, limits.body_bytes)
        except DeadlineExceededError as error:
            response.close()
            raise ReadTimeoutError(pool, url, str(error)) from error
        except (OSError, ValueError) as error:
            response.close()
            raise ProtocolError(str(error), error) from error
        except BaseException:  # Ctrl-C, too, must not leave the connection half read
            response.close()
            raise
    return urllib3.HTTPResponse(
        body=io.BytesIO(content),
        headers=_without_body_headers(response.headers),
        status=response.status,
        version=response.version,
        reason=response.reason,
        preload_content=preload,
        decode_content=False,
        request_method=method,
        request_url=url,
    )


def _read(response: urllib3.HTTPResponse, limit: int) -> bytes:
    def chunks() -> Any:  # noqa: ANN401 - an iterator of bytes
        while piece := response.read(_PIECE, decode_content=False):
            yield piece

    content = read_limited(chunks(), response.headers.get("content-encoding", ""), limit)
    response.release_conn()
    return content


def _without_body_headers(headers: Mapping[str, str]) -> urllib3.HTTPHeaderDict:
    kept = urllib3.HTTPHeaderDict()
    for name, value in headers.items():
        if name.lower() not in _BODY_HEADERS:
            kept.add(name, value)
    return kept
