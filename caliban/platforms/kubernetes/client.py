"""The requests that are sent to a cluster: jobs of batch/v1, and pods and namespaces of v1.

Sent with the official client. Its responses are read as plain JSON: its models know only the fields of their version.
Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

from caliban.errors import PlatformError
from caliban.platforms.context import PlatformContext
from caliban.platforms.kubernetes.details import object_at
from caliban.platforms.kubernetes.errors import (
    NOT_FOUND,
    KubernetesError,
    KubernetesRefusedError,
    KubernetesUnreachableError,
    refused,
    unreachable,
)
from caliban.platforms.retry import RetryPolicy, report_retry, with_retries
from caliban.records import JsonObject
from caliban.redaction import redact, redact_assertions

if TYPE_CHECKING:
    from kubernetes.client import Configuration

_T = TypeVar("_T")

PAGE_SIZE = 500
"""Objects per page, as in kubectl (``--chunk-size``)."""

_GONE = 410
_CONFLICT = 409


class Cluster:
    """The API server of one cluster, with the credentials of one user. May be shared by threads.

    Every method raises :class:`~caliban.platforms.kubernetes.errors.KubernetesError`.

    Attributes:
        name: for messages: ``GKE cluster blueshift``, ``cluster of the context kind-lab``.
    """

    def __init__(
        self, configuration: Configuration, name: str, context: PlatformContext, retry_policy: RetryPolicy
    ) -> None:
        """Create the client. Nothing is sent yet.

        Args:
            configuration: the server, its CA, and credentials. TLS certificates are verified whatever it says.
            name: for messages.
            context: the clock, and where retries are reported.
            retry_policy: timeouts and retries.
        """
        from kubernetes.client import ApiClient, BatchV1Api, CoreV1Api

        configuration.verify_ssl = True
        # urllib3 would send requests again by itself, and follow redirects with our credentials.
        configuration.retries = False
        client: Any = ApiClient(configuration)
        client.user_agent = f"caliban/{metadata.version('caliban')}"
        client.set_default_header("Content-Type", "application/json")
        self.name = name
        self._context, self._retry_policy = context, retry_policy
        self._configuration: Any = configuration
        self._batch: Any = BatchV1Api(client)  # not all versions of the client have types
        self._core: Any = CoreV1Api(client)

    def create_job(self, namespace: str, body: JsonObject) -> JsonObject:
        """Submit a job. Sent once, whatever happens; unknown fields are an error."""
        action = f"submit the job {object_at(body, 'metadata').get('name')} to the {self.name}"
        call = self._batch.create_namespaced_job
        return self._send(partial(call, namespace, dict(body), field_validation="Strict"), action)

    def get_job(self, namespace: str, name: str) -> JsonObject | None:
        """Return a job; None if the cluster has none of that name."""
        action = f"get the job {name} of the {self.name}"
        try:
            return self._send_with_retries(partial(self._batch.read_namespaced_job, name, namespace), action)
        except KubernetesRefusedError as error:
            if error.code == NOT_FOUND:
                return None
            raise

    def delete_job(self, namespace: str, job: JsonObject) -> bool:
        """Delete a job and its pods, unless it was changed since it was read.

        Returns:
            False if it was changed, or does not exist.
        """
        found = object_at(job, "metadata")
        name = str(found["name"])
        body = {
            "propagationPolicy": "Background",
            "preconditions": {"uid": found["uid"], "resourceVersion": found["resourceVersion"]},
        }
        outcome_unknown = False

        def delete() -> bool:
            nonlocal outcome_unknown
            call = partial(self._batch.delete_namespaced_job, name, namespace, body=body)
            try:
                self._send(call, f"stop the job {name} of the {self.name}")
            except KubernetesError as error:
                code = error.code if isinstance(error, KubernetesRefusedError) else None
                if code == NOT_FOUND:
                    return outcome_unknown  # deleted by the previous request, whose response was lost
                if code == _CONFLICT:
                    return False
                outcome_unknown = outcome_unknown or error.outcome_unknown
                raise
            return True

        return self._retry(delete)

    def jobs(self, namespace: str, selector: str | None) -> Iterator[JsonObject]:
        """Yield the jobs of a namespace that match ``selector``, page by page."""
        action = f"list the jobs of the {self.name} in the namespace {namespace}"
        return self._list(self._batch.list_namespaced_job, namespace, selector, action)

    def pods(self, namespace: str, selector: str) -> Iterator[JsonObject]:
        """Yield the pods of a namespace that match ``selector``, page by page."""
        action = f"list the pods of the {self.name} in the namespace {namespace}"
        return self._list(self._core.list_namespaced_pod, namespace, selector, action)

    def check_namespace(self, namespace: str) -> None:
        """Check that the cluster can be reached, accepts the credentials and has the namespace.

        A user who may not read namespaces passes; a missing namespace is then reported by the first request in it.
        """
        try:
            self._send_with_retries(partial(self._core.read_namespace, namespace), f"reach the {self.name}")
        except KubernetesRefusedError as error:
            if error.code != 403:
                raise

    def _list(
        self, call: Callable[..., Any], namespace: str, selector: str | None, action: str
    ) -> Iterator[JsonObject]:
        """Yield all pages of a list. It starts again when it has become too old to be continued (410).

        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
        """
        options = {"limit": PAGE_SIZE, **({"label_selector": selector} if selector else {})}
        seen: set[object] = set()
        position: dict[str, object] = {}
        while True:
            try:
                page = self._send_with_retries(partial(call, namespace, **options, **position), action)
            except KubernetesRefusedError as error:
                if error.code != _GONE or not position:
                    raise
                position = {}
                continue
            items = page.get("items")
            for item in items if isinstance(items, list) else []:
                uid = item["metadata"].get("uid")
                if uid is None or uid not in seen:
                    seen.add(uid)
                    yield item
            token = object_at(page, "metadata").get("continue")
            if not token:
                return
            position = {"_continue": token}

    def _retry(self, call: Callable[[], _T]) -> _T:
        return with_retries(call, self._retry_policy, report_retry(self._context.announce), self._context.clock)

    def _send_with_retries(self, call: Callable[..., Any], action: str) -> JsonObject:
        return self._retry(lambda: self._send(call, action))

    def _send(self, call: Callable[..., Any], action: str) -> JsonObject:
        """Call the client once, and parse the response."""
        import urllib3.exceptions
        from kubernetes.client import ApiException

        timeout = (float(self._retry_policy.connect_timeout), float(self._retry_policy.read_timeout))
        try:
            content = call(_preload_content=False, _request_timeout=timeout).data
        except ApiException as error:
            if isinstance(error.__context__, urllib3.exceptions.SSLError):  # reported by the client with status 0
                raise unreachable(action, error.__context__) from error
            headers = dict(error.headers or {})
            body = self._redact(_text(error.body))
            # Not from the client's error, which shows the whole response.
            raise refused(int(error.status or 0), body, str(error.reason), headers, action) from None
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(action, error) from error
        except ValueError as error:  # raised by the client's models, which have the fields of their version
            raise PlatformError(
                "kubernetes-invalid",
                f"cannot {action}: the Kubernetes client rejected it as invalid",
                cause=str(error),
                hint="if the cluster is newer than the client, run: pip install --upgrade kubernetes",
            ) from error
        try:
            parsed = json.loads(content)
        except ValueError:
            parsed = None
        if not isinstance(parsed, Mapping) or not {"apiVersion", "kind"} <= parsed.keys():
            raise KubernetesUnreachableError(
                f"cannot {action}: the response is not one of a Kubernetes API server",
                self._redact(_text(content)),
                "check whether a proxy or a login page is between this machine and the cluster",
            )
        return parsed

    def _redact(self, text: str) -> str:
        """Return a response without our token, which a proxy before the cluster may repeat."""
        sent = [str(value).rpartition(" ")[2] for value in self._configuration.api_key.values()]
        return redact_assertions(redact(sent, text))


def _text(content: object) -> str:
    return content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content or "")
