"""Errors, their causes and tracebacks contain no secret, even if a server repeats what it was sent."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.errors import CalibanError
from caliban.images.docker.engine import Engine
from caliban.images.registry.api import AccessDeniedError, RegistryUnavailableError, find_digest
from caliban.images.registry.auth import Login, stored_login
from caliban.platforms.caip.details import CaipDestination
from caliban.platforms.caip.platform import CaipPlatform
from caliban.platforms.google.tokens import RefreshingCredentials
from caliban.records import StatusUnavailable
from caliban.store.database import Access, open_store
from tests.fake_service import may_send
from tests.fakes import RecordingReporter
from tests.platforms.caip.helpers import PEER_SPEC, recorded_job, submission
from tests.platforms.google.helpers import POLICY, PROJECT, platform_context
from tests.standins.ml_v1 import MlV1

from .servers import Server, repeating, serving

SECRET = "planted/secret+"
SHORT = replace(POLICY, deadline=0.05)
STATUSES = (200, 400, 401, 502)


def all_text(error: BaseException) -> str:
    """Return everything that a debugger, a log or a user can see of an error."""
    text = [repr(error), *map(repr, error.args), "".join(traceback.format_exception(error))]
    if isinstance(error, CalibanError):
        text += [str(error.message), str(error.cause), str(error.hint), repr(getattr(error, "details", None))]
    return "\n".join(text)


@pytest.fixture
def repeat() -> Iterator[Callable[..., Server]]:
    """Starts servers that repeat what they are sent."""
    with ExitStack() as stack:
        yield lambda status, **how: stack.enter_context(serving(repeating(status, **how)))


@pytest.fixture(scope="module")
def service() -> Iterator[MlV1]:
    with MlV1() as running:
        yield running


@pytest.fixture
def key(service: MlV1, tmp_path: Path) -> Path:
    return service.write_key_file(tmp_path / "key.json")


Repeat = Callable[..., Server]


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("status", STATUSES)
def test_an_access_token_repeated_by_an_api_is_redacted(
    repeat: Repeat, service: MlV1, key: Path, status: int, as_json: bool
) -> None:
    server = repeat(status, as_json=as_json)
    endpoint = {"CLOUDSDK_API_ENDPOINT_OVERRIDES_ML": f"http://127.0.0.1:{server.port}/"}
    platform = CaipPlatform(platform_context(endpoint, cloud_key=key), SHORT)
    shown = [repr(platform.statuses([recorded_job()])[1])]
    for call in (lambda: platform.submit(PEER_SPEC, submission(), may_send), lambda: platform.stop(recorded_job())):
        try:
            shown.append(repr(call()))
        except CalibanError as error:
            shown.append(all_text(error))

    received = "\n".join(request.text for request in server.requests)
    sent = [token for token in service.account._tokens if token in received]
    assert sent
    assert not [token for token in sent if token in "\n".join(shown)]


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("status", STATUSES)
def test_an_assertion_repeated_by_a_token_endpoint_is_redacted(
    repeat: Repeat, key: Path, status: int, as_json: bool
) -> None:
    server = repeat(status, as_json=as_json)
    content = json.loads(key.read_text())
    content["token_uri"] = f"http://127.0.0.1:{server.port}/token"
    key.write_text(json.dumps(content))

    with pytest.raises(CalibanError) as caught:
        CaipPlatform(platform_context(cloud_key=key), SHORT).connect(CaipDestination(PROJECT))

    sent = server.requests[-1].body.decode() or server.requests[0].body.decode()
    assertion = sent.partition("assertion=")[2].partition("&")[0]
    assert len(assertion) > 100
    shown = all_text(caught.value)
    assert assertion not in shown
    assert assertion.rpartition(".")[2] not in shown


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("status", STATUSES)
def test_a_refresh_token_repeated_by_a_token_endpoint_is_redacted(repeat: Repeat, status: int, as_json: bool) -> None:
    from google.oauth2.credentials import Credentials

    server = repeat(status, as_json=as_json)
    endpoint = f"http://127.0.0.1:{server.port}/token"
    credentials = Credentials(  # type: ignore[no-untyped-call]
        None, refresh_token=SECRET, token_uri=endpoint, client_id="1", client_secret=f"client-{SECRET}"
    )
    with pytest.raises(CalibanError) as caught:
        RefreshingCredentials(credentials, SHORT).apply({})
    assert server.requests
    assert_redacted(all_text(caught.value))


def assert_redacted(shown: str, secret: str = SECRET) -> None:
    from urllib.parse import quote

    login = Login("totoro", secret)
    for form in (secret, quote(secret, safe=""), login.basic):
        assert form not in shown


@pytest.mark.parametrize("user", ["totoro", "<token>"])
@pytest.mark.parametrize("status", STATUSES)
def test_a_login_repeated_by_a_registry_or_its_token_service_is_redacted(
    repeat: Repeat, user: str, status: int
) -> None:
    tokens = repeat(status)
    challenges = (f'Bearer realm="http://127.0.0.1:{tokens.port}/token",service="x"', 'Basic realm="x"')
    for challenge in challenges:
        echo = repeating(401)

        def refuse(request: object, challenge: str = challenge, echo: Callable[..., tuple] = echo) -> tuple:  # type: ignore[type-arg]
            status, headers, body = echo(request)
            return status, {**headers, "WWW-Authenticate": challenge}, body

        with serving(refuse) as registry, pytest.raises((AccessDeniedError, RegistryUnavailableError)) as caught:
            find_digest(f"127.0.0.1:{registry.port}/a:latest", "sha256:" + "ab" * 32, Login(user, SECRET))
        assert_redacted(all_text(caught.value))
    assert tokens.requests


PASSWORDS = ("quixotic-zebra", "quixotic@zebra", "quix:otic@zebra", "quixotic/zebra")


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://totoro:{}@127.0.0.1:1/caliban",
        "postgres://totoro:{}@127.0.0.1:1/caliban",
        "postgresql://totoro:{}@nobody.invalid/caliban",
        "postgresql://totoro:{}@127.0.0.1:notaport/caliban",
        "postgresql://totoro:{}@[::1/caliban",
        "mysql://totoro:{}@127.0.0.1/caliban",
        "postgresql://totoro@127.0.0.1:1/caliban?password={}",
        "postgresql://totoro@127.0.0.1:1/caliban?sslmode=nonsense&sslpassword={}",
        "postgresql://totoro:{}@127.0.0.1:1/caliban?nonsense=1",
        "sqlite://totoro:{}@127.0.0.1/caliban",
        "totoro:{}@127.0.0.1/caliban",
    ],
)
@pytest.mark.parametrize("access", Access)
def test_a_password_in_the_store_url_is_redacted(url: str, password: str, access: Access) -> None:
    with pytest.raises(CalibanError) as caught:
        open_store(url.format(password), access, RecordingReporter())
    shown = all_text(caught.value)
    assert not [part for part in re.split("[@:/]", password) if part in shown]


@pytest.mark.parametrize("password", PASSWORDS[:3])
@pytest.mark.parametrize("scheme", ["tcp", "ssh", "https", "nonsense", "unix", "npipe"])
def test_a_password_in_docker_host_is_redacted(scheme: str, password: str) -> None:
    with pytest.raises(CalibanError) as caught:
        Engine.connect({"DOCKER_HOST": f"{scheme}://totoro:{password}@127.0.0.1:1"})
    assert password not in all_text(caught.value)


@pytest.mark.parametrize(
    "proxy", ["http://totoro:{}@127.0.0.1:1", "socks9://totoro:{}@127.0.0.1:1", "http://totoro:{}@[x"]
)
def test_a_password_in_a_proxy_url_is_redacted(key: Path, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.format(SECRET.replace("/", "")))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    endpoint = {"CLOUDSDK_API_ENDPOINT_OVERRIDES_ML": "https://ml.example.com/"}
    update = CaipPlatform(platform_context(endpoint, cloud_key=key), SHORT).statuses([recorded_job()])[1]
    assert isinstance(update, StatusUnavailable)
    assert SECRET.replace("/", "") not in repr(update)


@pytest.mark.parametrize(
    "entry",
    [
        {"auth": SECRET},
        {"auth": [SECRET]},
        {"auth": "dG90b3JvLXBsYW50ZWQvc2VjcmV0Kw=="},
        {"auth": f"é{SECRET}"},
        SECRET,
        [SECRET],
        {"identitytoken": [SECRET]},
    ],
)
def test_an_unreadable_stored_login_is_redacted(entry: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"localhost:1": entry}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    reporter = RecordingReporter()
    assert stored_login("localhost:1", reporter) is None
    assert SECRET not in "\n".join(reporter.warnings)


@pytest.mark.parametrize(
    "content",
    [
        {"type": "service_account", "private_key": f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n", "client_email": "x"},
        {"type": "service_account", "private_key": SECRET},
        {"type": "authorized_user", "refresh_token": SECRET, "client_secret": SECRET},
        {"type": "external_account", "credential_source": SECRET},
        {"private_key": SECRET},
    ],
)
def test_the_content_of_an_invalid_key_file_is_redacted(content: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text(json.dumps(content))
    with pytest.raises(CalibanError) as caught:
        CaipPlatform(platform_context(cloud_key=tmp_path / "key.json"), SHORT).connect(CaipDestination(PROJECT))
    assert SECRET not in all_text(caught.value)
