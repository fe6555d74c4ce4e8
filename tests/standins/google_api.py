"""What the stand-ins for Google's APIs share: the discovery document, a service account, and Google's refusals."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tests.standins.discovery import ApiError, Discovery, Method
from tests.standins.faults import Fault
from tests.standins.oauth import ServiceAccount
from tests.standins.serving import Answer, Call, StandIn


class GoogleApi(StandIn):
    """One API of some projects, and the token endpoint of a service account of the first of them.

    Attributes:
        projects: the projects that there are.
        forbidden: permissions that the account lacks (``ml.jobs.create``), in every project.
        account: the service account; another stand-in's, where several are to serve the same one.
    """

    api: str
    version: str
    served: ClassVar[Mapping[str, str]]
    """Method -> the permission that it needs."""

    def __init__(
        self, projects: Collection[str], *, token_life_s: int = 3600, account: ServiceAccount | None = None
    ) -> None:
        super().__init__()
        self.projects = set(projects)
        self.forbidden: set[str] = set()
        self.account = account or ServiceAccount(sorted(projects)[0], token_life_s)
        self.discovery = Discovery(self.api, self.version)

    @property
    def url(self) -> str:
        """The endpoint, for ``CLOUDSDK_API_ENDPOINT_OVERRIDES_...``."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def token_uri(self) -> str:
        return f"{self.url}token"

    def write_key_file(self, path: Path) -> Path:
        """A key file with which real google-auth gets its tokens here."""
        return self.account.write_key_file(path, self.token_uri)

    @abstractmethod
    def serve(self, method: Method, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        """Answer a request of a caller who may make it."""

    @abstractmethod
    def check_project(self, method: Method) -> None:
        """Refuse a project that there is not."""

    def denied(self, permission: str, method: Method) -> ApiError:
        """403 for a permission that the account lacks."""
        project = method.path["projectsId"]
        resource = f"//{self.api}.googleapis.com/projects/{project}"
        return ApiError(
            403,
            f"Permission '{permission}' denied on resource '{resource}' (or it may not exist).",
            details=[permission_info(permission, f"projects/{project}")],
        )

    def name_of(self, call: Call) -> str:
        method = self.discovery.method(call.verb, call.path)
        return "oauth.token" if _is_token(call) else method.id if method else "unknown"

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        try:
            if fault is not None and fault.kind == "status":
                headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
                raise ApiError(fault.status, fault.message, headers=headers)
            if _is_token(call):
                token = self.account.answer(call.raw, self.token_uri)
                return Answer(token.status, token.body)
            method = self.discovery.method(call.verb, call.path)
            if method is None:
                raise ApiError(404, f"The requested URL {call.target} was not found on this server.")
            if call.json is None and call.raw:
                raise ApiError(400, "Invalid JSON payload received.")
            self._check(method, call)
            return Answer(200, self.serve(method, call.last, call.json or {}))
        except ApiError as error:
            return Answer(error.code, error.body, error.headers)

    def _check(self, method: Method, call: Call) -> None:
        if call.bearer is None or not self.account.accepts(call.bearer):
            raise ApiError(
                401,
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential.",
            )
        self.discovery.check_query(method, call.query)
        if method.id not in self.served:
            raise ApiError(403, f"The caller does not have permission to call {method.id}.")
        self.check_project(method)
        if self.served[method.id] in self.forbidden:
            raise self.denied(self.served[method.id], method)


def permission_info(permission: str, resource: str) -> dict[str, Any]:
    """The ErrorInfo of a lacking permission."""
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": "iam.googleapis.com",
        "metadata": {"permission": permission, "resource": resource},
    }


def _is_token(call: Call) -> bool:
    return (call.verb, call.target) == ("POST", "/token")
