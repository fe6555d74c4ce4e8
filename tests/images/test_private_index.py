"""A package from an index that needs a login is installed, and nothing of the login is left, with the real engine."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from caliban.errors import ImageError
from caliban.images.docker.engine import Engine
from caliban.images.dockerfile import BuildUser
from caliban.redaction import forget_secrets
from tests.images.helpers import Project, RecordingReporter
from tests.images.test_dependencies_engine import make_wheel

SECRET = "planted-secret-of-the-index"
WHEEL = "private_thing-1-py3-none-any.whl"
WHEEL_FILE = "private_thing.py"


@pytest.fixture
def index() -> Iterator[str]:
    """Serve one package to those who have the login, at HOST:PORT."""
    expected = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
    files = {
        "/simple/private-thing/": ("text/html", f'<a href="/{WHEEL}">{WHEEL}</a>'.encode()),
        f"/{WHEEL}": ("application/zip", make_wheel("private_thing", "1")),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, content = files.get(self.path, ("", b""))
            is_allowed = self.headers.get("Authorization") == expected
            self.send_response((200 if content else 404) if is_allowed else 401)
            if not is_allowed:
                self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content) if is_allowed else 0))
            self.end_headers()
            if is_allowed:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Report nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
    forget_secrets()


def settings(way: str, index: str, home: Path, project: Project) -> dict[str, str]:
    """Configure the index in one of the ways that pip and uv have, and return the environment variables."""
    url, plain = f"http://me:{SECRET}@{index}/simple", f"http://{index}/simple"
    project.write("requirements.txt", "private-thing\n")
    if way in ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"):
        return {way: url}
    if way == "named":
        return {"UV_DEFAULT_INDEX": f"lab={plain}", "UV_INDEX_LAB_USERNAME": "me", "UV_INDEX_LAB_PASSWORD": SECRET}
    if way == "pip.conf":
        (home / ".config/pip").mkdir(parents=True)
        (home / ".config/pip/pip.conf").write_text(f"[global]\nindex-url = {url}\n")
        return {}
    if way == "netrc":
        (home / ".netrc").write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
        (home / ".netrc").chmod(0o600)
        return {"PIP_INDEX_URL": plain}
    assert way == "variable"
    project.write(
        "requirements.txt", f"--index-url http://${{INDEX_USER}}:${{INDEX_TOKEN}}@{index}/simple\nprivate-thing\n"
    )
    return {"INDEX_USER": "me", "INDEX_TOKEN": SECRET, "PIP_EXTRA_INDEX_URL": plain}


@pytest.fixture
def with_settings(engine: Engine, tmp_path: Path) -> Callable[[dict[str, str]], Engine]:
    def configured(variables: dict[str, str]) -> Engine:
        environ = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": "/none", "PIP_RETRIES": "0", **variables}
        return replace(engine, environ=environ)

    return configured


def own_layers(engine: Engine, image: str, base_image: str) -> list[tuple[list[str], bytes]]:
    """Return the names of the files, and the content, of each layer above the base image: deleted files, too."""
    base = engine.client.images.get(base_image).attrs["RootFS"]["Layers"]
    layers = []
    with tarfile.open(fileobj=io.BytesIO(b"".join(engine.client.images.get(image).save()))) as archive:
        [manifest] = json.load(archive.extractfile("manifest.json") or io.BytesIO())
        for layer in manifest["Layers"][len(base) :]:
            content = (archive.extractfile(layer) or io.BytesIO()).read()
            content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
            with tarfile.open(fileobj=io.BytesIO(content)) as files:
                layers.append(([Path(name).name for name in files.getnames()], content))
    return layers


WAYS = ["PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "named", "pip.conf", "netrc", "variable"]


@pytest.mark.parametrize("way", WAYS)
def test_a_private_package_is_installed_and_its_login_is_nowhere(
    with_settings: Callable[[dict[str, str]], Engine],
    index: str,
    project: Project,
    user: BuildUser,
    reporter: RecordingReporter,
    run: Callable[..., str],
    tmp_path: Path,
    way: str,
) -> None:
    project.write("cpu.py", "import private_thing\nprint(private_thing.NAME)\n")
    engine = with_settings(settings(way, index, tmp_path, project))
    image = engine.build(project.spec(), user, reporter)
    assert run(image) == "wheel\n"
    encoded = base64.b64encode(f"me:{SECRET}".encode()).decode()
    for place in (
        json.dumps(engine.client.images.get(image).history()),
        json.dumps(engine.client.images.get(image).attrs),
        "\n".join([*reporter.lines, *reporter.warnings, *reporter.notes]),
    ):
        assert SECRET not in place
        assert encoded not in place
        assert "caliban:eJ" not in place
    layers = own_layers(engine, image, project.base_image)
    assert [name for names, content in layers for name in names if name == WHEEL_FILE] == [WHEEL_FILE]
    assert [names for names, content in layers if SECRET.encode() in content or encoded.encode() in content] == []


def test_a_login_that_is_refused_is_in_no_message(
    with_settings: Callable[[dict[str, str]], Engine],
    index: str,
    project: Project,
    user: BuildUser,
    reporter: RecordingReporter,
) -> None:
    project.write("requirements.txt", "private-thing-that-does-not-exist\n")
    engine = with_settings({"PIP_INDEX_URL": f"http://{SECRET}@{index}/simple", "PIP_NO_INPUT": "1"})
    with pytest.raises(ImageError) as caught:
        engine.build(project.spec(), user, reporter)
    assert caught.value.id == "build-step-failed"
    assert SECRET not in f"{caught.value.message} {caught.value.cause} {caught.value.hint} {reporter.lines}"


def test_another_login_does_not_build_the_image_again(
    with_settings: Callable[[dict[str, str]], Engine],
    index: str,
    project: Project,
    user: BuildUser,
    reporter: RecordingReporter,
) -> None:
    project.write("requirements.txt", "private-thing\n")
    first = with_settings({"PIP_INDEX_URL": f"http://me:{SECRET}@{index}/simple"}).build(project.spec(), user, reporter)
    second = with_settings({"PIP_INDEX_URL": f"http://me:expired@{index}/simple"}).build(project.spec(), user, reporter)
    assert first == second
