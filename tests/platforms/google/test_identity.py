"""Credentials of users, impersonated accounts, workloads and machines: real google-auth, its services on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caliban.clock import SystemClock
from caliban.errors import CalibanError, UsageError
from caliban.platforms.google.client import Google
from caliban.platforms.google.errors import CredentialsError, GoogleUnreachableError
from tests.fakes import FakeClock, RecordingReporter
from tests.platforms.google.helpers import POLICY, platform_context
from tests.standins.faults import Fault
from tests.standins.identity import EMAIL, SUBJECT_TOKEN, SUBJECT_TOKEN_TYPE, Identity
from tests.standins.ml_v1 import MlV1

ALLOW = "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"
DENIED = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."

pytestmark = pytest.mark.usefixtures("no_google_login")


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Iterator[Identity]:
    with Identity() as running:
        running.stand_for_google(monkeypatch)
        yield running


class Login:
    """Credentials files in a directory."""

    def __init__(self, identity: Identity, directory: Path) -> None:
        self.identity = identity
        self.directory = directory
        self.reporter = RecordingReporter()

    def google(self, key: dict[str, Any] | None, environ: dict[str, str] | None = None, **kwargs: Any) -> Google:
        path = self.directory / "login.json"
        path.write_text(json.dumps(key))
        file = path if key is not None else None
        return Google(platform_context(environ, cloud_key=file, reporter=self.reporter, **kwargs), POLICY)

    def source(self, kind: str) -> dict[str, object]:
        """Return a source of subject tokens: ``file``, ``json``, ``url`` or ``program``."""
        as_json = {"format": {"type": "json", "subject_token_field_name": "value"}}
        if kind == "url":
            return {
                "url": f"{self.identity.url}/subject",
                "headers": {"Authorization": "Bearer of-the-runner"},
                **as_json,
            }
        file = self.directory / kind
        file.write_text(json.dumps({"value": SUBJECT_TOKEN}) if kind == "json" else SUBJECT_TOKEN)
        return {"file": str(file), **(as_json if kind == "json" else {})}

    def program(self, *lines: str) -> dict[str, object]:
        file = self.directory / "program"
        file.write_text("\n".join(("#!/bin/sh", *lines)))
        file.chmod(0o755)
        return {"executable": {"command": str(file), "timeout_millis": 5000}}


@pytest.fixture
def login(identity: Identity, tmp_path: Path) -> Login:
    return Login(identity, tmp_path)


def headers(google: Google) -> dict[str, str]:
    """Return what a request has to show for itself."""
    sent: dict[str, str] = {}
    google.credentials().apply(sent)
    return sent


def test_a_user_gets_a_token(login: Login) -> None:
    assert login.google(login.identity.user()).access_token() == "user-token"


def test_a_user_impersonates_a_service_account(login: Login) -> None:
    assert login.google(login.identity.impersonated()).access_token() == "robot-token"


def test_a_user_of_this_machines_token_service_impersonates_by_googles(login: Login) -> None:
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"
    key = login.identity.impersonated(service_account_impersonation_url=url)
    assert login.google(key).access_token() == "robot-token"


def test_a_service_account_impersonates_another_one(login: Login, service: MlV1, tmp_path: Path) -> None:
    key = json.loads(service.write_key_file(tmp_path / "key.json").read_text())
    login.identity.accepts(service.account.accepts)
    assert login.google(login.identity.impersonated(source_credentials=key)).access_token() == "robot-token"


@pytest.mark.parametrize("kind", ["file", "json", "url"])
@pytest.mark.parametrize(("impersonates", "token"), [(False, "federated-token"), (True, "robot-token")])
def test_a_workload_exchanges_its_token(login: Login, kind: str, impersonates: bool, token: str) -> None:
    key = login.identity.external(login.source(kind), impersonates=impersonates)
    assert login.google(key).access_token() == token


def test_a_workload_gets_its_token_from_a_program_that_may_be_run(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"version": 1, "success": True, "token_type": SUBJECT_TOKEN_TYPE, "id_token": SUBJECT_TOKEN}
    key = login.identity.external(login.program(f"echo '{json.dumps({**said, 'expiration_time': 4102444800})}'"))
    with pytest.raises(CredentialsError) as caught:
        login.google(key, clock=SystemClock()).access_token()
    assert caught.value.hint == f"set {ALLOW}=1, if the program may be run"
    monkeypatch.setenv(ALLOW, "1")
    assert login.google(key, clock=SystemClock()).access_token() == "federated-token"


def test_a_workload_on_aws_exchanges_a_signed_request(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-2"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    assert login.google(login.identity.aws()).access_token() == "federated-token"


def test_a_user_of_a_workforce_pool_gets_a_token(login: Login) -> None:
    google = login.google(login.identity.workforce(quota_project_id="of-the-file"))
    assert headers(google) == {"authorization": "Bearer user-token", "x-goog-user-project": "of-the-file"}


def test_a_machine_on_google_cloud_has_a_token_and_a_project(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    login.identity.stand_for_metadata(monkeypatch)
    google = login.google(None)
    assert (google.access_token(), google.project()) == ("machine-token", "totoro-project")
    assert login.reporter.lines == ["using project totoro-project (the metadata server)"]


def test_the_project_of_a_workload_is_asked_for_only_where_nothing_names_one(login: Login) -> None:
    key = login.identity.external(login.source("file"))
    assert login.google(key, {"PROJECT_ID": "my-project"}).project() == "my-project"
    assert login.identity.counts == {}
    assert login.google(key).project() == "totoro-project"
    assert login.identity.counts == {"exchange": 1, "project": 1}
    assert login.reporter.lines == ["using project totoro-project (workload identity federation)"]


@pytest.mark.parametrize("status", [403, 404])
def test_a_workload_that_may_not_see_its_project_needs_another_way_to_name_it(login: Login, status: int) -> None:
    login.identity.faults.add(Fault("project", "status", times=99, status=status))
    with pytest.raises(UsageError) as caught:
        login.google(login.identity.external(login.source("file"))).project()
    assert caught.value.id == "no-project"
    assert "resourcemanager.projects.get" in str(caught.value.hint)


# Quota projects:


def quota_kinds(login: Login) -> dict[str, dict[str, Any]]:
    return {
        "user": login.identity.user(quota_project_id="of-the-file"),
        "impersonated": login.identity.impersonated(quota_project_id="of-the-file"),
        "external": login.identity.external(login.source("file"), quota_project_id="of-the-file"),
    }


@pytest.mark.parametrize("kind", ["user", "impersonated", "external"])
@pytest.mark.parametrize(
    ("environ", "sent"), [({}, "of-the-file"), ({"GOOGLE_CLOUD_QUOTA_PROJECT": "of-the-shell"}, "of-the-shell")]
)
def test_requests_name_the_quota_project(login: Login, kind: str, environ: dict[str, str], sent: str) -> None:
    assert headers(login.google(quota_kinds(login)[kind], environ))["x-goog-user-project"] == sent


def test_the_environment_sets_the_quota_project_of_a_service_account(login: Login, key: Path) -> None:
    google = Google(platform_context({"GOOGLE_CLOUD_QUOTA_PROJECT": "of-the-shell"}, cloud_key=key), POLICY)
    assert headers(google)["x-goog-user-project"] == "of-the-shell"


def test_without_a_quota_project_requests_name_none(login: Login) -> None:
    assert list(headers(login.google(login.identity.user()))) == ["authorization"]


@pytest.mark.parametrize("name", ["a\r\nx-evil: 1", "a b", "a/b"])
def test_a_malformed_quota_project_is_refused_before_anything_is_sent(login: Login, name: str) -> None:
    for key, environ in (
        (login.identity.user(quota_project_id=name), {}),
        (None, {"GOOGLE_CLOUD_QUOTA_PROJECT": name}),
    ):
        with pytest.raises(UsageError) as caught:
            login.google(key or login.identity.user(), environ).access_token()
        assert caught.value.id == "project-malformed"
    assert login.identity.requests == []


@pytest.mark.parametrize("value", [123, ["p"], {"p": 1}])
def test_a_quota_project_that_is_no_text_is_a_malformed_file(login: Login, value: object) -> None:
    with pytest.raises(UsageError) as caught:
        login.google(login.identity.user(quota_project_id=value)).access_token()
    assert (caught.value.id, caught.value.cause) == ("key-malformed", "quota_project_id is not a text")


def test_a_quota_project_is_not_the_project_of_jobs_but_named_where_there_is_none(login: Login) -> None:
    with pytest.raises(UsageError) as caught:
        login.google(login.identity.user(quota_project_id="my-quota")).project()
    assert caught.value.id == "no-project"
    assert "the quota project of the credentials is my-quota" in str(caught.value.hint)


# Why there is no token:

REVOKED = {"refresh_token": "1//revoked"}


def failing(login: Login, case: str) -> dict[str, Any]:
    identity = login.identity
    if case.endswith("denied"):
        identity.faults.add(Fault("generateAccessToken", "status", times=99, status=403, message=DENIED))
    stale = {"file": str(login.directory / "stale")}
    (login.directory / "stale").write_text("stale")
    made: dict[str, Callable[[], dict[str, Any]]] = {
        "user revoked": lambda: identity.user(**REVOKED),
        "user of a workforce pool revoked": lambda: identity.workforce(**REVOKED),
        "impersonation denied": identity.impersonated,
        "impersonating user revoked": lambda: identity.impersonated(source_credentials=identity.user(**REVOKED)),
        "workload's impersonation denied": lambda: identity.external(login.source("file"), impersonates=True),
        "stale token of a workload": lambda: identity.external(stale),
        "missing file": lambda: identity.external({"file": "/nowhere/token"}),
        "directory": lambda: identity.external({"file": str(login.directory)}),
        "url refuses": lambda: identity.external({**login.source("url"), "headers": {}}),
        "url without the field": lambda: identity.external({**login.source("url"), "format": FIELD}),
        "program fails": lambda: identity.external(login.program("echo 'not logged in' >&2", "exit 3")),
        "program without an answer": lambda: identity.external(login.program("echo hello")),
        "no program": lambda: identity.external({"executable": {"command": "/nowhere/program"}}),
    }
    return made[case]()


FIELD = {"type": "json", "subject_token_field_name": "other"}


@pytest.mark.parametrize(
    ("case", "id", "cause", "hint"),
    [
        ("user revoked", "credentials-refused", "expired or revoked", "run: gcloud auth application-default login"),
        (
            "user of a workforce pool revoked",
            "credentials-refused",
            "Session has expired.",
            "run: gcloud auth application-default login",
        ),
        (
            "impersonation denied",
            "credentials-refused",
            DENIED,
            f"ask for the role roles/iam.serviceAccountTokenCreator on {EMAIL}",
        ),
        (
            "impersonating user revoked",
            "credentials-refused",
            "expired or revoked",
            f"run: gcloud auth application-default login --impersonate-service-account {EMAIL}",
        ),
        (
            "workload's impersonation denied",
            "credentials-refused",
            DENIED,
            f"grant the workload the role roles/iam.workloadIdentityUser on {EMAIL}",
        ),
        ("stale token of a workload", "credentials-refused", "is stale to sign-in", "attribute condition"),
        ("missing file", "credentials-unavailable", "File '/nowhere/token' was not found.", "credential_source"),
        ("directory", "credentials-unavailable", "directory", "credential_source"),
        ("url refuses", "credentials-unavailable", "the runner's token is missing", "credential_source"),
        ("url without the field", "credentials-unavailable", "using key 'other'", "credential_source"),
        ("program fails", "credentials-unavailable", "not logged in", "credential_source"),
        ("program without an answer", "credentials-unavailable", "", "credential_source"),
        ("no program", "credentials-unavailable", "/nowhere/program", "credential_source"),
    ],
)
def test_the_error_says_who_gives_no_token_and_what_to_do(
    login: Login, monkeypatch: pytest.MonkeyPatch, case: str, id: str, cause: str, hint: str
) -> None:
    monkeypatch.setenv(ALLOW, "1")
    clock = SystemClock() if "program" in case else FakeClock()
    with pytest.raises(CredentialsError) as caught:
        login.google(failing(login, case), clock=clock).access_token()
    assert caught.value.id == id
    assert cause in str(caught.value.cause)
    assert hint in str(caught.value.hint)


def test_a_machine_without_a_service_account_says_so_at_once(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    login.identity.stand_for_metadata(monkeypatch)
    login.identity.has_account = False
    with pytest.raises(CredentialsError) as caught:
        login.google(None).access_token()
    assert caught.value.id == "credentials-unavailable"
    assert caught.value.message == "the metadata server of this machine has no access token"
    assert "attach a service account to the machine" in str(caught.value.hint)


@pytest.mark.parametrize("method", ["refresh", "generateAccessToken", "exchange", "subject"])
def test_a_token_service_that_fails_for_a_while_is_retried(login: Login, method: str) -> None:
    login.identity.faults.add(Fault(method, "status", times=2, status=503))
    is_workload = method in ("exchange", "subject")
    key = login.identity.external(login.source("url")) if is_workload else login.identity.impersonated()
    assert login.google(key).access_token() in ("federated-token", "robot-token")
    assert login.identity.counts[method] == 3


def test_a_metadata_server_that_fails_for_a_while_is_retried(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    login.identity.stand_for_metadata(monkeypatch)
    google = login.google(None)
    google.credentials()
    login.identity.faults.add(Fault("metadata", "status", times=2, status=503))
    assert google.access_token() == "machine-token"


def test_a_token_service_that_keeps_failing_is_no_refusal(login: Login) -> None:
    login.identity.faults.add(Fault("generateAccessToken", "status", times=999, status=503, message="try later"))
    with pytest.raises(GoogleUnreachableError) as caught:
        login.google(login.identity.impersonated()).access_token()
    assert "try later" in str(caught.value.cause)


def test_the_token_of_a_workload_may_be_accepted_later(login: Login) -> None:
    file = login.directory / "rotated"
    google = login.google(login.identity.external({"file": str(file)}))
    for content in (None, "stale"):
        if content:
            file.write_text(content)
        with pytest.raises(CredentialsError):
            google.access_token()
    file.write_text(SUBJECT_TOKEN)
    assert google.access_token() == "federated-token"


@pytest.mark.parametrize("case", ["user revoked", "impersonating user revoked", "url refuses"])
def test_no_secret_of_a_login_is_in_the_error(login: Login, case: str) -> None:
    with pytest.raises(CalibanError) as caught:
        login.google(failing(login, case)).access_token()
    shown = f"{caught.value.message}{caught.value.cause}{caught.value.hint}"
    assert not any(secret in shown for secret in ("1//revoked", "the-client-secret", "of-the-runner"))
