"""Credentials, projects and endpoints of Google's APIs."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import google.auth as google_auth
import pytest
from googleapiclient import discovery  # type: ignore[import-untyped]

from caliban.errors import CalibanError, ExitCode, UsageError
from caliban.platforms.google.client import Google
from caliban.platforms.google.endpoints import endpoint_override
from caliban.platforms.google.errors import CredentialsError, GoogleUnreachableError
from tests.fakes import FakeClock
from tests.platforms.google.helpers import POLICY, platform_context
from tests.standins.faults import Fault
from tests.standins.ml_v1 import MlV1


@pytest.fixture
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make google-auth fail where it waits by itself."""

    def refuse(seconds: float) -> None:
        raise AssertionError(f"google-auth sleeps for {seconds} s")

    monkeypatch.setattr("google.auth._exponential_backoff.time", SimpleNamespace(sleep=refuse))


def google(service: MlV1 | None = None, **kwargs: Any) -> Google:
    return Google(platform_context(service=service, **kwargs), POLICY)


def changed_key(key: Path, **fields: object) -> Path:
    key.write_text(json.dumps({**json.loads(key.read_text()), **fields}))
    return key


def test_the_key_named_on_the_command_line_gives_a_token(service: MlV1, key: Path) -> None:
    token = google(service, environ={"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere"}, cloud_key=key).access_token()
    assert service.account.accepts(token)


def test_the_key_named_by_the_environment_gives_a_token(service: MlV1, key: Path) -> None:
    token = google(service, environ={"GOOGLE_APPLICATION_CREDENTIALS": str(key)}).access_token()
    assert service.account.accepts(token)


def test_a_token_is_fetched_once_for_all_threads(service: MlV1, key: Path) -> None:
    shared = google(service, cloud_key=key)
    threads = [threading.Thread(target=shared.access_token) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.counts["oauth.token"] == 1


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        google(cloud_key=tmp_path / "gone.json").access_token()
    assert caught.value.id == "key-not-found"
    assert caught.value.message == f"file not found: {tmp_path / 'gone.json'}"
    assert caught.value.hint == "check --cloud_key and $GOOGLE_APPLICATION_CREDENTIALS"
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_key_file_that_cannot_be_read_is_reported_in_the_systems_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        google(cloud_key=tmp_path).access_token()
    assert caught.value.id == "key-not-readable"
    assert (caught.value.message, caught.value.cause) == (
        f"cannot read the credentials file {tmp_path}",
        "it is a directory",
    )


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("not JSON {", "not JSON"),
        ("[1]", "not a JSON object"),
        (
            '{"type": "service_account", "client_email": "a@example.com"}',
            "Service account info was not in the expected format",
        ),
        ('{"type": "authorized_user"}', "Authorized user info was not in the expected format, missing fields"),
        ('{"type": "house key"}', "does not have a valid type"),
    ],
)
def test_a_malformed_key_file_is_reported_with_what_is_wrong(tmp_path: Path, content: str, cause: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        google(cloud_key=path).access_token()
    assert caught.value.id == "key-malformed"
    assert caught.value.message == f"not a Google credentials file: {path}"
    assert cause in str(caught.value.cause)


def test_a_malformed_private_key_is_reported_without_any_part_of_it(key: Path) -> None:
    changed_key(key, private_key="-----BEGIN PRIVATE KEY-----\nMIIsecretsecret\n-----END PRIVATE KEY-----\n")
    with pytest.raises(UsageError) as caught:
        google(cloud_key=key).access_token()
    assert caught.value.id == "key-malformed"
    assert caught.value.cause == "malformed private key"


def test_tokens_are_not_fetched_without_tls_from_another_machine(key: Path) -> None:
    changed_key(key, token_uri="http://tokens.example.com/token")
    with pytest.raises(UsageError) as caught:
        google(cloud_key=key).access_token()
    assert caught.value.cause == "token_uri is not an https URL: http://tokens.example.com/token"


def test_credentials_of_a_user_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    user = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    path.write_text(json.dumps(user))
    assert google(cloud_key=path).credentials().credentials.token is None


def test_other_kinds_of_credentials_that_google_auth_knows_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    user = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    accounts = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
    other = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": f"{accounts}/a@totoro-project.iam.gserviceaccount.com:generateAccessToken",
        "source_credentials": user,
    }
    path.write_text(json.dumps(other))
    assert google(cloud_key=path).credentials().credentials.token is None


def test_credentials_that_need_another_file_say_when_it_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    external = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": "/nowhere/token"},
    }
    path.write_text(json.dumps(external))
    with pytest.raises(CredentialsError) as caught:
        google(cloud_key=path).project()
    assert caught.value.cause == "File '/nowhere/token' was not found."


@pytest.mark.usefixtures("no_google_login")
def test_without_credentials_the_hint_says_how_to_get_some() -> None:
    with pytest.raises(CredentialsError) as caught:
        google().access_token()
    assert caught.value.id == "no-credentials"
    assert caught.value.message == "no Google credentials found"
    assert "gcloud auth application-default login" in str(caught.value.hint)


@pytest.mark.usefixtures("no_google_login")
def test_without_a_key_the_application_default_credentials_are_used(
    service: MlV1, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    assert service.account.accepts(google(service).access_token())


def test_a_refused_assertion_is_reported_in_googles_words(service: MlV1, key: Path) -> None:
    service.account.refusal = ("invalid_grant", "Invalid JWT Signature.")
    with pytest.raises(CredentialsError) as caught:
        google(service, cloud_key=key).access_token()
    assert caught.value.id == "credentials-refused"
    assert caught.value.message == "Google does not accept the credentials"
    assert caught.value.cause == "invalid_grant: Invalid JWT Signature."


def test_refused_credentials_are_not_tried_again(service: MlV1, key: Path) -> None:
    service.account.refusal = ("invalid_grant", "Token has been expired or revoked.")
    refused = google(service, cloud_key=key)
    for _ in range(3):
        with pytest.raises(CredentialsError):
            refused.access_token()
    assert service.counts["oauth.token"] == 1


def test_a_token_endpoint_that_cannot_be_reached_is_retried_and_then_reported(service: MlV1, key: Path) -> None:
    service.faults.add(Fault("oauth.token", "refuse", times=100))
    with pytest.raises(GoogleUnreachableError) as caught:
        Google(platform_context(cloud_key=key), POLICY).access_token()
    assert caught.value.message == "cannot fetch an access token"
    assert service.counts["oauth.token"] > 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_token_endpoint_that_fails_for_a_while_is_retried_by_our_policy_alone(
    service: MlV1, key: Path, clock: FakeClock, no_sleep: None, status: int
) -> None:
    service.faults.add(Fault("oauth.token", "status", times=3, status=status))
    token = Google(platform_context(cloud_key=key, clock=clock), POLICY).access_token()
    assert service.account.accepts(token)
    assert (service.counts["oauth.token"], clock.seconds > 0) == (4, True)


@pytest.mark.usefixtures("no_sleep")
def test_a_token_endpoint_that_keeps_failing_is_no_refusal_of_the_credentials(service: MlV1, key: Path) -> None:
    service.faults.add(Fault("oauth.token", "status", times=1000))
    with pytest.raises(GoogleUnreachableError) as caught:
        Google(platform_context(cloud_key=key), POLICY).access_token()
    assert caught.value.id == "google-unreachable"
    assert f"(tried {service.counts['oauth.token']} times in " in str(caught.value.cause)


@pytest.mark.usefixtures("no_sleep")
def test_an_oauth_error_that_is_temporary_is_retried(service: MlV1, key: Path) -> None:
    service.account.refusal = ("temporarily_unavailable", "Try again.")
    with pytest.raises(GoogleUnreachableError):
        Google(platform_context(cloud_key=key), POLICY).access_token()
    assert service.counts["oauth.token"] > 1


@pytest.mark.parametrize(
    ("project_id", "environ", "expected"),
    [
        ("flag-project", {"PROJECT_ID": "environ-project"}, "flag-project"),
        (None, {"PROJECT_ID": "environ-project"}, "environ-project"),
        (None, {"PROJECT_ID": ""}, "totoro-project"),
        (None, {}, "totoro-project"),
    ],
)
def test_the_project_is_that_of_the_flag_then_the_environment_then_the_key(
    key: Path, project_id: str | None, environ: Mapping[str, str], expected: str
) -> None:
    assert google(environ=environ, project_id=project_id, cloud_key=key).project() == expected


@pytest.mark.usefixtures("no_google_login")
def test_the_project_of_the_default_credentials_is_the_last_resort(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    assert google().project() == "totoro-project"


def test_without_a_project_the_error_says_how_to_specify_one(key: Path) -> None:
    changed_key(key, project_id="")
    with pytest.raises(UsageError) as caught:
        google(cloud_key=key).project()
    assert caught.value.id == "no-project"
    assert caught.value.cause == (
        "neither --project_id nor $PROJECT_ID is set, and the credentials belong to no project"
    )
    assert caught.value.hint == "add --project_id PROJECT_ID, or set PROJECT_ID"


def test_endpoints_are_those_configured_for_gcloud() -> None:
    environ = {"CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": "https://europe-west4-aiplatform.googleapis.com"}
    assert endpoint_override(environ, "aiplatform") == "https://europe-west4-aiplatform.googleapis.com/"
    assert endpoint_override(environ, "ml") is None


@pytest.mark.parametrize("endpoint", ["ml.googleapis.com", "ftp://ml.googleapis.com/", "http://"])
def test_an_endpoint_that_is_not_a_url_is_refused(key: Path, endpoint: str) -> None:
    named = google(environ={"CLOUDSDK_API_ENDPOINT_OVERRIDES_ML": endpoint}, cloud_key=key)
    with pytest.raises(UsageError) as caught:
        named.resource("ml", "v1")
    assert caught.value.message == "$CLOUDSDK_API_ENDPOINT_OVERRIDES_ML is not an endpoint"
    assert caught.value.cause == f'expected an http or https URL, got "{endpoint}"'


@pytest.mark.parametrize(("api", "version"), [("ml", "v1"), ("container", "v1"), ("aiplatform", "v1")])
def test_clients_are_created_without_a_network_and_once(key: Path, api: str, version: str) -> None:
    offline = google(cloud_key=changed_key(key, token_uri="https://tokens.googleapis.com/token"))
    assert offline.resource(api, version) is offline.resource(api, version)


def test_only_the_methods_of_the_requested_resource_are_made(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create, made = discovery.createMethod, set()

    def recorded(name: str, *rest: Any) -> Any:
        made.add(name)
        return create(name, *rest)

    monkeypatch.setattr(discovery, "createMethod", recorded)
    google(cloud_key=key).resource("ml", "v1", "projects", "jobs")
    policies = {"getIamPolicy", "setIamPolicy", "testIamPermissions"}
    assert made - policies == {"cancel", "create", "get", "list", "patch"}


def test_errors_of_credentials_are_ours() -> None:
    assert issubclass(CredentialsError, CalibanError)


def test_a_key_of_another_universe_is_used_at_that_universes_endpoint(key: Path) -> None:
    elsewhere = google(cloud_key=changed_key(key, universe_domain="universe.example.com"))
    request = elsewhere.resource("ml", "v1", "projects", "jobs").get(name="projects/totoro-project/jobs/a_job")
    assert request.uri.startswith("https://ml.universe.example.com/v1/projects/totoro-project/jobs/a_job")


def test_without_an_override_the_endpoint_is_googles(key: Path) -> None:
    request = (
        google(cloud_key=key).resource("ml", "v1", "projects", "jobs").get(name="projects/totoro-project/jobs/a_job")
    )
    assert request.uri.startswith("https://ml.googleapis.com/v1/projects/totoro-project/jobs/a_job")


@pytest.mark.usefixtures("no_google_login")
def test_missing_credentials_are_calls_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    default = google_auth.default

    def counted(**asked: Any) -> Any:
        calls.append(asked)
        return default(**asked)

    monkeypatch.setattr(google_auth, "default", counted)
    without = google()
    for _ in range(3):
        with pytest.raises(CredentialsError):
            without.credentials()
    assert len(calls) == 1


@pytest.mark.usefixtures("no_google_login")
def test_google_auth_logs_nothing_about_missing_credentials(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(CredentialsError):
        google().credentials()
    assert caplog.records == []
