"""Errors of requests to a Kubernetes cluster, with the cluster's own messages as their causes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from caliban.bounded import parse_retry_after
from caliban.platforms.retry import ServiceError
from caliban.redaction import strip_userinfo

NOT_FOUND = 404

_CAUSE_LIMIT = 2000
_TRANSIENT = frozenset({429, 500, 502, 503, 504})
_OUTCOME_UNKNOWN = frozenset({500, 502, 503, 504})
_TIMEOUT_REASONS = frozenset({"Timeout", "ServerTimeout"})


class KubernetesError(ServiceError):
    """A request to a cluster failed."""


class KubernetesUnreachableError(KubernetesError):
    """No response came. Unless ``outcome_unknown`` is False, the cluster may have processed the request."""

    def __init__(
        self,
        message: str,
        cause: str,
        hint: str | None = None,
        *,
        is_transient: bool = True,
        outcome_unknown: bool = True,
    ) -> None:
        super().__init__(
            "kubernetes-unreachable",
            message,
            cause=strip_userinfo(cause)[:_CAUSE_LIMIT],
            hint=hint or "check network, VPN and proxy with: kubectl cluster-info",
        )
        self.is_transient = is_transient
        self.outcome_unknown = outcome_unknown


class KubernetesRefusedError(KubernetesError):
    """The cluster answered with an error.

    Attributes:
        code: the HTTP status.
        reason: Kubernetes' name for it (``AlreadyExists``), or "".
        kind: the resource that it is about, in the plural (``jobs``, ``namespaces``), or "".
    """

    def __init__(self, code: int, status: Status, action: str, retry_after: float | None = None) -> None:
        kind = _kind_of(code, status)
        super().__init__(
            kind.id, f"cannot {action}: {kind.message}", cause=status.message or f"HTTP {code}", hint=kind.hint
        )
        self.code = code
        self.reason = status.reason
        self.kind = status.kind
        # Conflict is a race between writers in the cluster, as of two that use up one quota; AlreadyExists is not.
        self.is_transient = code in _TRANSIENT or (code == 409 and status.reason == "Conflict")
        self.is_over_quota = code == 429
        self.outcome_unknown = code in _OUTCOME_UNKNOWN or status.reason == "AlreadyExists"
        self.retry_after = retry_after


@dataclass(frozen=True)
class Status:
    """The body of an error: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/."""

    message: str = ""
    reason: str = ""
    kind: str = ""

    @classmethod
    def of(cls, body: object, http_reason: str) -> Status:
        """Parse a body. One that is no Status, such as a proxy's page, becomes the message."""
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, Mapping) or found.get("kind") != "Status":
            return cls((text.strip() or http_reason)[:_CAUSE_LIMIT])
        details = found.get("details")
        kind = details.get("kind") if isinstance(details, Mapping) else None
        return cls(str(found.get("message") or "")[:_CAUSE_LIMIT], str(found.get("reason") or ""), str(kind or ""))


@dataclass(frozen=True)
class _Kind:
    id: str
    message: str
    hint: str | None = None


_OTHER_KIND = _Kind("kubernetes-refused", "the cluster rejected the request")
_KINDS: Mapping[int, _Kind] = {
    400: _Kind("kubernetes-bad-request", "the cluster rejected the request as malformed"),
    401: _Kind(
        "kubernetes-not-authenticated",
        "the cluster rejected the credentials",
        "log in to the cluster again, and check with: kubectl get jobs",
    ),
    403: _Kind(
        "kubernetes-permission-denied",
        "permission denied",
        "ask the cluster's administrator for a role that may create, get, list and delete jobs, and list pods, in this "
        "namespace",
    ),
    404: _Kind("kubernetes-not-found", "not found"),
    409: _Kind("kubernetes-conflict", "it already exists"),
    413: _Kind("kubernetes-too-large", "the request is too large"),
    422: _Kind("kubernetes-invalid", "the cluster rejected the job as invalid"),
    429: _Kind("kubernetes-busy", "the cluster is busy", "try again later"),
    500: _Kind("kubernetes-unavailable", "the cluster is unavailable", "try again later"),
}
_NO_NAMESPACE = _Kind(
    "namespace-not-found",
    "the namespace does not exist",
    "create it with kubectl create namespace, or choose another one with --namespace",
)
_NAMESPACE_TERMINATING = _Kind(
    "namespace-terminating",
    "the namespace is being deleted",
    "create it again after its deletion, or choose another one with --namespace",
)
_OVER_QUOTA = _Kind(
    "kubernetes-quota-exhausted",
    "a resource quota of the namespace is exhausted",
    "wait for other jobs to end, or request more quota",
)
_WEBHOOK = _Kind(
    "kubernetes-admission-denied",
    "denied by an admission rule of the cluster",
    "ask the cluster's administrator about this rule",
)


def _kind_of(code: int, status: Status) -> _Kind:
    """Return the kind of an error. Admission control uses status codes of all kinds.

    Source: the messages of k8s.io/apiserver (admission/plugin/webhook/errors/statuserror.go,
    admission/plugin/resourcequota/controller.go, admission/plugin/namespace/lifecycle/admission.go).
    """
    if code == NOT_FOUND and status.kind == "namespaces":
        return _NO_NAMESPACE
    if (
        re.match(r"(admission webhook|ValidatingAdmissionPolicy) ", status.message)
        or "denied the request" in status.message
    ):
        return _WEBHOOK
    if code == 403 and "exceeded quota" in status.message:
        return _OVER_QUOTA
    if code == 403 and "because it is being terminated" in status.message:
        return _NAMESPACE_TERMINATING
    if status.reason in _TIMEOUT_REASONS:
        return _KINDS[500]
    return _KINDS.get(code, _KINDS[500] if code >= 500 else _OTHER_KIND)


def refused(
    code: int, body: object, http_reason: str, headers: Mapping[str, str], action: str
) -> KubernetesRefusedError:
    """Return the error for an error response.

    Args:
        code: the HTTP status.
        body: of the response.
        http_reason: the reason phrase of the status line.
        headers: of the response.
        action: what was requested, in the infinitive: ``submit the job x``.
    """
    retry_after = parse_retry_after(next((v for k, v in headers.items() if k.lower() == "retry-after"), None))
    return KubernetesRefusedError(code, Status.of(body, http_reason), action, retry_after)


def unreachable(action: str, error: Exception) -> KubernetesUnreachableError:
    """Return the error for a missing response, from an exception of urllib3."""
    import urllib3.exceptions as urllib3

    cause = str(error) or type(error).__name__
    if isinstance(error, urllib3.SSLError):
        return KubernetesUnreachableError(
            f"cannot {action}: the cluster's certificate cannot be verified",
            cause,
            "check certificate-authority-data in the kubeconfig, and whether the cluster was created again; "
            "certificates are verified even with insecure-skip-tls-verify",
            is_transient=False,
            outcome_unknown=False,
        )
    was_sent = not isinstance(error, urllib3.NewConnectionError | urllib3.ConnectTimeoutError | urllib3.ProxyError)
    return KubernetesUnreachableError(f"cannot {action}: no response from the cluster", cause, outcome_unknown=was_sent)
