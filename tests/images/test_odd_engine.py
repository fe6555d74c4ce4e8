"""Whatever listens instead of a Docker Engine, or stands in DOCKER_HOST, is one error that names the address."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caliban.errors import ImageError
from caliban.images.docker.engine import Engine
from tests.sampling import examples
from tests.sockets import listening_socket

IDS = ("docker-unreachable", "docker-answer-malformed")
STATUSES = (
    b"200 OK",
    b"500 X",
    b"404 X",
    b"301 X\r\nLocation: http://127.0.0.1:1/",
    b"200 OK\r\nContent-Encoding: gzip",
)
VERSION = b'{"ApiVersion": "1.41"}'


def http(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)


@contextmanager
def listening(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """Answer every request with what ``answer`` returns for its first line."""
    with listening_socket() as (server, path):

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(answer(connection.recv(65536).partition(b"\r\n")[0]))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"unix://{path}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


BODIES = (
    *(b"", b"[]", b'"x"', b"5", b"null", b"{}", b"<html>", b"\xff\xfe\x00", b"[" * 100_000),
    *(b'{"ApiVersion": "abc"}', b'{"ApiVersion": ""}', b'{"ApiVersion": 5}', b'{"ApiVersion": "1.41\\ud800"}'),
    *(b'{"ApiVersion": ["1"]}', b'{"ApiVersion": null}', b'{"ApiVersion": "1.10"}'),
)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:20]))
def test_an_odd_answer_to_the_first_request_is_an_error(status: bytes, body: bytes) -> None:
    with listening(lambda request: http(body, status)) as address, pytest.raises(ImageError) as caught:
        Engine.connect({"DOCKER_HOST": address})
    assert caught.value.id in IDS
    assert address in caught.value.message


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200", b"HTTP/9 x\r\n\r\n", b"\x00" * 1000])
def test_something_that_does_not_speak_http_is_an_error(answer: bytes) -> None:
    with listening(lambda request: answer) as address, pytest.raises(ImageError) as caught:
        Engine.connect({"DOCKER_HOST": address})
    assert caught.value.id in IDS


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("body", [*BODIES[:9], b'{"Id": 5}', b'{"message": 5}'], ids=lambda body: repr(body[:20]))
def test_an_odd_answer_to_a_later_request_is_an_error_or_no_value(status: bytes, body: bytes) -> None:
    answers = lambda request: http(VERSION) if b"/version" in request else http(body, status)  # noqa: E731
    with listening(answers) as address, closing(Engine.connect({"DOCKER_HOST": address})) as engine:
        for ask in (engine.identity, lambda: engine.image_exists("x"), lambda: engine.image_id("x")):
            with suppress(ImageError):
                ask()


HOSTS = (
    *("tcp://host:notaport", "tcp://", "ssh://user:planted-secret@h", "npipe:////./pipe/docker", "fd://", "unix://"),
    *("unix:///a\0b", "tcp://[::1", "tcp://[::1]:99999", "tcp://127.0.0.1:99999", "/var/run/docker.sock", "localhost"),
    *(
        " ",
        "\t",
        "tcp://" + "a" * 300 + ":1",
        "unix://" + "/x" * 3000,
        "tcp://u:planted-secret@127.0.0.1:1",
        "https://",
    ),
    *("http://\udc80:1", "unix://relative", "tcp://-1:2", "tcp://127.0.0.1:1\r\nX: y", "tcp://..:1", "tcp://%zz:1"),
    *("unix:///etc/passwd", "unix:///dev/null", "unix:///", "tcp://user:pa#planted-secret@127.0.0.1:1"),
)


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: ascii(host)[:40])
def test_an_odd_docker_host_is_an_error_about_that_address(host: str) -> None:
    with pytest.raises(ImageError) as caught:
        Engine.connect({"DOCKER_HOST": host})
    assert caught.value.id == "docker-unreachable"
    assert "planted-secret" not in f"{caught.value.message} {caught.value.cause} {caught.value.hint}"


@settings(max_examples=examples(60), deadline=None)
@given(st.text(st.sampled_from("tcpunix:/@#?[]%.-1a é\0\n"), max_size=20))
def test_no_docker_host_causes_another_error(host: str) -> None:
    with suppress(ImageError):
        Engine.connect({"DOCKER_HOST": "tcp://127.0.0.1:1" if not host else f"unix:///nowhere/{host}"})
    with suppress(ImageError):
        Engine.connect({"DOCKER_HOST": f"x{host}"})


@pytest.mark.parametrize("is_compressed", [False, True])
def test_an_answer_without_an_end_is_given_up(is_compressed: bool) -> None:
    """65 MiB, of which a compressed answer needs 64 KiB."""
    body = b"[" + b" " * (65 << 20)
    status = b"200 OK"
    if is_compressed:
        body, status = gzip.compress(body, 1), b"200 OK\r\nContent-Encoding: gzip"
    answers = lambda request: http(VERSION) if b"/version" in request else http(body, status)  # noqa: E731
    with (
        listening(answers) as address,
        closing(Engine.connect({"DOCKER_HOST": address})) as engine,
        pytest.raises(ImageError) as caught,
    ):
        engine.identity()
    assert caught.value.id == "docker-answer-malformed"
    assert "the answer is larger than 64 MiB" in (caught.value.cause or "")
