"""Google's registries are checked before an image is built; a fake answers with their messages."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest

from caliban.errors import CalibanError, ImageError
from caliban.platforms.google.client import Google
from caliban.platforms.google.errors import NO_CREDENTIALS, CredentialsError
from caliban.platforms.google.image_registry import GoogleRegistry
from tests.images.helpers import RecordingReporter
from tests.images.registry.registries import ArtifactRules, Front, front
from tests.platforms.pushes import docker_logins

HOST = "us-central1-docker.pkg.dev"
REPOSITORY = f"{HOST}/totoro-project/lab"
TOKEN = "planted-token"
STORED = {"auth": base64.b64encode(b"totoro:planted-secret").decode()}


class FakeGoogle:
    """Google, as far as an access token goes."""

    def __init__(self, token: str | CredentialsError = TOKEN) -> None:
        self.token = token

    def access_token(self) -> str:
        if isinstance(self.token, CredentialsError):
            raise self.token
        return self.token


@pytest.fixture
def reporter() -> RecordingReporter:
    return RecordingReporter()


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> ArtifactRules:
    monkeypatch.setattr("tests.images.registry.registries.USER", "oauth2accesstoken")
    monkeypatch.setattr("tests.images.registry.registries.PASSWORD", TOKEN)
    return ArtifactRules()


@pytest.fixture
def google(rules: ArtifactRules, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """The server that answers under the names of Google's registries."""
    with front("", rules) as server:
        rules.address = server.address

        def here(image: str) -> str:
            name, _, tag = image.partition("/")[2].rpartition(":")
            return f"http://{server.address}/v2/{name}/manifests/{tag}"

        monkeypatch.setattr("caliban.images.registry.api.manifest_url", here)
        yield server


def registry(
    reporter: RecordingReporter, name: str = REPOSITORY, token: str | CredentialsError = TOKEN
) -> GoogleRegistry:
    return GoogleRegistry(name, reporter, google=cast(Google, FakeGoogle(token)))


def refusal(reporter: RecordingReporter, token: str = TOKEN) -> ImageError:
    with pytest.raises(ImageError) as caught:
        registry(reporter, token=token).check()
    return caught.value


def test_a_registry_that_accepts_images_passes(google: Front, reporter: RecordingReporter) -> None:
    registry(reporter).check()
    assert (reporter.lines, reporter.warnings) == ([], [])


def test_a_check_writes_nothing_and_sends_three_requests(google: Front, reporter: RecordingReporter) -> None:
    registry(reporter).check()
    assert [(request.method, urlsplit(request.path).path) for request in google.requests] == [
        ("GET", "/v2/totoro-project/lab/caliban/manifests/latest"),
        ("GET", "/v2/token"),
        ("GET", "/v2/totoro-project/lab/caliban/manifests/latest"),
    ]


def test_a_check_requests_permission_to_push(google: Front, rules: ArtifactRules, reporter: RecordingReporter) -> None:
    registry(reporter).check()
    [asked] = rules.asked
    assert asked.form == {"service": [google.address], "scope": ["repository:totoro-project/lab/caliban:pull,push"]}


def test_a_missing_repository_is_reported(google: Front, rules: ArtifactRules, reporter: RecordingReporter) -> None:
    rules.is_there = False
    error = refusal(reporter)
    assert (error.id, error.cause) == ("repository-missing", 'name unknown: Repository "lab" not found')


def test_a_missing_repository_of_gcr_io_is_left_to_the_push_that_may_create_it(
    google: Front, rules: ArtifactRules, reporter: RecordingReporter
) -> None:
    rules.repository, rules.is_there = "totoro-project/gcr.io", False
    registry(reporter, "gcr.io/totoro-project").check()


def test_an_account_that_may_not_push_is_reported(
    google: Front, rules: ArtifactRules, reporter: RecordingReporter
) -> None:
    rules.may_push = False
    error = refusal(reporter)
    assert (error.id, error.cause) == ("push-refused", f"denied: {rules.denial('uploadArtifacts')}")
    assert error.message == f"cannot push images to {REPOSITORY}: access denied"


def test_an_account_that_may_push_but_not_read_passes(
    google: Front, rules: ArtifactRules, reporter: RecordingReporter
) -> None:
    rules.may_read = False
    registry(reporter).check()


def test_a_disabled_api_is_reported(google: Front, rules: ArtifactRules, reporter: RecordingReporter) -> None:
    rules.is_enabled = False
    assert refusal(reporter).id == "registry-api-disabled"


def test_a_token_that_is_rejected_is_in_no_message(google: Front, reporter: RecordingReporter) -> None:
    error = refusal(reporter, token="another-secret")
    assert (error.id, error.cause) == ("push-refused", "unauthorized: authentication failed")


def test_a_registry_that_does_not_answer_is_left_to_the_push(
    reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caliban.images.registry.api.manifest_url", lambda image: "http://localhost:1/v2/a")
    registry(reporter).check()
    assert reporter.lines == []


NO_LOGIN = CredentialsError(NO_CREDENTIALS, "no Google credentials found", hint="run: gcloud auth login")


def test_an_access_token_is_the_login(reporter: RecordingReporter) -> None:
    login = registry(reporter).login()
    assert login is not None
    assert (login.username, login.password) == ("oauth2accesstoken", TOKEN)


def test_without_google_credentials_the_login_that_docker_stored_is_used(
    reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker_logins(monkeypatch, tmp_path / "docker", **{HOST: STORED})
    login = registry(reporter, token=NO_LOGIN).login()
    assert login is not None
    assert (login.username, login.password) == ("totoro", "planted-secret")


def test_without_any_login_the_hint_names_both_ways(
    reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker_logins(monkeypatch, tmp_path / "docker")
    with pytest.raises(CalibanError) as caught:
        registry(reporter, token=NO_LOGIN).login()
    assert caught.value.id == NO_CREDENTIALS
    assert caught.value.message == f"no Google credentials found, and no docker login stored for {HOST}"
    assert caught.value.hint == (
        f"run: gcloud auth login; or run: gcloud auth configure-docker {HOST}, or docker login {HOST}"
    )


def test_credentials_that_google_rejects_are_an_error_despite_a_stored_login(
    reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker_logins(monkeypatch, tmp_path / "docker", **{HOST: STORED})
    with pytest.raises(CredentialsError) as caught:
        registry(reporter, token=CredentialsError("credentials-refused", "rejected")).login()
    assert caught.value.id == "credentials-refused"


def test_a_token_is_in_no_representation(reporter: RecordingReporter) -> None:
    assert TOKEN not in f"{registry(reporter)!r} {registry(reporter).login()!r}"
