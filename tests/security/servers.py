"""Untrusted servers: with a self-signed certificate, or repeating what they are sent."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.serving import serve_in_thread

Response = tuple[int, dict[str, str], bytes]
Reply = Callable[["Request"], Response]


@dataclass(frozen=True)
class Request:
    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The whole request, as a proxy shows it on its error page."""
        fields = "\n".join(f"{name}: {value}" for name, value in self.headers.items())
        return f"{self.line}\n{fields}\n\n{self.body.decode('utf-8', 'replace')}"


@dataclass
class Server:
    """A server on the loopback interface.

    Attributes:
        port: where it listens.
        requests: the requests that it received.
    """

    port: int
    requests: list[Request] = field(default_factory=list)


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for the host names of the tests, and its key, as files."""

    path: Path
    key: Path


def make_certificate(directory: Path, name: str = "localhost") -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [
        x509.DNSName("localhost"),
        x509.DNSName("registry.example.com"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(directory / f"{name}.cert.pem", directory / f"{name}.key.pem")
    made.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


@contextmanager
def serving(reply: Reply, certificate: Certificate | None = None) -> Iterator[Server]:
    """Serve responses of ``reply``; over TLS if there is a certificate."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # a body that follows its headers would wait 40 ms for their acknowledgement

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.requestline, dict(self.headers.items()), body)
            server.requests.append(request)
            status, headers, content = reply(request)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Do not log: the requests are kept."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # clients disconnect
    server = Server(http.server_address[1])
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate.path, certificate.key)
        http.socket = tls.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
    with serve_in_thread(http):
        yield server


def repeating(status: int, *, as_json: bool = True) -> Reply:
    """Return a reply with the whole request: as an error of a Google API, or as the error page of a proxy."""

    def reply(request: Request) -> Response:
        if not as_json:
            return status, {"Content-Type": "text/html"}, f"<html>{request.text}</html>".encode()
        error = {"code": status, "message": request.text, "status": "PERMISSION_DENIED"}
        content = {"error": error if "Authorization" in request.headers else "invalid_grant"}
        content["error_description"] = request.text
        return status, {"Content-Type": "application/json"}, json.dumps(content).encode()

    return reply
