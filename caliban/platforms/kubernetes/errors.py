"""What a Kubernetes cluster's refusals and silences become: errors that tell them in the cluster's own words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from caliban.platforms.retry import ServiceError, parse_retry_after
from caliban.redaction import strip_userinfo

QUOTA_EXHAUSTED = "kubernetes-quota-exhausted"
NOT_FOUND = 404

_CAUSE_LIMIT = 2000
_PASSING = frozenset({429, 500, 502, 503, 504})
_DOUBTFUL = frozenset({500, 502, 503, 504})
_TIMED_OUT = frozenset({"Timeout", "ServerTimeout"})


class KubernetesError(ServiceError):
    """A call to a cluster that did not succeed."""


class KubernetesUnreachableError(KubernetesError):
    """No answer came. Whether the cluster did what it was asked is not known, unless ``outcome_unknown`` says else."""

    def __init__(
        self, what: str, cause: str, hint: str | None = None, *, is_transient: bool = True, outcome_unknown: bool = True
    ) -> None:
        super().__init__(
            "kubernetes-unreachable",
            what,
            cause=strip_userinfo(cause)[:_CAUSE_LIMIT],
            hint=hint or "see whether `kubectl cluster-info` reaches it from here: network, VPN, proxy",
        )
        self.is_transient = is_transient
        self.outcome_unknown = outcome_unknown


class KubernetesRefusedError(KubernetesError):
    """The cluster answered with an error.

    Attributes:
        code: the HTTP status.
        reason: Kubernetes' name for it (``AlreadyExists``), or "".
        kind: what it is about, in the plural (``jobs``, ``namespaces``), or "".
    """

    def __init__(self, code: int, status: Status, doing: str, retry_after: float | None = None) -> None:
        kind = _kind_of(code, status)
        super().__init__(
            kind.id, f"cannot {doing}: {kind.words}", cause=status.message or f"HTTP {code}", hint=kind.hint
        )
        self.code = code
        self.reason = status.reason
        self.kind = status.kind
        # Conflict is a race between writers in the cluster, as of two that use up one quota; AlreadyExists is not.
        self.is_transient = code in _PASSING or (code == 409 and status.reason == "Conflict")
        self.is_over_quota = code == 429
        self.outcome_unknown = code in _DOUBTFUL or status.reason == "AlreadyExists"
        self.retry_after = retry_after


@dataclass(frozen=True)
class Status:
    """An error's body: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/."""

    message: str = ""
    reason: str = ""
    kind: str = ""

    @classmethod
    def of(cls, body: object, http_reason: str) -> Status:
        """Read it; what is no Status, such as a proxy's page, is its own message."""
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
    words: str
    hint: str | None = None


_OTHER_KIND = _Kind("kubernetes-refused", "the cluster refuses")
_KINDS: Mapping[int, _Kind] = {
    400: _Kind("kubernetes-bad-request", "the cluster does not accept the request"),
    401: _Kind(
        "kubernetes-not-authenticated",
        "the cluster does not accept the credentials",
        "log in anew as this cluster asks for it, until `kubectl get jobs` works",
    ),
    403: _Kind(
        "kubernetes-permission-denied",
        "permission denied",
        "ask who runs the cluster for a role that may create, get, list and delete jobs, and list pods, there",
    ),
    404: _Kind("kubernetes-not-found", "the cluster knows no such thing"),
    409: _Kind("kubernetes-conflict", "there is one already"),
    413: _Kind("kubernetes-too-large", "the cluster does not accept so large a request"),
    422: _Kind("kubernetes-invalid", "the cluster does not accept the job"),
    429: _Kind("kubernetes-busy", "the cluster takes no more requests just now", "wait a while"),
    500: _Kind("kubernetes-unavailable", "the cluster fails just now", "try again later"),
}
_NO_NAMESPACE = _Kind(
    "namespace-not-found",
    "there is no such namespace",
    "make it with `kubectl create namespace`, or name another with --namespace",
)
_NAMESPACE_GOING = _Kind(
    "namespace-terminating", "the namespace is being deleted", "wait until it is gone, and make it anew"
)
_OVER_QUOTA = _Kind(
    QUOTA_EXHAUSTED, "a quota of the namespace is used up", "wait until other jobs have ended, or ask for more quota"
)
_WEBHOOK = _Kind(
    "kubernetes-admission-denied", "an admission rule of the cluster refuses", "see the rule's own words above"
)


def _kind_of(code: int, status: Status) -> _Kind:
    """Which kind of refusal this is. What admission says comes with codes of all kinds.

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
        return _NAMESPACE_GOING
    if status.reason in _TIMED_OUT:
        return _KINDS[500]
    return _KINDS.get(code, _KINDS[500] if code >= 500 else _OTHER_KIND)


def refused(
    code: int, body: object, http_reason: str, headers: Mapping[str, str], doing: str
) -> KubernetesRefusedError:
    """The error for an answer that is one.

    Args:
        code: the HTTP status.
        body: of the answer.
        http_reason: what stands beside the code.
        headers: of the answer.
        doing: what was being done, in the infinitive: ``submit the job x``.
    """
    retry_after = parse_retry_after(next((v for k, v in headers.items() if k.lower() == "retry-after"), None))
    return KubernetesRefusedError(code, Status.of(body, http_reason), doing, retry_after)


def unreachable(doing: str, error: Exception) -> KubernetesUnreachableError:
    """The error for no answer, from what urllib3 raised."""
    import urllib3.exceptions as urllib3

    words = str(error) or type(error).__name__
    if isinstance(error, urllib3.SSLError):
        return KubernetesUnreachableError(
            f"cannot {doing}: the cluster's certificate is not accepted",
            words,
            "certificates are always verified, whatever a kubeconfig says: see certificate-authority-data there, and "
            "whether the cluster was made anew",
            is_transient=False,
            outcome_unknown=False,
        )
    was_sent = not isinstance(error, urllib3.NewConnectionError | urllib3.ConnectTimeoutError | urllib3.ProxyError)
    return KubernetesUnreachableError(f"cannot {doing}: the cluster does not answer", words, outcome_unknown=was_sent)
