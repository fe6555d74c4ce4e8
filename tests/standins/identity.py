"""A stand-in for the services that give tokens to users, workloads and machines, for real google-auth on loopback.

Sources: RFC 6749 and 8693; https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token;
https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken;
https://cloud.google.com/resource-manager/reference/rest/v1/projects/get;
https://cloud.google.com/compute/docs/metadata/querying-metadata.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest

from tests.standins.faults import Fault
from tests.standins.serving import Answer, Call, StandIn, parsed

USER: Mapping[str, str] = {"client_id": "the-client", "client_secret": "the-client-secret", "refresh_token": "1//login"}
EMAIL = "robot@totoro-project.iam.gserviceaccount.com"
NUMBER = "123456789012"
AUDIENCE = f"//iam.googleapis.com/projects/{NUMBER}/locations/global/workloadIdentityPools/lab/providers/ci"
SUBJECT_TOKEN = "subject.of.ci"
SUBJECT_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:jwt"
AWS_TOKEN_TYPE = "urn:ietf:params:aws:token-type:aws4_request"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
_GENERATE = re.compile(r"/v1/projects/-/serviceAccounts/([^/:]+):generateAccessToken")
_METADATA = "/computeMetadata/v1/"


class _Refused(Exception):
    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class Identity(StandIn):
    """Google's token services, and the metadata server of a machine.

    Attributes:
        project: of the workload identity pool and of the machine; None for one that callers may not see.
        has_account: whether the machine has a service account.
    """

    def __init__(self) -> None:
        super().__init__()
        self.project: str | None = "totoro-project"
        self.has_account = True
        self._valid = {"user-token", "federated-token", "machine-token"}
        self._is_accepted: Callable[[str], bool] = lambda token: token in self._valid

    def accepts(self, is_accepted: Callable[[str], bool]) -> None:
        """Let tokens of another stand-in be as good as those from here."""
        own = self._is_accepted
        self._is_accepted = lambda token: own(token) or is_accepted(token)

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def stand_for_google(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let google-auth find here what no credentials file names: IAM Credentials and Resource Manager."""
        iam = f"{self.url}/v1/projects/-/serviceAccounts/{{}}:generateAccessToken"
        monkeypatch.setattr("google.auth.iam._IAM_ENDPOINT", iam)
        monkeypatch.setattr("google.auth.external_account._CLOUD_RESOURCE_MANAGER", f"{self.url}/v1/projects/")

    def stand_for_metadata(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let google-auth take this for the metadata server of its machine; it read the environment on import."""
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{self.port}")
        monkeypatch.setattr("google.auth.compute_engine._metadata._NO_GCE_CHECK", False)
        monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", f"127.0.0.1:{self.port}")

    def user(self, **fields: object) -> dict[str, object]:
        """What ``gcloud auth application-default login`` writes."""
        return {"type": "authorized_user", **USER, "token_uri": f"{self.url}/token", **fields}

    def impersonated(self, **fields: object) -> dict[str, object]:
        """What ``gcloud auth application-default login --impersonate-service-account`` writes."""
        return {
            "type": "impersonated_service_account",
            "service_account_impersonation_url": self._impersonation(),
            "delegates": [],
            "source_credentials": self.user(),
            **fields,
        }

    def external(self, source: Mapping[str, object], *, impersonates: bool = False, **fields: object) -> dict[str, Any]:
        """What ``gcloud iam workload-identity-pools create-cred-config`` writes, with a source of subject tokens."""
        return {
            "type": "external_account",
            "audience": AUDIENCE,
            "subject_token_type": SUBJECT_TOKEN_TYPE,
            "token_url": f"{self.url}/v1/token",
            "credential_source": dict(source),
            **({"service_account_impersonation_url": self._impersonation()} if impersonates else {}),
            **fields,
        }

    def workforce(self, **fields: object) -> dict[str, object]:
        """What ``gcloud auth application-default login`` writes for a workforce pool."""
        return {
            "type": "external_account_authorized_user",
            "audience": "//iam.googleapis.com/locations/global/workforcePools/lab/providers/idp",
            **USER,
            "token_url": f"{self.url}/v1/oauthtoken",
            "token_info_url": f"{self.url}/v1/introspect",
            **fields,
        }

    def aws(self) -> dict[str, Any]:
        """What ``create-cred-config --aws`` writes; the keys are in the environment."""
        source = {
            "environment_id": "aws1",
            "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
        }
        return self.external(source, subject_token_type=AWS_TOKEN_TYPE)

    def _impersonation(self) -> str:
        return f"{self.url}/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"

    def name_of(self, call: Call) -> str:
        if call.path.startswith(_METADATA) or call.path == "/":
            return "metadata"
        if _GENERATE.fullmatch(call.path):
            return "generateAccessToken"
        names = {"/token": "refresh", "/v1/oauthtoken": "workforce", "/v1/token": "exchange", "/subject": "subject"}
        return names.get(call.path, "project" if call.path.startswith("/v1/projects/") else "unknown")

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        if fault is not None and fault.kind == "status":
            return Answer(fault.status, _rpc_error(fault.status, fault.message))
        try:
            return getattr(self, f"_{self.name_of(call)}")(call)  # type: ignore[no-any-return]
        except _Refused as refused:
            return refused.answer

    def _refresh(self, call: Call) -> Answer:
        given = _form(call)
        if given.get("grant_type") != "refresh_token":
            return Answer(400, {"error": "unsupported_grant_type", "error_description": "Invalid grant_type"})
        if {name: given.get(name) for name in USER} != dict(USER):
            return Answer(400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
        return Answer(200, {"access_token": "user-token", "expires_in": 3599, "token_type": "Bearer"})

    def _workforce(self, call: Call) -> Answer:
        given = _form(call)
        login = base64.b64encode(f"{USER['client_id']}:{USER['client_secret']}".encode()).decode()
        if call.headers.get("Authorization") != f"Basic {login}" or given.get("grant_type") != "refresh_token":
            return Answer(401, {"error": "invalid_client", "error_description": "The client is unknown."})
        if given.get("refresh_token") != USER["refresh_token"]:
            return Answer(400, {"error": "invalid_grant", "error_description": "Session has expired."})
        return Answer(200, {"access_token": "user-token", "expires_in": 3599, "token_type": "Bearer"})

    def _exchange(self, call: Call) -> Answer:
        given = _form(call)
        expected = {
            "grant_type": _EXCHANGE,
            "audience": AUDIENCE,
            "requested_token_type": _ACCESS_TOKEN,
        }
        wrong = [name for name, value in expected.items() if given.get(name) != value]
        if wrong or not given.get("scope"):
            return Answer(400, {"error": "invalid_request", "error_description": f"Invalid {wrong or ['scope']}"})
        if not _is_accepted_subject(given):
            text = "The ID Token issued by https://ci.example.com is stale to sign-in."
            return Answer(400, {"error": "invalid_grant", "error_description": text})
        token = {"access_token": "federated-token", "issued_token_type": _ACCESS_TOKEN}
        return Answer(200, {**token, "token_type": "Bearer", "expires_in": 3599})

    def _generateAccessToken(self, call: Call) -> Answer:
        self._check_bearer(call)
        if call.path.split("/")[-1] != f"{EMAIL}:generateAccessToken":
            return Answer(404, _rpc_error(404, "Not found; Gaia id not found for email."))
        if not isinstance(call.json, dict) or call.json.get("scope") != [_SCOPE]:
            return Answer(400, _rpc_error(400, "Scope required."))
        self._valid.add("robot-token")
        expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        return Answer(200, {"accessToken": "robot-token", "expireTime": expiry})

    def _project(self, call: Call) -> Answer:
        self._check_bearer(call)
        if self.project is None or call.path != f"/v1/projects/{NUMBER}":
            return Answer(403, _rpc_error(403, "The caller does not have permission"))
        return Answer(200, {"projectNumber": NUMBER, "projectId": self.project, "lifecycleState": "ACTIVE"})

    def _subject(self, call: Call) -> Answer:
        if call.headers.get("Authorization") != "Bearer of-the-runner":
            return Answer(401, {"message": "the runner's token is missing"})
        return Answer(200, {"value": SUBJECT_TOKEN})

    def _metadata(self, call: Call) -> Answer:
        if call.headers.get("Metadata-Flavor") != "Google":
            return Answer(403, _rpc_error(403, "Missing Metadata-Flavor:Google header."))
        account = f"{_METADATA}instance/service-accounts/default/"
        known: dict[str, Any] = {"/": "computeMetadata/", f"{_METADATA}project/project-id": self.project}
        if self.has_account:
            scopes = [_SCOPE]
            known[account] = {"aliases": ["default"], "email": EMAIL, "scopes": scopes}
            known[f"{account}token"] = {"access_token": "machine-token", "expires_in": 3599, "token_type": "Bearer"}
        found = known.get(call.path)
        headers = {"Metadata-Flavor": "Google"}
        if found is None:
            return Answer(
                404, None, {**headers, "Content-Type": "text/html"}, [b"<title>Error 404 (Not Found)</title>"]
            )
        if isinstance(found, str):
            return Answer(200, None, {**headers, "Content-Type": "application/text"}, [found.encode()])
        return Answer(200, found, headers)

    def _unknown(self, call: Call) -> Answer:
        return Answer(404, _rpc_error(404, f"The requested URL {call.target} was not found on this server."))

    def _check_bearer(self, call: Call) -> None:
        if call.bearer is None or not self._is_accepted(call.bearer):
            raise _Refused(Answer(401, _rpc_error(401, "Request had invalid authentication credentials.")))

    def control(self, path: str, given: Mapping[str, Any]) -> dict[str, Any]:
        raise LookupError(path)


def _is_accepted_subject(given: Mapping[str, str]) -> bool:
    """Whether a subject token is that of the workload: as it is, or as a signed request to AWS."""
    token = given.get("subject_token", "")
    if given.get("subject_token_type") == SUBJECT_TOKEN_TYPE:
        return token == SUBJECT_TOKEN
    signed = parsed(unquote(token).encode()) or {}
    headers = {each["key"].lower(): each["value"] for each in signed.get("headers", [])}
    is_signed = headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    is_for_pool = headers.get("x-goog-cloud-target-resource") == AUDIENCE
    return given.get("subject_token_type") == AWS_TOKEN_TYPE and is_signed and is_for_pool


def _form(call: Call) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(call.raw.decode()).items()}


def _rpc_error(code: int, message: str) -> dict[str, Any]:
    names = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
    return {"error": {"code": code, "message": message, "status": names.get(code, "UNAVAILABLE")}}
