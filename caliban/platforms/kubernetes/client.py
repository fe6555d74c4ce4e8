"""The calls that are made to a cluster: jobs of batch/v1, and pods and namespaces of v1.

By the official client, whose answers are taken as plain JSON: its models know only the fields of their own version.
Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from caliban.errors import PlatformError
from caliban.platforms.kubernetes.errors import (
    NOT_FOUND,
    KubernetesError,
    KubernetesRefusedError,
    KubernetesUnreachableError,
    refused,
    unreachable,
)
from caliban.platforms.retry import OnRetry, RetryPolicy, with_retries
from caliban.records import JsonObject
from caliban.redaction import redact, redact_assertions

if TYPE_CHECKING:
    from kubernetes.client import Configuration

PAGE_SIZE = 500
"""Objects on one page, as kubectl has it (``--chunk-size``)."""

_GONE = 410
_CONFLICT = 409


class Cluster:
    """One cluster's API server, as one person reaches it. May be shared by threads.

    Every method raises :class:`~caliban.platforms.kubernetes.errors.KubernetesError`.

    Attributes:
        name: for messages: ``GKE cluster blueshift``, ``cluster of the context kind-lab``.
    """

    def __init__(
        self, configuration: Configuration, name: str, retry_policy: RetryPolicy, user_agent: str, on_retry: OnRetry
    ) -> None:
        """Make the client; nobody is asked yet.

        Args:
            configuration: the server, its CA, and credentials. TLS is verified whatever it says.
            name: for messages.
            retry_policy: how long to wait.
            user_agent: who asks.
            on_retry: told when it takes long to get an answer.
        """
        from kubernetes.client import ApiClient, BatchV1Api, CoreV1Api

        configuration.verify_ssl = True
        # urllib3 would send requests again by itself, and follow redirects with our credentials.
        configuration.retries = False
        client: Any = ApiClient(configuration)
        client.user_agent = user_agent
        client.set_default_header("Content-Type", "application/json")
        self.name = name
        self.server = str(configuration.host)
        self._retry_policy, self._on_retry = retry_policy, on_retry
        self._configuration: Any = configuration
        self._batch: Any = BatchV1Api(client)  # not all versions of the client have types
        self._core: Any = CoreV1Api(client)

    def create_job(self, namespace: str, body: JsonObject) -> JsonObject:
        """Submit a job. Sent once, whatever happens; unknown fields are an error."""
        doing = f"submit the job {_name_of(body)} to the {self.name}"
        call = self._batch.create_namespaced_job
        return self._once(lambda how: call(namespace, dict(body), field_validation="Strict", **how), doing)

    def get_job(self, namespace: str, name: str) -> JsonObject | None:
        """A job; None when the cluster has none of that name."""
        doing = f"ask the {self.name} after the job {name}"
        try:
            return self._with_retries(lambda how: self._batch.read_namespaced_job(name, namespace, **how), doing)
        except KubernetesRefusedError as error:
            if error.code == NOT_FOUND:
                return None
            raise

    def delete_job(self, namespace: str, job: JsonObject) -> bool:
        """Delete a job and its pods, if it is still the very one that was read.

        Returns:
            False when it has changed since, or is gone.
        """
        metadata = job["metadata"]
        assert isinstance(metadata, Mapping)
        name = str(metadata["name"])
        body = {
            "propagationPolicy": "Background",
            "preconditions": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
        }
        doing = f"stop the job {name} of the {self.name}"
        is_in_doubt = False

        def delete() -> bool:
            nonlocal is_in_doubt
            try:
                self._once(lambda how: self._batch.delete_namespaced_job(name, namespace, body=body, **how), doing)
            except KubernetesError as error:
                code = error.code if isinstance(error, KubernetesRefusedError) else None
                if code == NOT_FOUND:
                    return is_in_doubt  # gone by the request before, whose answer was lost
                if code == _CONFLICT:
                    return False
                is_in_doubt = is_in_doubt or error.outcome_unknown
                raise
            return True

        return with_retries(delete, self._retry_policy, self._on_retry)

    def jobs(self, namespace: str, selector: str | None) -> Iterator[JsonObject]:
        """The jobs of a namespace, those that ``selector`` takes, page by page."""
        doing = f"list the jobs of the {self.name} in the namespace {namespace}"
        return self._listed(self._batch.list_namespaced_job, namespace, selector, doing)

    def pods(self, namespace: str, selector: str) -> Iterator[JsonObject]:
        """The pods of a namespace, those that ``selector`` takes, page by page."""
        doing = f"list the pods of the {self.name} in the namespace {namespace}"
        return self._listed(self._core.list_namespaced_pod, namespace, selector, doing)

    def check_namespace(self, namespace: str) -> None:
        """Learn whether the cluster answers, takes the credentials and has the namespace.

        Who may not ask after namespaces is told by the cluster later, should there be none.
        """
        try:
            self._with_retries(lambda how: self._core.read_namespace(namespace, **how), f"reach the {self.name}")
        except KubernetesRefusedError as error:
            if error.code != 403:
                raise

    def _listed(
        self, call: Callable[..., Any], namespace: str, selector: str | None, doing: str
    ) -> Iterator[JsonObject]:
        """All pages of a list. A list that has become too old to be continued is begun once more: 410.

        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
        """
        given = {"limit": PAGE_SIZE, **({"label_selector": selector} if selector else {})}
        seen: set[object] = set()
        more: dict[str, object] = {}

        def call_page(more: Mapping[str, object], how: Mapping[str, object]) -> object:
            return call(namespace, **given, **more, **how)

        while True:
            try:
                page = self._with_retries(partial(call_page, more), doing)
            except KubernetesRefusedError as error:
                if error.code != _GONE or not more:
                    raise
                more = {}
                continue
            items = page.get("items")
            for item in items if isinstance(items, list) else []:
                uid = item["metadata"].get("uid")
                if uid is None or uid not in seen:
                    seen.add(uid)
                    yield item
            metadata = page.get("metadata")
            token = metadata.get("continue") if isinstance(metadata, Mapping) else None
            if not token:
                return
            more = {"_continue": token}

    def _with_retries(self, call: Callable[[dict[str, Any]], Any], doing: str) -> JsonObject:
        return with_retries(lambda: self._once(call, doing), self._retry_policy, self._on_retry)

    def _once(self, call: Callable[[dict[str, Any]], Any], doing: str) -> JsonObject:
        """Make a call of the client, once, and read its answer."""
        import urllib3.exceptions
        from kubernetes.client import ApiException

        timeout = (float(self._retry_policy.connect_timeout), float(self._retry_policy.read_timeout))
        try:
            answer = call({"_preload_content": False, "_request_timeout": timeout})
            content = answer.data
        except ApiException as error:
            if isinstance(error.__context__, urllib3.exceptions.SSLError):  # so the client tells of it: status 0
                raise unreachable(doing, error.__context__) from error
            headers = dict(error.headers or {})
            body = self._without_secrets(_text(error.body))
            # Not from the client's error, which shows all that was answered.
            raise refused(int(error.status or 0), body, str(error.reason), headers, doing) from None
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(doing, error) from error
        except ValueError as error:  # the client's models, of their own version, do not know such a job
            raise PlatformError(
                "kubernetes-invalid",
                f"cannot {doing}: the Kubernetes client does not accept it",
                cause=str(error),
                hint="where the cluster is newer than the client: pip install --upgrade kubernetes",
            ) from error
        try:
            read = json.loads(content)
        except ValueError:
            read = None
        if not isinstance(read, Mapping) or not {"apiVersion", "kind"} <= read.keys():
            raise KubernetesUnreachableError(
                f"cannot {doing}: what was answered does not come from a Kubernetes API server",
                self._without_secrets(_text(content)),
                "see whether a proxy or a login page stands between this machine and the cluster",
            )
        return read

    def _without_secrets(self, text: str) -> str:
        """An answer without our token, which who stands before the cluster may repeat."""
        sent = [str(value).rpartition(" ")[2] for value in self._configuration.api_key.values()]
        return redact_assertions(redact(sent, text))


def _text(content: object) -> str:
    return content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content or "")


def _name_of(body: JsonObject) -> str:
    metadata = body.get("metadata")
    return str(metadata.get("name")) if isinstance(metadata, Mapping) else "?"
