"""Every request ends: at a deadline for the whole call, and at a bound on the size of its response."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from caliban.platforms.kubernetes import transport
from caliban.platforms.kubernetes.transport import NoResponseError, OversizedError, Request, exchange, make_pool
from tests.platforms.kubernetes.raw_server import RawServer, http

TIMEOUTS = (0.2, 0.3)


def ask(
    server: RawServer,
    timeouts: tuple[float, float] = (5, 5),
    method: str = "GET",
    on_wait: Callable[[], None] = lambda: None,
) -> transport.Response:
    return exchange(make_pool(), Request(method, f"http://127.0.0.1:{server.port}/x", {}), timeouts, on_wait)


def replying(data: bytes) -> Callable[[RawServer, socket.socket], None]:
    def handle(server: RawServer, connection: socket.socket) -> None:
        server.read(connection)
        connection.sendall(data)

    return handle


def dripping(first: bytes, endless: bytes) -> Callable[[RawServer, socket.socket], None]:
    def handle(server: RawServer, connection: socket.socket) -> None:
        server.read(connection)
        connection.sendall(first)
        server.drip(connection, endless)

    return handle


def silent(server: RawServer, connection: socket.socket) -> None:
    server.closing.wait(60)


def test_a_response_has_status_headers_and_content() -> None:
    with RawServer(replying(http(b"{}", "403 Forbidden", "X-Y: z"))) as server:
        response = ask(server)
    assert (response.status, response.reason, response.headers["X-Y"], response.content) == (
        403,
        "Forbidden",
        "z",
        b"{}",
    )


@pytest.mark.parametrize(
    ("first", "endless"),
    [
        (b"", b"HTTP/1.1 200 OK"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    ],
)
def test_a_response_that_never_ends_is_left_at_the_deadline(first: bytes, endless: bytes) -> None:
    with RawServer(dripping(first, endless)) as server, pytest.raises(NoResponseError) as caught:
        ask(server, TIMEOUTS)
    assert (caught.value.was_sent, type(caught.value.error)) == (True, TimeoutError)


def test_a_silent_server_is_left_at_the_read_timeout() -> None:
    with RawServer(silent) as server, pytest.raises(NoResponseError) as caught:
        ask(server, TIMEOUTS)
    assert caught.value.was_sent


def test_a_request_that_was_not_written_at_the_deadline_is_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved, proceed, ended = threading.Event(), threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def resolve(*arguments: object, **more: object) -> object:
        resolved.set()
        assert proceed.wait(60)
        return real(*arguments, **more)  # type: ignore[arg-type]

    run = transport.ClientCall._run

    def run_and_note(call: transport.ClientCall) -> None:
        run(call)
        ended.set()

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(transport.ClientCall, "_run", run_and_note)
    with RawServer(replying(http(b"{}"))) as server:
        with pytest.raises(NoResponseError) as caught:
            ask(server, TIMEOUTS, "POST")
        assert resolved.is_set()
        assert not caught.value.was_sent
        proceed.set()
        assert ended.wait(60)
        assert b"".join(server.received) == b""


def test_the_user_is_told_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_REPORT_AFTER", 0.05)
    told: list[str] = []
    with RawServer(dripping(b"", b"x")) as server, pytest.raises(NoResponseError):
        ask(server, TIMEOUTS, on_wait=lambda: told.append("waiting"))
    assert told == ["waiting"]


def test_a_response_that_is_too_large_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_BODY", 1000)
    with (
        RawServer(dripping(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 70_000, b"x" * 70_000)) as server,
        pytest.raises(OversizedError),
    ):
        ask(server)


def test_a_compressed_response_is_read_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(replying(http(gzip.compress(b"{}"), "200 OK", "Content-Encoding: gzip"))) as server:
        assert ask(server).content == b"{}"
    monkeypatch.setattr(transport, "MAX_BODY", 2**20)
    bomb = gzip.compress(bytes(2**26))
    with RawServer(replying(http(bomb, "200 OK", "Content-Encoding: gzip"))) as server, pytest.raises(OversizedError):
        ask(server)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x" * 10_000])
def test_a_response_that_is_compressed_in_another_way_is_not_read(encoding: str) -> None:
    with (
        RawServer(replying(http(b"{}", "200 OK", f"Content-Encoding: {encoding}"))) as server,
        pytest.raises(OversizedError),
    ):
        ask(server)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 99999999999999999999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx",
    ],
)
def test_an_odd_response_is_an_error_or_a_response(data: bytes) -> None:
    with RawServer(replying(data)) as server, suppress(OversizedError):
        try:
            assert isinstance(ask(server).content, bytes)
        except NoResponseError as error:
            assert error.was_sent  # noqa: PT017 - either is right


def test_a_redirect_is_not_followed() -> None:
    with RawServer(replying(http(b"{}"))) as other:
        reply = http(b"", "307 Temporary Redirect", f"Location: http://127.0.0.1:{other.port}/")
        with RawServer(replying(reply)) as server:
            assert ask(server).status == 307
    assert other.connections == 0
