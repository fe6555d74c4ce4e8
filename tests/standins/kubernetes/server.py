"""The API server of a stand-in cluster, over TLS on loopback."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.standins.faults import Fault
from tests.standins.kubernetes.access import Access, Credential, add_context
from tests.standins.kubernetes.admission import (
    MutatingPolicy,
    Quota,
    ValidatingPolicy,
    Webhook,
    check_namespace,
    check_policies,
    check_quota,
    check_webhooks,
    mutate,
    warning_headers,
)
from tests.standins.kubernetes.certificates import CertificateAuthority
from tests.standins.kubernetes.controller import JobController
from tests.standins.kubernetes.logs import Logs
from tests.standins.kubernetes.pages import list_page
from tests.standins.kubernetes.requests import check_options, delete_job, keep, prepared_job
from tests.standins.kubernetes.schema import as_json, known_versions
from tests.standins.kubernetes.state import Object, State
from tests.standins.kubernetes.status import (
    EVENTS,
    JOBS,
    LIMIT_RANGES,
    LOGS,
    NAMESPACES,
    PODS,
    QUOTAS,
    WORKLOADS,
    Resource,
    StatusError,
    bad_request,
    no_such_resource,
)
from tests.standins.serving import Answer, Call, StandIn

_LARGEST_BODY, _LARGEST_OBJECT = 3 * 2**20, 2**20 * 3 // 2
_PATHS = {
    r"/version/?": None,
    r"/api/v1/namespaces/(?P<name>[^/]+)": NAMESPACES,
    r"/api/v1/namespaces/(?P<namespace>[^/]+)/pods": PODS,
    r"/api/v1/namespaces/(?P<namespace>[^/]+)/pods/(?P<name>[^/]+)/log": LOGS,
    r"/api/v1/pods": PODS,
    r"/api/v1/namespaces/(?P<namespace>[^/]+)/events": EVENTS,
    r"/api/v1/namespaces/(?P<namespace>[^/]+)/resourcequotas": QUOTAS,
    r"/api/v1/namespaces/(?P<namespace>[^/]+)/limitranges": LIMIT_RANGES,
    r"/apis/batch/v1/namespaces/(?P<namespace>[^/]+)/jobs(?:/(?P<name>[^/]+))?": JOBS,
    r"/apis/batch/v1/jobs": JOBS,
    r"/apis/kueue.x-k8s.io/v1beta[12]/namespaces/(?P<namespace>[^/]+)/workloads": WORKLOADS,
}
_GROUPS = re.compile(r"/api/|/apis/batch/|/version")
_SERVED = {
    "version.get",
    "namespaces.get",
    "pods.list",
    "events.list",
    "resourcequotas.list",
    "limitranges.list",
    "workloads.list",
    "pods/log.get",
    "jobs.create",
    "jobs.get",
    "jobs.list",
    "jobs.delete",
}
_VERBS = {"POST": "create", "DELETE": "delete", "PATCH": "patch", "PUT": "update"}


_NO_SUCH_GROUP = Answer(404, None, pieces=[b"404 page not found\n"])
"""What the API server says of a group or version that it does not have."""


class Runner(Protocol):
    """What becomes of accepted Jobs."""

    def run(self, job: Object, jobs: JobController) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class _Asked:
    resource: Resource | None
    method: str
    namespace: str | None
    name: str


class KubeApi(StandIn):
    """A cluster: its objects, who may use it, what was asked of it, and what is to go wrong.

    Attributes:
        state: the objects.
        logs: what containers have written.
        jobs: the controller, by whose steps a test lets Jobs go on.
        access: users, tokens, and what RBAC refuses.
        quota: how many Jobs there may be in a namespace.
        mutating: what changes Jobs.
        validating, webhooks: what else refuses Jobs.
        kueue: the versions of Kueue's API that it serves; none where Kueue is not installed.
    """

    content_type = "application/json"

    def __init__(
        self,
        version: str = "1.33",
        namespaces: Collection[str] = ("default",),
        *,
        runner: Runner | None = None,
        accepts: Callable[[str], bool] = lambda token: False,
    ) -> None:
        if version not in known_versions():
            raise ValueError(f"There are schemas of {', '.join(known_versions())}, but none of {version}.")
        self.authority = CertificateAuthority()
        super().__init__(self.authority.server_context())
        self.version = version
        self.access = Access(self.authority, accepts)
        self.state = State()
        self.logs = Logs(self.state)
        self.jobs = JobController(self.state, version, self.logs)
        self.quota: Quota | None = None
        self.webhooks: list[Webhook] = []
        self.mutating: list[MutatingPolicy] = []
        self.validating: list[ValidatingPolicy] = []
        self.kueue: tuple[str, ...] = ()
        self._runner = runner
        for name in {"kube-system", *namespaces}:
            self.state.add_namespace(name)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def forbidden(self) -> set[str]:
        """What RBAC refuses: ``jobs.create``."""
        return self.access.forbidden

    @property
    def certificate_authority(self) -> str:
        """The authority's certificate as PEM in base64, as kubeconfig files and GKE's ``masterAuth`` hold it."""
        return base64.b64encode(self.authority.certificate).decode()

    def write_kubeconfig(
        self,
        path: Path,
        context: str = "lab",
        namespace: str | None = None,
        *,
        credential: Credential = "token",
        user: Mapping[str, Any] | None = None,
    ) -> Path:
        """Add a context for this cluster to a kubeconfig file, as its current one.

        Its user is ``user`` where that is given: a wrong token, an ``exec`` plugin.
        """
        cluster = {"server": self.url, "certificate-authority-data": self.certificate_authority}
        who = user if user is not None else self.access.credential(credential)
        return add_context(path, context, cluster=cluster, user=who, namespace=namespace)

    def close(self) -> None:
        self.logs.close()
        if self._runner is not None:
            self._runner.close()

    def name_of(self, call: Call) -> str:
        asked = _asked(call)
        return asked.method if asked is not None else "unknown"

    def control(self, path: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """How another process steers the stand-in.

        ``GET /_standin/state``: ``{"counts": {method: n}, "jobs": [...], "pods": [...], "requests": [...]}``;
        ``POST /_standin/faults``: a :class:`Fault` as JSON; ``POST /_standin/jobs``: a step of the controller and its
        arguments, ``{"step": "fail", "name": "x", "exit_code": 3}``; ``POST /_standin/compact``: every token of a
        list is too old from now on.
        """
        if path == "/_standin/faults":
            self.faults.add(Fault(**given))
        elif path == "/_standin/jobs":
            self.jobs.step(**given)
        elif path == "/_standin/compact":
            self.state.compact()
        else:
            sent = [{"method": r.method, "path": r.path, "query": r.query, "body": r.body} for r in self.requests]
            jobs, pods = self.state.items(JOBS), self.state.items(PODS)
            return {"counts": dict(self.counts), "jobs": jobs, "pods": pods, "requests": sent}
        return {}

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        try:
            if fault is not None and fault.kind == "status":
                raise _of_fault(fault)
            asked = _asked(call)
            user = self.access.user_of(call.bearer, call.certificate_name)
            user = self.access.acting_user(user, call.headers)
            if asked is None and _GROUPS.match(call.path):
                raise no_such_resource()
            if asked is None:
                return _NO_SUCH_GROUP
            if asked.resource is None:
                return self._version(asked, user)
            namespace = asked.namespace if asked.resource is not NAMESPACES else asked.name
            self.access.check(user, asked.method, asked.resource, namespace or "", asked.name)
            if asked.resource is WORKLOADS and call.path.split("/")[3] not in self.kueue:
                return _NO_SUCH_GROUP
            is_creation_elsewhere = asked.method == "jobs.create" and (asked.name or asked.namespace is None)
            if asked.method not in _SERVED or is_creation_elsewhere:
                raise StatusError(405, "the server does not allow this method on the requested resource", details={})
            return self._serve(asked.resource, asked, call)
        except StatusError as error:
            return Answer(error.code, error.body, error.headers)

    def _version(self, asked: _Asked, user: str) -> Answer:
        if asked.method in self.forbidden:
            raise StatusError(403, f'forbidden: User "{user}" cannot get path "/version"', details={})
        major, minor = self.version.split(".")
        answer = {"major": major, "minor": minor, "gitVersion": f"v{self.version}.0", "platform": "linux/amd64"}
        unknown = ("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler")
        return Answer(200, {**answer, **dict.fromkeys(unknown, "")})

    def _serve(self, resource: Resource, asked: _Asked, call: Call) -> Answer:
        verb = asked.method.rpartition(".")[2]
        if verb == "list":
            return Answer(200, list_page(self.state, resource, asked.namespace, call.last))
        namespace = asked.namespace or ""
        if resource is LOGS:
            return Answer(200, None, pieces=self.logs.pieces(namespace, asked.name, call.last))
        if verb == "get":
            return Answer(200, _whole(resource, self.state.get(resource, namespace, asked.name)))
        body = _body(call)
        if verb == "create":
            warnings: list[str] = []
            made = self._create(namespace, body, call, warnings)
            return Answer(201, _whole(resource, made), warning_headers(warnings))
        return Answer(200, delete_job(self.state, namespace, asked.name, body, query=call.last, version=self.version))

    def _create(self, namespace: str, body: Any, call: Call, warnings: list[str]) -> Object:
        is_dry_run = check_options("CreateOptions", call.last)
        manager = call.last.get("fieldManager") or (call.headers.get("User-Agent") or "unknown").partition("/")[0]
        job = prepared_job(
            body,
            namespace,
            version=self.version,
            manager=manager,
            admit=lambda name: check_namespace(self.state, namespace, name),
            mutate=lambda job: mutate(self.mutating, job),
        )
        warnings += check_policies(self.validating, as_json(job))
        check_webhooks(self.webhooks, as_json(job))
        with self.state.lock:
            check_quota(self.quota, self.state, namespace, job["metadata"]["name"])
            if len(call.raw) > _LARGEST_OBJECT:
                raise StatusError(500, "etcdserver: request is too large", reason="")
            kept = keep(self.state, job, is_dry_run=is_dry_run)
        runner = self._runner
        if not is_dry_run:
            self.jobs.accepted(kept)
            if runner is not None:
                self.in_background(lambda: runner.run(kept, self.jobs))
        return kept


def _asked(call: Call) -> _Asked | None:
    for pattern, resource in _PATHS.items():
        found = re.fullmatch(pattern, call.path)
        if found is not None:
            parts = found.groupdict()
            is_one = resource in (None, NAMESPACES) or bool(parts.get("name"))
            verb = _VERBS.get(call.verb, "get" if is_one else "list")
            if verb == "delete" and not is_one:
                verb = "deletecollection"
            plural = resource.plural if resource else "version"
            return _Asked(resource, f"{plural}.{verb}", parts.get("namespace"), parts.get("name") or "")
    return None


def _whole(resource: Resource, item: Object) -> Object:
    return {"kind": resource.kind, "apiVersion": resource.api_version, **item}


def _body(call: Call) -> Any:
    """What the body says.

    Raises:
        StatusError: 413, 415 or 400.
    """
    if len(call.raw) > _LARGEST_BODY:
        raise StatusError(413, f"Request entity too large: limit is {_LARGEST_BODY}")
    kind = (call.headers.get("Content-Type") or "application/json").partition(";")[0].strip()
    if call.raw and kind != "application/json":
        raise StatusError(
            415,
            "the body of the request was in an unknown format - accepted media types include: application/json, "
            "application/yaml, application/vnd.kubernetes.protobuf",
        )
    if call.raw and call.json is None:
        raise bad_request("couldn't get version/kind; json parse error: the body is no JSON")
    return call.json


def _of_fault(fault: Fault) -> StatusError:
    wait = fault.retry_after or ""
    details = {"retryAfterSeconds": int(wait)} if wait.isdigit() else None
    return StatusError(fault.status, fault.message, details=details, headers={"Retry-After": wait} if wait else {})
