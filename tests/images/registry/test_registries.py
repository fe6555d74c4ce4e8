"""The stand-in registry answers as the real one does where the Docker Engine depends on it."""

from __future__ import annotations

import contextlib
import socket
import ssl

from .registries import front


def answer_to_tls(address: str) -> bytes:
    """Return what a plain HTTP port sends to a client that tries TLS first."""
    hello = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(hello.read())
        answer = b""
        while data := connection.recv(4096):
            answer += data
    return answer


def test_a_client_that_tries_tls_first_recognizes_plain_http(registry: str) -> None:
    with front(registry) as stand_in:
        answers = [answer_to_tls(registry), answer_to_tls(stand_in.address)]
    status_lines = [answer.partition(b"\r\n")[0] for answer in answers]
    assert status_lines == [b"HTTP/1.1 400 Bad Request"] * 2
