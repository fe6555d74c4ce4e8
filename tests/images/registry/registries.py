"""Registries to push to: the real one, one that wants a password, and one that a test stands before."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import docker

from tests.docker_engine import SESSION_LABEL
from tests.serving import serve_in_thread
from tests.sockets import listening_socket

USER, PASSWORD = "totoro", "planted-secret"
# bcrypt of PASSWORD, the one kind that docker-registry reads.
_HTPASSWD = f"{USER}:$2y$05$abcdefghijklmnopqrstuuXs.k5mDrF5z11SX84JkvXLZvkAq6Q7C\n"
_CONFIGURATION = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: "{directory}/images"}}}}
http: {{addr: "127.0.0.1:{port}"}}
auth: {{htpasswd: {{realm: test, path: "{directory}/htpasswd"}}}}
"""
_TLS_HANDSHAKE = b"\x16"  # the content type of a TLS record, RFC 8446, section 5.1
_TLS_HEADER_SIZE = 5
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n400 Bad Request"
_MANIFESTS = ("application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json")
_HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def form(self) -> dict[str, list[str]]:
        """The fields of the query, and of the body where it is a form."""
        body = self.body.decode() if "form-urlencoded" in self.headers.get("Content-Type", "") else ""
        return parse_qs(f"{urlsplit(self.path).query}&{body}", strict_parsing=False)


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class HungUpError(Exception):
    """The registry closes the connection instead of answering."""


Rule = Callable[[Request], Answer | None]


class Front(ThreadingHTTPServer):
    """Stands before a registry: keeps every request, and answers those that its rule has an answer for."""

    daemon_threads = True

    def __init__(self, upstream: str, rule: Rule) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.rule = rule
        self.requests: list[Request] = []

    @property
    def address(self) -> str:
        return f"localhost:{self.server_port}"

    @property
    def lines(self) -> list[str]:
        return [request.line for request in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body that follows its headers would wait 40 ms for their acknowledgement
    server: Front

    def handle_one_request(self) -> None:
        assert isinstance(self.rfile, io.BufferedReader)
        if self.rfile.peek(1)[:1] == _TLS_HANDSHAKE:
            self._reject_tls()
            return
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        request = Request(self.command, self.path, dict(self.headers.items()), self._body())
        self.server.requests.append(request)
        try:
            self._reply(self.server.rule(request) or self._forwarded(request))
        except HungUpError:
            self.close_connection = True

    def _reject_tls(self) -> None:
        """Answer as Go's net/http does: a client that tries TLS first recognizes HTTP by these bytes."""
        header = self.rfile.read(_TLS_HEADER_SIZE)
        self.rfile.read(int.from_bytes(header[3:], "big"))
        self.wfile.write(_BAD_REQUEST)
        self.close_connection = True

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _forwarded(self, request: Request) -> Answer:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=30)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP}
        upstream.request(request.method, request.path, request.body, headers)
        response = upstream.getresponse()
        answer = Answer(response.status, response.read(), dict(response.getheaders()))
        upstream.close()
        return answer

    def _reply(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for key, value in answer.headers.items():
            if key.lower() not in _HOP_BY_HOP:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@contextmanager
def front(upstream: str, rule: Rule = lambda _: None) -> Iterator[Front]:
    server = Front(upstream, rule)
    with serve_in_thread(server):
        yield server


@dataclass
class TokenRules:
    """A registry that takes bearer tokens, and the service that gives them for one password or identity token."""

    address: str = ""
    token: str = "planted-access-token"
    asked: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer | None:
        if urlsplit(request.path).path == "/token":
            self.asked.append(request)
            return self._give(request)
        if request.headers.get("Authorization") == f"Bearer {self.token}":
            return None
        scope = request.path.removeprefix("/v2/").partition("/manifests/")[0].partition("/blobs/")[0]
        challenge = f'Bearer realm="http://{self.address}/token",service="the registry"'
        if scope:
            challenge += f',scope="repository:{scope}:pull,push"'
        return Answer(401, error("UNAUTHORIZED", "authentication required"), {"WWW-Authenticate": challenge})

    def _give(self, request: Request) -> Answer:
        is_known = request.headers.get("Authorization") == basic(USER, PASSWORD)
        if request.method == "POST":
            is_known = request.form.get("refresh_token") == [PASSWORD]
        if not is_known or request.form.get("service") != ["the registry"]:
            return Answer(401, error("UNAUTHORIZED", f"not with {request.headers.get('Authorization')}"))
        key = b"access_token" if request.method == "POST" else b"token"
        return Answer(200, b'{"%s": "%s"}' % (key, self.token.encode()), {"Content-Type": "application/json"})


@dataclass
class ArtifactRules:
    """Artifact Registry with one repository, for one account; in the words that google's registry uses.

    Sources of the words: see ``caliban/images/push_errors.py``.
    """

    repository: str = "totoro-project/lab"
    is_there: bool = True
    may_push: bool = True
    may_read: bool = True
    is_enabled: bool = True
    address: str = ""
    asked: list[Request] = field(default_factory=list)

    token = "planted-access-token"
    disabled = (
        "Artifact Registry API has not been used in project 123456789012 before or it is disabled. Enable it by "
        "visiting https://console.developers.google.com/apis/api/artifactregistry.googleapis.com/overview?"
        "project=123456789012 then retry."
    )

    def __call__(self, request: Request) -> Answer:
        if urlsplit(request.path).path == "/v2/token":
            self.asked.append(request)
            return self._give(request)
        name = request.path.removeprefix("/v2/").partition("/manifests/")[0]
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            challenge = f'Bearer realm="http://{self.address}/v2/token",service="{self.address}"'
            challenge += f',scope="repository:{name}:pull"'
            return Answer(401, error("UNAUTHORIZED", "authentication failed"), {"WWW-Authenticate": challenge})
        if not self.is_enabled:
            return Answer(403, error("DENIED", self.disabled))
        if not self.may_read:
            return Answer(403, error("DENIED", self.denial("downloadArtifacts")))
        if not self.is_there:
            missing = self.repository.rpartition("/")[2]
            return Answer(404, error("NAME_UNKNOWN", f'Repository "{missing}" not found'))
        return Answer(404, error("MANIFEST_UNKNOWN", f'Failed to fetch "latest" from request "{request.path}".'))

    def denial(self, permission: str) -> str:
        project, _, name = self.repository.partition("/")
        resource = f"projects/{project}/locations/us-central1/repositories/{name}"
        return (
            f'Permission "artifactregistry.repositories.{permission}" denied on resource "{resource}" '
            "(or it may not exist)"
        )

    def _give(self, request: Request) -> Answer:
        if request.headers.get("Authorization") != basic(USER, PASSWORD):
            return Answer(401, error("UNAUTHORIZED", "authentication failed"))
        [scope] = request.form["scope"]
        if scope.endswith("push") and not self.may_push:
            return Answer(403, error("DENIED", self.denial("uploadArtifacts")))
        return Answer(200, json.dumps({"token": self.token}).encode(), {"Content-Type": "application/json"})


def error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@contextmanager
def registry_with_password(directory: Path) -> Iterator[str]:
    """Run a real registry that knows USER and PASSWORD; gives ``localhost:PORT``."""
    program = shutil.which("docker-registry")
    assert program, "there is no docker-registry: run `make test`, which brings it"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (directory / "htpasswd").write_text(_HTPASSWD)
    (directory / "config.yml").write_text(_CONFIGURATION.format(directory=directory, port=port))
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen([program, "serve", directory / "config.yml"], stdout=log, stderr=log)
    try:
        _wait(port, directory / "log")
        yield f"localhost:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


def _wait(port: int, log: Path) -> None:
    give_up = time.monotonic() + 30
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.05)


def manifest_of(reference: str, upstream: str | None = None) -> bytes:
    """Ask a registry for a manifest, by means other than those under test."""
    host, _, rest = reference.partition("/")
    name, _, tag = rest.partition("@") if "@" in rest else rest.rpartition(":")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Accept": ", ".join(_MANIFESTS)}
    request = urllib.request.Request(f"http://{upstream or host}/v2/{name}/manifests/{tag}", headers=headers)
    with opener.open(request, timeout=10) as response:
        return bytes(response.read())


def image_ids(manifest: bytes) -> set[str]:
    """Return the ids that an engine may give to the image of a manifest.

    It is the digest of the image's configuration, or, in the containerd image store, that of the manifest.
    """
    return {digest(manifest), json.loads(manifest)["config"]["digest"]}


def build_tiny(client: docker.DockerClient, content: str, token: str) -> str:
    """Build an image of two layers of a few bytes, on nothing, and return its id.

    Without the build cache: other test processes remove images that are in it at any time.
    """
    archive = io.BytesIO()
    dockerfile = f"FROM scratch\nCOPY a /a\nCOPY b /b\nLABEL {SESSION_LABEL}={token}\n"
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in (("Dockerfile", dockerfile), ("a", f"a {content}"), ("b", f"b {content}" * 500)):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    archive.seek(0)
    image, _ = client.images.build(fileobj=archive, custom_context=True, rm=True, forcerm=True, nocache=True)
    return str(image.id)


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@contextmanager
def engine_that_answers_a_push(answer: bytes) -> Iterator[str]:
    """Stand before the real engine, give this answer to a push, and hang up; gives a DOCKER_HOST."""
    real = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")

    def connect() -> socket.socket:
        if real.scheme != "unix":
            return socket.create_connection((real.hostname or "", real.port or 2375))
        upstream = socket.socket(socket.AF_UNIX)
        upstream.connect(real.path)
        return upstream

    def serve(client: socket.socket) -> None:
        with client, connect() as upstream:
            while request := _receive(client):
                if b"/push?" in request.partition(b"\r\n")[0]:
                    client.sendall(answer)
                    return
                upstream.sendall(request)
                client.sendall(_receive(upstream))

    with listening_socket() as (listening, path):

        def accept() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"unix://{path}"
        listening.shutdown(socket.SHUT_RDWR)


def _receive(stream: socket.socket) -> bytes:
    """Read one request or answer: a head, and a body by its length or in chunks."""
    received = b""
    while b"\r\n\r\n" not in received:
        if not (piece := stream.recv(65536)):
            return b""
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    is_chunked = fields.get(b"transfer-encoding") == b"chunked"
    length = int(fields.get(b"content-length", b"0"))
    while (is_chunked and not body.endswith(b"0\r\n\r\n")) or (not is_chunked and len(body) < length):
        body += stream.recv(65536)
    return head + b"\r\n\r\n" + body
