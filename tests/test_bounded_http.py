"""Requests end, whatever the server sends, and go nowhere but to it."""

from __future__ import annotations

import gzip
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import requests
import urllib3

from caliban.bounded_http import LimitedSession, Limits, limit_pools
from tests.fakes import FakeClock
from tests.proxies import ProxyServer
from tests.serving import serve_in_thread

HEAD = b"HTTP/1.1 200 OK\r\n"


class TickingClock(FakeClock):
    """A clock that advances by a second each time it is read."""

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds


Answer = Callable[[socket.socket], None]


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    """Serve connections one after the other: read a request, then ``answer``; yield the URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.recv(1 << 16)
                    answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def session(clock: FakeClock | None = None, seconds: float = 30, body_bytes: int = 1000) -> LimitedSession:
    made = LimitedSession(Limits(clock or FakeClock(), seconds, body_bytes))
    made.trust_env = False
    return made


def get(url: str, clock: FakeClock | None = None, **limits: int) -> requests.Response:
    with session(clock, **limits) as made:
        return made.get(url, timeout=(5, 5))


def endlessly(piece: bytes, start: bytes = b"") -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)

    return answer


SLOW = {
    "a status line": endlessly(b"H", b"HTTP/1.1 200 "),
    "headers": endlessly(b"X-A: 1\r\n", HEAD),
    "interim answers": endlessly(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body without a length": endlessly(b"x", HEAD + b"\r\n"),
    "a body of a promised length": endlessly(b"x", HEAD + b"Content-Length: 9999999\r\n\r\n"),
    "chunks": endlessly(b"1\r\nx\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
    "the length of a chunk": endlessly(b"0", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
    "trailers": endlessly(b"X-A: 1\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"),
    "empty gzip members": endlessly(gzip.compress(b""), HEAD + b"Content-Encoding: gzip\r\n\r\n"),
}


@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW.keys())
def test_an_answer_that_never_ends_is_given_up_at_the_deadline(answer: Answer) -> None:
    with server(answer) as url, pytest.raises(requests.RequestException):
        get(url, TickingClock())


@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW.keys())
def test_an_answer_that_never_ends_is_given_up_when_it_is_too_large(answer: Answer) -> None:
    with server(answer) as url, pytest.raises(requests.RequestException):
        get(url)


@contextmanager
def by_socks(url: str, clock: FakeClock | None = None) -> Iterator[tuple[LimitedSession, str]]:
    """Yield a session with a SOCKS proxy, and the URL of a server by a name that only the proxy knows."""
    with ProxyServer("socks5") as proxy, session(clock) as made:
        made.proxies = {"http": f"socks5h://127.0.0.1:{proxy.port}"}
        yield made, url.replace("127.0.0.1", "api.example.com")


def test_an_answer_by_a_socks_proxy_is_read() -> None:
    with (
        server(lambda connection: connection.sendall(HEAD + b"Content-Length: 2\r\n\r\nok")) as url,
        by_socks(url) as (made, at),
    ):
        assert made.get(at, timeout=(5, 5)).content == b"ok"


def test_an_answer_by_a_socks_proxy_that_never_ends_is_given_up_at_the_deadline() -> None:
    with (
        server(SLOW["chunks"]) as url,
        by_socks(url, TickingClock()) as (made, at),
        pytest.raises(requests.RequestException),
    ):
        made.get(at, timeout=(5, 5))


def test_a_proxy_of_an_unknown_kind_is_an_error_of_requests_without_its_password() -> None:
    with session() as made, pytest.raises(requests.exceptions.InvalidProxyURL) as caught:
        made.get("http://api.example.com", proxies={"http": "socks9://me:secret@127.0.0.1:1"})
    assert "secret" not in str(caught.value)


def test_a_slow_answer_is_a_timeout() -> None:
    with server(SLOW["a body of a promised length"]) as url, pytest.raises(requests.Timeout):
        get(url, TickingClock(), seconds=3)


def test_a_silent_server_is_given_up_at_the_deadline_though_the_timeout_is_longer() -> None:
    silence = threading.Event()

    def answer(connection: socket.socket) -> None:
        silence.wait(20)

    with server(answer) as url:
        with pytest.raises(requests.Timeout):
            LimitedSession(Limits(FakeClock(), 0.05)).get(url, timeout=(5, 60))
        silence.set()


def test_a_body_that_decompresses_beyond_the_limit_is_an_error() -> None:
    bomb = gzip.compress(bytes(100_000_000))
    answer = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb
    too_large = pytest.raises(requests.ConnectionError, match="larger than 1 MiB")
    with server(lambda connection: connection.sendall(answer)) as url, too_large:
        get(url, body_bytes=1 << 20)


def test_a_truncated_body_is_an_error() -> None:
    answer = HEAD + b"Content-Length: 10\r\n\r\nabc"
    with server(lambda connection: connection.sendall(answer)) as url, pytest.raises(requests.ConnectionError):
        get(url)


@pytest.mark.parametrize("content", [b"", b"abc"])
def test_a_body_is_decompressed(content: bytes) -> None:
    body = gzip.compress(content)
    answer = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\nX-A: 1\r\n\r\n" % len(body) + body
    with server(lambda connection: connection.sendall(answer)) as url:
        answered = get(url)
    assert (answered.status_code, answered.content, answered.headers["x-a"]) == (200, content, "1")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(307 if self.path == "/moved" else 200)
        self.send_header("Location", "/elsewhere")
        self.send_header("Set-Cookie", "a=b; Path=/")
        body = f"{self.client_address[1]} {self.headers.get('Authorization')} {self.headers.get('Cookie')}".encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def web() -> Iterator[str]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serve_in_thread(made):
        yield f"http://127.0.0.1:{made.server_address[1]}"


def test_connections_are_used_again(web: str) -> None:
    with session() as made:
        assert len({made.get(web, timeout=5).text.split()[0] for _ in range(3)}) == 1


def test_redirects_are_not_followed(web: str) -> None:
    with session() as made:
        assert made.get(f"{web}/moved", timeout=5).status_code == 307


def test_neither_a_stored_login_nor_a_cookie_is_sent(
    web: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = f"{tmp_path}/netrc"
    with open(netrc, "w", encoding="ascii") as file:  # noqa: PTH123 - a path of the test
        file.write("machine 127.0.0.1 login totoro password secret\n")
    monkeypatch.setenv("NETRC", netrc)
    with LimitedSession(Limits(FakeClock(), 30)) as made:
        made.get(web, timeout=5)
        assert made.get(web, timeout=5).text.split()[1:] == ["None", "None"]


def test_the_pools_of_other_libraries_are_limited_as_well() -> None:
    pools = urllib3.PoolManager(retries=False)
    limit_pools(pools, Limits(FakeClock(), 30, 1000))
    with server(SLOW["chunks"]) as url, pytest.raises(urllib3.exceptions.ProtocolError):
        pools.request("GET", url, timeout=5, preload_content=False)


def test_a_deadline_of_other_libraries_is_a_timeout() -> None:
    pools = urllib3.PoolManager(retries=False)
    limit_pools(pools, Limits(TickingClock(), 5))
    with server(SLOW["interim answers"]) as url, pytest.raises(urllib3.exceptions.ReadTimeoutError):
        pools.request("GET", url, timeout=5)


def test_an_answer_of_other_libraries_is_read_as_they_ask(web: str) -> None:
    pools = urllib3.PoolManager(retries=False)
    limit_pools(pools, Limits(FakeClock(), 30))
    assert pools.request("GET", web).data == pools.request("GET", web, preload_content=False).data


def test_interim_answers_are_given_up_long_before_the_limit_of_the_body() -> None:
    with server(SLOW["interim answers"]) as url, pytest.raises(requests.ConnectionError, match="interim answers"):
        get(url, body_bytes=1 << 40)


def test_a_slow_answer_is_reported_once() -> None:
    told: list[str] = []
    limits = Limits(TickingClock(), 30, on_slow=lambda: told.append("slow"))
    timeout = pytest.raises(requests.Timeout)
    with server(SLOW["a body of a promised length"]) as url, LimitedSession(limits) as made, timeout:
        made.get(url, timeout=5)
    assert told == ["slow"]


def test_an_answer_in_time_is_not_reported(web: str) -> None:
    told: list[str] = []
    with LimitedSession(Limits(FakeClock(), 1000, on_slow=lambda: told.append("slow"))) as made:
        made.get(web, timeout=5)
    assert told == []


class PassingClock(FakeClock):
    """Lets deadlines pass at once for what other threads do, too."""

    def wait_in_background(self, event: threading.Event, seconds: float) -> bool:
        return self.wait(event, seconds)


@pytest.fixture
def silent_name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Resolve no name before the event is set."""
    answered = threading.Event()
    resolve = socket.getaddrinfo

    def getaddrinfo(host: object, *rest: object, **how: object) -> object:
        answered.wait(30)
        return resolve("127.0.0.1", *rest, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield answered
    answered.set()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_name_that_is_not_resolved_is_given_up_at_the_deadline(
    silent_name_server: threading.Event, scheme: str
) -> None:
    clock = PassingClock()
    said: list[str] = []
    made = LimitedSession(Limits(clock, 30, on_slow=lambda: said.append("slow")))
    made.trust_env = False
    with made, pytest.raises(requests.exceptions.ConnectTimeout):
        made.get(f"{scheme}://registry.example/", timeout=30)
    assert (clock.seconds, said) == (30, ["slow"])


def test_ctrl_c_ends_the_wait_for_a_name(silent_name_server: threading.Event) -> None:
    class InterruptedClock(FakeClock):
        def wait_in_background(self, event: threading.Event, seconds: float) -> bool:
            raise KeyboardInterrupt

    with session(InterruptedClock()) as made, pytest.raises(KeyboardInterrupt):
        made.get("http://registry.example/")


def test_a_connection_that_is_made_after_the_deadline_is_closed(silent_name_server: threading.Event) -> None:
    closed = threading.Event()

    def answer(connection: socket.socket) -> None:
        if not connection.recv(1):  # `server` has read the end already
            closed.set()

    with server(answer) as url, session(PassingClock()) as made:
        with pytest.raises(requests.exceptions.ConnectTimeout):
            made.get(url)
        silent_name_server.set()
        assert closed.wait(20)
