"""A stand-in for AI Platform Training (ml v1), and for the token endpoint of a service account, on loopback.

In a test: ``with MlV1(projects={"totoro-project"}) as service: ...``; as a process of its own:
``python -m tests.standins.ml_v1 --port-file F --key-file K --project totoro-project [--docker "docker"]``, which is
then steered by the paths below ``/_standin/`` (see :class:`_Control`).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from tests.standins.discovery import ApiError, Discovery, Method
from tests.standins.faults import Fault, Faults
from tests.standins.jobs import Job, Jobs
from tests.standins.oauth import ServiceAccount
from tests.standins.runners import Docker, Scripted

_SERVED = {
    "ml.projects.jobs.create": "ml.jobs.create",
    "ml.projects.jobs.get": "ml.jobs.get",
    "ml.projects.jobs.list": "ml.jobs.list",
    "ml.projects.jobs.cancel": "ml.jobs.cancel",
}
"""Method -> the permission that it needs."""


class Runner(Protocol):
    """What becomes of accepted jobs."""

    def run(self, job: Job, jobs: Jobs) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Quota:
    """So many submissions in so many seconds."""

    submissions: int
    window_s: float


@dataclass(frozen=True)
class Received:
    """One request, as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


class MlV1:
    """The service: its jobs, its account, what was asked of it, and what is to go wrong.

    Attributes:
        projects: the projects that there are.
        forbidden: permissions that the account lacks (``ml.jobs.create``), in every project.
        requests: every request, in order.
    """

    def __init__(
        self,
        projects: Collection[str] = ("totoro-project",),
        *,
        runner: Runner | None = None,
        quota: Quota | None = None,
        token_life_s: int = 3600,
    ) -> None:
        self.projects = set(projects)
        self.forbidden: set[str] = set()
        self.account = ServiceAccount(sorted(projects)[0], token_life_s)
        self.faults = Faults()
        self.requests: list[Received] = []
        self.jobs = Jobs(self._accepted)
        self.discovery = Discovery("ml", "v1")
        self._runner = runner
        self._quota = quota
        self._submissions: deque[float] = deque()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": self}))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """The endpoint, for ``CLOUDSDK_API_ENDPOINT_OVERRIDES_ML``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    @property
    def token_uri(self) -> str:
        return f"{self.url}token"

    @property
    def counts(self) -> Counter[str]:
        """Requests by method."""
        return Counter(received.method for received in list(self.requests))

    def bodies(self, method: str) -> list[Any]:
        """The bodies that were sent to one method."""
        return [received.body for received in self.requests if received.method == method]

    def write_key_file(self, path: Path) -> Path:
        """A key file with which real google-auth gets its tokens here."""
        return self.account.write_key_file(path, self.token_uri)

    def __enter__(self) -> MlV1:
        serve = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        serve.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        if self._runner is not None:
            self._runner.close()
        for thread in self._threads:
            thread.join(30)

    def handle(self, method: Method, query: Mapping[str, list[str]], body: Any, token: str | None) -> dict[str, Any]:
        """Answer one request, after the checks that come before any method."""
        if token is None or not self.account.accepts(token):
            raise ApiError(
                401,
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential.",
            )
        self.discovery.check_query(method, query)
        if method.id not in _SERVED:
            raise ApiError(403, f"The caller does not have permission to call {method.id}.")
        project = method.path["projectsId"]
        permission = _SERVED[method.id]
        if project not in self.projects:
            raise ApiError(404, f"Field: parent Error: The project {project} was not found, or is not visible to you.")
        if permission in self.forbidden:
            raise ApiError(
                403,
                f"Permission '{permission}' denied on resource '//ml.googleapis.com/projects/{project}' (or it may not "
                "exist).",
                details=[_error_info(permission, project)],
            )
        return self._serve(method, project, {name: values[-1] for name, values in query.items()}, body)

    def _serve(self, method: Method, project: str, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        if method.id == "ml.projects.jobs.get":
            return self.jobs.get(project, method.path["jobsId"])
        if method.id == "ml.projects.jobs.list":
            return self.jobs.list(project, query)
        self.discovery.check_body(method, body, "job")
        if method.id == "ml.projects.jobs.cancel":
            answer = self.jobs.cancel(project, method.path["jobsId"])
            if self._runner is None:
                self.jobs.set_state(method.path["jobsId"], "CANCELLED", "Cancelled by the user.", project=project)
            return answer
        self._check_quota()
        return self.jobs.create(project, self.discovery.without_outputs("GoogleCloudMlV1__Job", body))

    def _check_quota(self) -> None:
        if self._quota is None:
            return
        with self._lock:
            now = time.monotonic()
            while self._submissions and self._submissions[0] < now - self._quota.window_s:
                self._submissions.popleft()
            if len(self._submissions) >= self._quota.submissions:
                wait = max(1, round(self._submissions[0] + self._quota.window_s - now + 0.5))
                message = "Quota exceeded for quota metric 'Job submission requests'."
                raise ApiError(429, message, headers={"Retry-After": str(wait)})
            self._submissions.append(now)

    def _accepted(self, job: Job) -> None:
        if self._runner is not None:
            thread = threading.Thread(target=self._runner.run, args=(job, self.jobs), daemon=True)
            self._threads.append(thread)
            thread.start()


class _Handler(BaseHTTPRequestHandler):
    service: MlV1
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the requests are kept."""

    def _answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        if url.path.startswith("/_standin/"):
            self._send(200, _Control(self.service).answer(url.path, raw))
            return
        query = parse_qs(url.query, keep_blank_values=True)
        method = self.service.discovery.method(self.command, unquote(url.path))
        is_token = (self.command, url.path) == ("POST", "/token")
        name = "oauth.token" if is_token else method.id if method else "unknown"
        body = raw if is_token else _json(raw)
        self.service.requests.append(
            Received(name, url.path, {k: v[-1] for k, v in query.items()}, dict(self.headers.items()), body)
        )
        fault = self.service.faults.next(name)
        if fault is not None and fault.kind == "delay":
            time.sleep(fault.seconds)
        if fault is not None and fault.kind == "refuse":
            self._hang_up()
            return
        status, answer, headers = self._result(method, query, raw, is_token, fault)
        if fault is not None and fault.kind == "drop":
            self._hang_up()
        elif fault is not None and fault.kind == "garbage":
            self._send_bytes(200, b"<html>A proxy's page</html>", {"Content-Type": "text/html"})
        else:
            self._send(status, answer, headers)

    def _result(
        self, method: Method | None, query: Mapping[str, list[str]], raw: bytes, is_token: bool, fault: Fault | None
    ) -> tuple[int, Any, Mapping[str, str]]:
        try:
            if fault is not None and fault.kind == "status":
                headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
                raise ApiError(fault.status, fault.message, headers=headers)
            if is_token:
                token_answer = self.service.account.answer(raw, self.service.token_uri)
                return token_answer.status, token_answer.body, {}
            if method is None:
                raise ApiError(404, f"The requested URL {self.path} was not found on this server.")
            body = _json(raw)
            if body is None and raw:
                raise ApiError(400, "Invalid JSON payload received.")
            return 200, self.service.handle(method, query, body or {}, self._token()), {}
        except ApiError as error:
            return error.code, error.body, error.headers

    def _token(self) -> str | None:
        kind, _, token = (self.headers.get("Authorization") or "").partition(" ")
        return token if kind == "Bearer" else None

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _send(self, status: int, answer: Any, headers: Mapping[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json; charset=UTF-8"}
        self._send_bytes(status, json.dumps(answer).encode(), {**(headers or {}), **kind})

    def _send_bytes(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


class _Control:
    """How another process steers the stand-in.

    ``GET /_standin/state``: ``{"counts": {method: n}, "jobs": [...], "requests": [...]}``; ``POST /_standin/faults``: a
    :class:`Fault` as JSON; ``POST /_standin/jobs``: ``{"jobId": ..., "state": ..., "errorMessage": ...}``.
    """

    def __init__(self, service: MlV1) -> None:
        self._service = service

    def answer(self, path: str, raw: bytes) -> dict[str, Any]:
        service, given = self._service, _json(raw) or {}
        if path == "/_standin/faults":
            service.faults.add(Fault(**given))
        elif path == "/_standin/jobs":
            service.jobs.set_state(given["jobId"], given["state"], given.get("errorMessage", ""))
        else:
            sent = [
                {"method": r.method, "path": r.path, "body": r.body} for r in service.requests if r.method[:2] == "ml"
            ]
            jobs = [{"project": job.project, **job.answer()} for job in service.jobs.all()]
            return {"counts": dict(service.counts), "jobs": jobs, "requests": sent}
        return {}


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return None


def _error_info(permission: str, project: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": "iam.googleapis.com",
        "metadata": {"permission": permission, "resource": f"projects/{project}"},
    }


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port-file", type=Path, required=True, help="the endpoint's URL is written here, last of all")
    parser.add_argument("--key-file", type=Path, required=True, help="the service account's key is written here")
    parser.add_argument("--project", action="append", default=[], help="a project that there is; may be repeated")
    parser.add_argument("--docker", help="run accepted jobs with this Docker client: docker, docker -H unix://...")
    parser.add_argument("--outcome", choices=["SUCCEEDED", "FAILED"], help="let each job end like this")
    parser.add_argument("--step", type=float, default=0.0, help="seconds between states, with --outcome")
    given = parser.parse_args()
    runner: Runner | None = None
    if given.docker:
        runner = Docker(shlex.split(given.docker), os.environ)
    elif given.outcome:
        runner = Scripted(lambda job: str(given.outcome), given.step)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with MlV1(given.project or ["totoro-project"], runner=runner) as service:
        service.write_key_file(given.key_file)
        part = given.port_file.with_suffix(".part")
        part.write_text(service.url)
        part.replace(given.port_file)
        over.wait()


if __name__ == "__main__":
    main()
