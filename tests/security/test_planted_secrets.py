"""Secrets are planted where users keep them: no output, image, job or store row of the real commands contains one."""

from __future__ import annotations

import base64
import json
import os
import re
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
from sqlalchemy import MetaData, create_engine, make_url, text

from caliban.images.docker.engine import Engine
from caliban.images.registry.auth import Login
from tests.e2e.conftest import CommandResult, Researcher, researcher
from tests.images.registry.registries import PASSWORD, USER, Request, basic, error, front
from tests.images.registry.registries import Answer as Response
from tests.standins.faults import Fault
from tests.standins.ml_v1 import MlV1

from .small_image import small_base_image

__all__ = ["researcher", "small_base_image"]

PROJECT = "totoro-project"
CLOUD = ("cloud", "--platform", "caip", "--xgroup", "g", "--nogpu", "cpu.py", "--", "--foo", "3")
RESUBMIT = ("resubmit", "--xgroup", "g", "--yes")
STORE_PASSWORD = "quixotic-zebra"
REFRESH_TOKEN = "1//planted-refresh-token"


OTHER_SECRETS = {
    ".env": "PASSWORD={}\n",
    "deploy.pem": "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
    ".npmrc": "//registry.example.com/:_authToken={}\n",
    ".netrc": "machine example.com login me password {}\n",
    "lab/token.json": '{{"access_token": "{}"}}\n',
    "cluster.yaml": "kind: Config\nusers:\n- user:\n    token: {}\n",
}
"""Files that tools write, and their contents."""


@dataclass
class Planted:
    """A user with secrets in their project, and AI Platform.

    Attributes:
        user: runs the commands.
        service: AI Platform.
        secrets: by description; the access tokens that the service issues are secrets, too.
    """

    user: Researcher
    service: MlV1
    secrets: dict[str, str]

    def caliban(self, *arguments: str, **environ: str) -> CommandResult:
        """Run a command, and check its output."""
        result = self.user.caliban(*arguments, cwd=None, **environ)
        self.assert_clean(result.out.encode() + result.err.encode(), f"the output of {arguments[0]}")
        return result

    def assert_clean(self, content: bytes, where: str) -> None:
        tokens = {f"access token {number}": token for number, token in enumerate(self.service.account._tokens)}
        for name, secret in {**self.secrets, **tokens}.items():
            assert secret.encode() not in content, f"{where} contains the {name}"


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store; the one of a server contains a password."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield f"sqlite:///{tmp_path}/store.db"
        return
    found = os.environ.get("CALIBAN_TEST_POSTGRESQL_URL")
    assert found, "CALIBAN_TEST_POSTGRESQL_URL is not set: run make test, which starts a server"
    server, name = make_url(found), f"caliban_test_{uuid.uuid4().hex}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.set(database=name, password=STORE_PASSWORD).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def protected_registry() -> Iterator[str]:
    """A proxy of the registry that requires a login."""
    upstream = os.environ.get("CALIBAN_TEST_REGISTRY")
    assert upstream, "CALIBAN_TEST_REGISTRY is not set: run make test, which starts a registry"

    def require_login(request: Request) -> Response | None:
        if request.headers.get("Authorization") == basic(USER, PASSWORD):
            return None
        return Response(401, error("UNAUTHORIZED", "authentication required"), {"WWW-Authenticate": 'Basic realm="x"'})

    with front(upstream, require_login) as server:
        yield server.address


@pytest.fixture
def planted(
    researcher: Researcher, store_url: str, protected_registry: str, small_base_image: str
) -> Iterator[Planted]:
    """All secrets are in the project directory, some with unusual names."""
    with MlV1({PROJECT}) as service:
        key = service.write_key_file(researcher.project / "my key")
        (researcher.project / "link-to-key").symlink_to(key)
        adc = {"type": "authorized_user", "refresh_token": REFRESH_TOKEN, "client_id": "1", "client_secret": "2"}
        researcher.write("adc.txt", json.dumps(adc))
        login = {"auths": {protected_registry: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}}
        researcher.write(".docker/config.json", json.dumps(login))
        others = {name: f"planted-in-{number}-a-file" for number, name in enumerate(OTHER_SECRETS)}
        for name, secret in others.items():
            researcher.write(name, OTHER_SECRETS[name].format(secret))
        outside = researcher.home / "outside.txt"
        outside.write_text("planted-outside-the-directory")
        (researcher.project / "data.txt").symlink_to(outside)
        researcher.write("sub/notes.txt", "sub/notes.txt is included")
        config = {"base_image": small_base_image, "registry": f"{protected_registry}/{PROJECT}"}
        researcher.write(".calibanconfig.json", json.dumps(config))
        researcher.environ.update(
            CLOUDSDK_API_ENDPOINT_OVERRIDES_ML=service.url,
            GOOGLE_APPLICATION_CREDENTIALS=str(key),
            DOCKER_CONFIG=str(researcher.project / ".docker"),
            CALIBAN_DB_URL=store_url,
        )
        private_key = json.loads(key.read_text())["private_key"].splitlines()
        secrets = {
            "private key": private_key[len(private_key) // 2],
            "refresh token": REFRESH_TOKEN,
            "registry's password": PASSWORD,
            "registry's login": Login(USER, PASSWORD).basic,
            "store's password": STORE_PASSWORD,
            "file outside": "planted-outside-the-directory",
            **others,
        }
        yield Planted(researcher, service, secrets)


def added_content(engine: Engine, image: str, base: str, archive: Path) -> bytes:
    """Return the configuration of an image and the files of the layers on top of its base, concatenated."""
    with archive.open("wb") as file:
        file.writelines(engine.client.images.get(image).save())
    count = len(engine.client.images.get(base).attrs["RootFS"]["Layers"])
    with tarfile.open(archive) as saved:
        (manifest,) = json.load(_member(saved, "manifest.json"))
        found = _member(saved, manifest["Config"]).read()
        for name in manifest["Layers"][count:]:
            with tarfile.open(fileobj=_member(saved, name)) as layer:
                found += b"".join(_member(layer, file.name).read() for file in layer if file.isfile())
    return found


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    content = archive.extractfile(name)
    assert content is not None
    return content


def store_content(store_url: str) -> bytes:
    """Return everything in the store: the bytes of its file, and the values of all rows."""
    content = b""
    url = make_url(store_url)
    if url.get_backend_name() == "sqlite":
        file = Path(str(url.database))
        content = b"".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))
    engine, tables = create_engine(url), MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        for table in tables.sorted_tables:
            content += repr([tuple(row) for row in connection.execute(table.select())]).encode()
    engine.dispose()
    return content


def request_bodies(service: MlV1) -> bytes:
    """Return the bodies of all requests to AI Platform."""
    return json.dumps([received.body for received in service.requests if received.method != "oauth.token"]).encode()


def test_a_pushed_image_and_its_job_contain_no_secret(
    planted: Planted, engine: Engine, small_base_image: str, tmp_path: Path
) -> None:
    submitted = planted.caliban(*CLOUD)
    assert submitted.code == 0, submitted.err

    (body,) = planted.service.bodies("ml.projects.jobs.create")
    built = planted.caliban("build", "--nogpu", "cpu.py").out.strip()
    assert built.removeprefix("sha256:").startswith(
        body["trainingInput"]["masterConfig"]["imageUri"].split("/")[-1][:12]
    )
    image = added_content(engine, built, small_base_image, tmp_path / "image.tar")
    assert b"sub/notes.txt is included" in image
    planted.assert_clean(image, "the image")
    planted.assert_clean(request_bodies(planted.service), "the job")


def test_a_refused_push_and_a_failed_build_leave_no_secret_in_the_store(
    planted: Planted, store_url: str, protected_registry: str
) -> None:
    def log_in(password: str) -> None:
        login = base64.b64encode(f"{USER}:{password}".encode()).decode()
        planted.user.write(".docker/config.json", json.dumps({"auths": {protected_registry: {"auth": login}}}))

    log_in(f"not-{PASSWORD}")
    refused = planted.caliban(*CLOUD)
    log_in(PASSWORD)
    config = json.loads((planted.user.project / ".calibanconfig.json").read_text())
    planted.user.write(".calibanconfig.json", json.dumps({**config, "apt_packages": ["no-apt-get-here"]}))
    broken = planted.caliban(*CLOUD)

    assert ["[push-refused]" in refused.err, "[build-step-failed]" in broken.err] == [True, True]
    planted.assert_clean(store_content(store_url), "the store")


@pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
def test_the_store_contains_no_secret(planted: Planted, store_url: str) -> None:
    pushed = (*CLOUD[:-3], "--image_tag", "localhost:1/a:latest", *CLOUD[-3:])
    assert planted.caliban(*pushed).code == 0
    planted.service.jobs.set_state(planted.service.jobs.all()[0].id, "FAILED", "a coding error")
    assert planted.caliban(*RESUBMIT).code == 0
    planted.service.faults.add(Fault("ml.projects.jobs.create", "status", status=403, times=1))
    assert planted.caliban(*pushed).code == 1

    listing = planted.caliban("status", "--xgroup", "g", "--max_jobs", "0")

    assert (listing.code, len(re.findall(r"^ +job \d", listing.out, re.MULTILINE))) == (0, 3)
    planted.assert_clean(store_content(store_url), "the store")
    planted.assert_clean(request_bodies(planted.service), "the job")


def test_an_unreachable_store_or_engine_is_reported_without_its_password(planted: Planted) -> None:
    store = planted.caliban("status", CALIBAN_DB_URL=f"postgresql://totoro:{STORE_PASSWORD}@127.0.0.1:1/caliban")
    engine = planted.caliban("build", "cpu.py", DOCKER_HOST=f"tcp://totoro:{STORE_PASSWORD}@127.0.0.1:1")
    assert ["[store-unreachable]" in store.err, "[docker-unreachable]" in engine.err] == [True, True]
