"""The requests that are sent to a cluster: jobs of batch/v1, and pods, events and namespaces of v1.

Responses are read as plain JSON. Of an object only its kind is required, and of a job its name and uid.
Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

from caliban.errors import PlatformError
from caliban.platforms.context import PlatformContext
from caliban.platforms.kubernetes import kueue
from caliban.platforms.kubernetes.answers import failure_of, identified, is_status, items_in, parsed, redacted
from caliban.platforms.kubernetes.connection import Connection, Credential
from caliban.platforms.kubernetes.details import object_at
from caliban.platforms.kubernetes.errors import (
    NOT_FOUND,
    KubernetesError,
    KubernetesRefusedError,
    KubernetesUnreachableError,
    foreign_answer,
    unreachable,
)
from caliban.platforms.kubernetes.paths import jobs_path, segment
from caliban.platforms.kubernetes.streaming import ErrorResponseError, stream
from caliban.platforms.kubernetes.transport import NoResponseError, OversizedError, Request, Response, exchange
from caliban.platforms.kubernetes.warning_headers import warnings_in
from caliban.platforms.retry import RetryPolicy, report_retry, with_retries
from caliban.records import JsonObject

if TYPE_CHECKING:
    from urllib3 import PoolManager

_T = TypeVar("_T")

PAGE_SIZE = 500
"""Objects per page, as in kubectl (``--chunk-size``)."""

_MAX_PAGES = 2000
_MAX_RESTARTS = 3
_GONE = 410
_CONFLICT = 409
_UNAUTHORIZED = 401
_NO_DRY_RUN = "does not support dry run"
"""Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run; apiserver's webhook/errors."""
_FORBIDDEN = 403
_SYSTEM_NAMESPACE = "kube-system"


class Cluster:
    """The API server of one cluster, with the credentials of one user. May be shared by threads.

    Every method raises :class:`~caliban.platforms.kubernetes.errors.KubernetesError`, or what the credentials raise.

    Attributes:
        name: for messages: ``GKE cluster blueshift``, ``cluster of the context kind-lab``.
    """

    def __init__(self, connection: Connection, name: str, context: PlatformContext, retry_policy: RetryPolicy) -> None:
        """Create the client. Nothing is sent yet.

        Args:
            connection: the server, its CA, and credentials.
            name: for messages.
            context: the clock, and where retries are reported.
            retry_policy: timeouts and retries.
        """
        self.name = name
        self._connection = connection
        self._context, self._retry_policy = context, retry_policy
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str] | None, PoolManager] = {}

    @property
    def server(self) -> str:
        """What the server is recognised by, where the uid of the cluster is not readable."""
        return self._connection.identity

    def create_job(
        self, namespace: str, body: JsonObject, on_warning: Callable[[str], None] = lambda text: None
    ) -> JsonObject:
        """Submit a job. Sent once, whatever happens; unknown fields are an error.

        Args:
            namespace: of the job.
            body: the job.
            on_warning: called with each warning in the response, also in that of a refusal.
        """
        name = object_at(body, "metadata").get("name")
        path = f"{jobs_path(namespace)}?{urlencode({'fieldValidation': 'Strict'})}"
        action = f"submit the job {name} to the {self.name}"
        return identified(self._send("POST", path, action, ("Job",), body, on_warning), action)

    def get_job(self, namespace: str, name: str) -> JsonObject | None:
        """Return a job; None if the cluster has none of that name."""
        action = f"get the job {name} of the {self.name}"
        try:
            found = self._send_with_retries("GET", f"{jobs_path(namespace)}/{segment(name)}", action, ("Job",))
        except KubernetesRefusedError as error:
            if error.is_about("jobs", name):
                return None
            raise
        return identified(found, action)

    def delete_job(self, namespace: str, job: JsonObject) -> bool:
        """Delete a job and its pods, unless it was changed since it was read.

        Returns:
            False if it was changed, or does not exist.
        """
        found = object_at(job, "metadata")
        name = str(found.get("name"))
        preconditions = {key: found[key] for key in ("uid", "resourceVersion") if key in found}
        body = {"propagationPolicy": "Background", "preconditions": preconditions}
        action = f"stop the job {name} of the {self.name}"
        outcome_unknown = False

        def delete() -> bool:
            nonlocal outcome_unknown
            try:
                self._send("DELETE", f"{jobs_path(namespace)}/{segment(name)}", action, ("Status", "Job"), body)
            except KubernetesError as error:
                if isinstance(error, KubernetesRefusedError):
                    if error.is_about("jobs", name):
                        return outcome_unknown  # deleted by the previous request, whose response was lost
                    if error.code == _CONFLICT:
                        return False
                outcome_unknown = outcome_unknown or error.outcome_unknown
                raise
            return True

        return self._retry(delete)

    def check_job(self, namespace: str, body: JsonObject) -> None:
        """Check what the API server and its admission policies say to a job, without creating it.

        A webhook that has side effects cannot be asked, and then nothing is known.

        Raises:
            KubernetesError: it would be refused, or the cluster cannot be asked.
        """
        options = urlencode({"dryRun": "All", "fieldValidation": "Strict"})
        action = f"check a job with the {self.name}"
        try:
            self._retry(lambda: self._send("POST", f"{jobs_path(namespace)}?{options}", action, ("Job",), body))
        except KubernetesRefusedError as error:
            if _NO_DRY_RUN not in str(error.cause):
                raise

    def rules(self, namespace: str, plural: str, kind: str) -> list[JsonObject]:
        """Return the ``resourcequotas`` or ``limitranges`` of a namespace; none where the user may not list them."""
        action = f"list the {plural} of the {self.name} in the namespace {namespace}"
        try:
            return list(self._list(f"api/v1/namespaces/{segment(namespace)}/{plural}", f"{kind}List", None, action))
        except KubernetesRefusedError as error:
            if error.code not in (_FORBIDDEN, NOT_FOUND):
                raise
            return []

    def jobs(self, namespace: str, selector: str | None) -> Iterator[JsonObject]:
        """Yield the jobs of a namespace that match ``selector``, page by page."""
        action = f"list the jobs of the {self.name} in the namespace {namespace}"
        return self._list(jobs_path(namespace), "JobList", selector, action)

    def pods(self, namespace: str, selector: str) -> Iterator[JsonObject]:
        """Yield the pods of a namespace that match ``selector``, page by page."""
        action = f"list the pods of the {self.name} in the namespace {namespace}"
        return self._list(f"api/v1/namespaces/{segment(namespace)}/pods", "PodList", selector, action)

    def events(self, namespace: str, selector: str) -> Iterator[JsonObject]:
        """Yield the events of a namespace that match a field selector, page by page."""
        action = f"list the events of the {self.name} in the namespace {namespace}"
        path = f"api/v1/namespaces/{segment(namespace)}/events"
        return self._list(path, "EventList", selector, action, by="fieldSelector")

    def workloads(self, namespace: str, selector: str) -> Iterator[JsonObject]:
        """Yield the workloads of Kueue in a namespace that match ``selector``; none where it is not installed.

        None either without the permission to list them.
        """
        action = f"list the workloads of the {self.name} in the namespace {namespace}"
        for version in kueue.VERSIONS:
            path = f"apis/{kueue.GROUP}/{version}/namespaces/{segment(namespace)}/workloads"
            try:
                yield from self._list(path, "WorkloadList", selector, action)
            except KubernetesError as error:
                # Of a group of APIs that it does not have, the API server says so in plain text, not with a Status.
                if error.code not in (NOT_FOUND, _FORBIDDEN):
                    raise
            else:
                return

    def pod_log(self, namespace: str, pod: str, options: Mapping[str, str]) -> Iterator[bytes]:
        """Yield the output of a container in pieces, as they come.

        Until the first one, the request is retried. A request that follows ends when nothing came for some time.

        Args:
            namespace: of the pod.
            pod: its name.
            options: parameters of the request; see
                https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#get-read-log-of-the-specified-pod.
        """
        action = f"read the output of the pod {pod} of the {self.name}"
        path = f"api/v1/namespaces/{segment(namespace)}/pods/{segment(pod)}/log?{urlencode(options)}"

        def begin() -> tuple[bytes, Iterator[bytes]]:
            pieces = self._stream(path, action, ends_when_silent=options.get("follow") == "true")
            return next(pieces, b""), pieces

        first, others = self._retry(begin)
        if first:
            yield first
            yield from others

    def check_namespace(self, namespace: str) -> JsonObject:
        """Check that the cluster can be reached, accepts the credentials and has the namespace; return it.

        A user who may not read namespaces gets {}; a missing namespace is then reported by the first request in it.
        """
        return self._namespace(namespace) or {}

    def system_uid(self) -> str | None:
        """Return the uid of the namespace ``kube-system``, which is the cluster's for life; None if it is not readable.

        Source: https://github.com/kubernetes/kubernetes/issues/77487 (there is no other id of a cluster).
        """
        try:
            found = self._namespace(_SYSTEM_NAMESPACE)
        except KubernetesRefusedError as error:
            if not error.is_about("namespaces", _SYSTEM_NAMESPACE):
                raise
            return None
        uid = object_at(found or {}, "metadata").get("uid")
        return uid if isinstance(uid, str) and uid else None

    def _namespace(self, name: str) -> JsonObject | None:
        path = f"api/v1/namespaces/{segment(name)}"
        try:
            return self._send_with_retries("GET", path, f"reach the {self.name}", ("Namespace",))
        except KubernetesRefusedError as error:
            if error.code != 403:
                raise
            return None

    def _list(
        self, path: str, kind: str, selector: str | None, action: str, by: str = "labelSelector"
    ) -> Iterator[JsonObject]:
        """Yield all pages of a list. It starts again, a few times, when it has become too old to be continued (410).

        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
        """
        options = {"limit": str(PAGE_SIZE), **({by: selector} if selector else {})}
        seen: set[str] = set()
        tokens: set[str] = set()
        position: dict[str, str] = {}
        restarts = 0
        for _ in range(_MAX_PAGES):
            try:
                page = self._send_with_retries("GET", f"{path}?{urlencode({**options, **position})}", action, (kind,))
            except KubernetesRefusedError as error:
                restarts += 1
                if error.code != _GONE or not position or restarts > _MAX_RESTARTS:
                    raise
                position = {}
                tokens.clear()
                continue
            for item in items_in(page, action):
                uid = object_at(item, "metadata").get("uid")
                if not isinstance(uid, str) or uid not in seen:
                    seen.add(str(uid))
                    yield item
            token = object_at(page, "metadata").get("continue")
            if not token:
                return
            if not isinstance(token, str) or token in tokens:
                break
            tokens.add(token)
            position = {"continue": token}
        raise foreign_answer(action, "the list has no end")

    def _retry(self, call: Callable[[], _T]) -> _T:
        return with_retries(call, self._retry_policy, report_retry(self._context.announce), self._context.clock)

    def _send_with_retries(self, method: str, path: str, action: str, kinds: tuple[str, ...]) -> JsonObject:
        return self._retry(lambda: self._send(method, path, action, kinds))

    def _send(
        self,
        method: str,
        path: str,
        action: str,
        kinds: tuple[str, ...],
        body: JsonObject | None = None,
        on_warning: Callable[[str], None] = lambda text: None,
    ) -> JsonObject:
        """Send one request, and return the object in its response, which is one of ``kinds``.

        A credential that is rejected is renewed once, and the request, which had no effect, sent again.
        """
        credentials, data = self._connection.credentials, json.dumps(body).encode() if body is not None else None
        credential = credentials.current()
        response = self._exchange(self._request(method, path, credential, data), credential.certificate, action)
        # a gateway may say so after the API server has got the request
        is_rejected = response.status == _UNAUTHORIZED and (method == "GET" or is_status(response))
        renewed = credentials.renewed(credential) if is_rejected else None
        if renewed is not None:
            credential = renewed
            response = self._exchange(self._request(method, path, credential, data), credential.certificate, action)
        for warning in warnings_in(response.headers):
            on_warning(redacted(credential.secrets, warning))
        content = parsed(response.content)
        if response.status >= 300 or not isinstance(content, Mapping) or content.get("kind") not in kinds:
            raise failure_of(response, credential.secrets, action)
        return content

    def _stream(self, path: str, action: str, *, ends_when_silent: bool) -> Iterator[bytes]:
        """Send one request, and yield its response while it comes; a credential is renewed as by :meth:`_send`."""
        credentials = self._connection.credentials
        credential: Credential | None = credentials.current()
        is_renewed = False
        while credential is not None:
            try:
                yield from self._stream_once(path, credential, ends_when_silent=ends_when_silent)
                return
            except ErrorResponseError as error:
                secrets, response = credential.secrets, error.response
                may_renew = response.status == _UNAUTHORIZED and not is_renewed
                credential = credentials.renewed(credential) if may_renew else None
                if credential is None:
                    raise failure_of(response, secrets, action) from None
                is_renewed = True
            except NoResponseError as error:
                raise self._unreachable(action, error) from error
            except OversizedError as error:
                raise foreign_answer(action, str(error)) from error

    def _stream_once(self, path: str, credential: Credential, *, ends_when_silent: bool) -> Iterator[bytes]:
        request = self._request("GET", path, credential, None)
        pool = self._pool(credential.certificate)
        return stream(pool, request, self._timeouts, self._context.stopping, ends_when_silent=ends_when_silent)

    def _request(self, method: str, path: str, credential: Credential, content: bytes | None) -> Request:
        authorization = {"Authorization": credential.authorization} if credential.authorization else {}
        headers = {
            "Accept": "application/json, */*",
            "Content-Type": "application/json",
            "User-Agent": f"caliban/{metadata.version('caliban')}",
            **authorization,
        }
        url = f"{self._connection.server}/{path}"
        return Request(method, url, headers, content, self._connection.impersonation)

    @property
    def _timeouts(self) -> tuple[float, float]:
        return float(self._retry_policy.connect_timeout), float(self._retry_policy.read_timeout)

    def _exchange(self, request: Request, certificate: tuple[str, str] | None, action: str) -> Response:
        on_wait = partial(self._context.announce, f"waiting for the {self.name} ...")
        try:
            return exchange(self._pool(certificate), request, self._timeouts, on_wait)
        except NoResponseError as error:
            raise self._unreachable(action, error) from error
        except OversizedError as error:
            raise foreign_answer(action, str(error)) from error

    def _unreachable(self, action: str, error: NoResponseError) -> KubernetesUnreachableError:
        return unreachable(action, error.error, was_sent=error.was_sent, proxy=self._connection.proxy)

    def _pool(self, certificate: tuple[str, str] | None) -> PoolManager:
        with self._lock:
            if certificate not in self._pools:
                try:
                    self._pools[certificate] = self._connection.pool(certificate)
                except (OSError, ValueError) as error:
                    reason = error.reason if isinstance(error, ssl.SSLError) else None
                    raise PlatformError(
                        "kubeconfig-malformed",
                        f"a certificate of the {self.name} cannot be read",
                        cause=str(reason or error or type(error).__name__),
                        hint="check certificate-authority-data, client-certificate-data and client-key-data in the "
                        "kubeconfig",
                    ) from error
            return self._pools[certificate]
