"""Errors of requests to a Kubernetes cluster, with the cluster's own messages as their causes."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from caliban.bounded import parse_retry_after
from caliban.errors import PlatformError
from caliban.platforms.retry import ServiceError
from caliban.redaction import strip_userinfo

NOT_FOUND = 404

_CAUSE_LIMIT = 2000
_TRANSIENT = frozenset({408, 425, 429, 499})
"""Client errors after which the same request may succeed a little later."""
_PERMANENT = frozenset({501, 505})
"""Server errors after which it may not."""
_NEEDS_CHANGE = frozenset({401, 403, 404})
"""Answers of the API server that are others only after somebody changed credentials, roles or names."""
_POOL = re.compile(r"\b\w+\(host='([^']*)', port=(\w+)\): ")
"""How messages of urllib3 begin."""
_TIMEOUT_REASONS = frozenset({"Timeout", "ServerTimeout"})


class KubernetesError(ServiceError):
    """A request to a cluster failed.

    Attributes:
        code: the HTTP status of the response; None without one.
    """

    code: int | None = None


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
    """The API server answered with an error: a ``Status`` object, whose code is that of the response.

    A client error certainly had no effect, except for timeouts and for an object that exists already: it may be ours.

    Attributes:
        reason: Kubernetes' name for it (``AlreadyExists``), or "".
        kind: the resource that it is about, in the plural (``jobs``, ``namespaces``), or "".
        name: the name of the object that it is about, or "".
    """

    def __init__(self, code: int, status: Status, action: str, retry_after: float | None = None) -> None:
        kind = _kind_of(code, status)
        super().__init__(
            kind.id, f"cannot {action}: {kind.message}", cause=status.message or f"HTTP {code}", hint=kind.hint
        )
        self.code: int = code
        self.reason = status.reason
        self.kind = status.kind
        self.name = status.name
        # Conflict is a race between writers in the cluster, as of two that use up one quota; AlreadyExists is not.
        self.is_transient = _is_transient(code) or (code == 409 and status.reason == "Conflict")
        self.is_over_quota = code == 429
        self.outcome_unknown = (
            code >= 500
            or code in (408, 425, 499)
            or status.reason in _TIMEOUT_REASONS
            or status.reason == "AlreadyExists"
        )
        self.retry_after = retry_after

    @property
    def is_permanent(self) -> bool:
        """See :attr:`caliban.errors.PlatformError.is_permanent`."""
        return not self.is_transient and self.code in _NEEDS_CHANGE

    def is_about(self, kind: str, name: str) -> bool:
        """Return whether it says that this object does not exist; a server that knows no jobs at all says 404, too."""
        return self.code == NOT_FOUND and (self.kind, self.name) == (kind, name)


class ClusterMissingError(PlatformError):
    """The cluster where a job was submitted does not exist any more, or another one has its name."""

    @property
    def is_permanent(self) -> bool:
        """See :attr:`caliban.errors.PlatformError.is_permanent`."""
        return True


@dataclass(frozen=True)
class Status:
    """The body of an error: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/."""

    message: str = ""
    reason: str = ""
    kind: str = ""
    name: str = ""

    @classmethod
    def of(cls, body: object, code: int, redacted: Callable[[str], str] = str) -> Status | None:
        """Read the parsed body of an error response; None where it does not come from the API server.

        Args:
            body: the parsed JSON.
            code: the status of the response, which the API server repeats in the body.
            redacted: removes secrets from its message.
        """
        if not isinstance(body, Mapping) or (body.get("kind"), body.get("apiVersion")) != ("Status", "v1"):
            return None
        if body.get("code") != code or body.get("status", "Failure") != "Failure":
            return None
        details = body.get("details")
        about = details if isinstance(details, Mapping) else {}
        values = (body.get("message"), body.get("reason"), about.get("kind"), about.get("name"))
        message, reason, kind, name = (value if isinstance(value, str) else "" for value in values)
        return cls(redacted(message)[:_CAUSE_LIMIT], reason, kind, name)


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
_DENIED = _Kind(
    "kubernetes-admission-denied",
    "denied by an admission rule of the cluster",
    "ask the cluster's administrator about this rule",
)
_RULE_FAILED = _Kind(
    "kubernetes-admission-failed",
    "an admission rule of the cluster failed",
    "ask the cluster's administrator about this rule; it is not a matter of your permissions",
)

_FAILED_RULE = re.compile(
    r"failed calling webhook |resulted in error: |failed to configure (?:policy|binding): |"
    # a mutating policy cannot deny: that is how the API server words its failure
    r"^policy '[^']*' with binding '[^']*' denied request: "
)
_DENYING_RULE = re.compile(r"(?:admission webhook|(?:Validating|Mutating)AdmissionPolicy) |denied the request")
_NO_PERMISSION = re.compile(r'is forbidden: User "|: User "|cannot \w+ (?:resource|path) ')


def _kind_of(code: int, status: Status) -> _Kind:
    """Return the kind of an error. Admission control uses status codes of all kinds.

    Source: the messages of k8s.io/apiserver (admission/plugin/webhook/errors/statuserror.go,
    admission/plugin/resourcequota/controller.go, admission/plugin/namespace/lifecycle/admission.go,
    admission/plugin/policy, endpoints/handlers/responsewriters/errors.go).
    """
    if code == NOT_FOUND and status.kind == "namespaces":
        return _NO_NAMESPACE
    if code == 403 and _NO_PERMISSION.search(status.message):
        return _KINDS[403]
    if code == 403 and "exceeded quota" in status.message:
        return _OVER_QUOTA
    if code == 403 and "because it is being terminated" in status.message:
        return _NAMESPACE_TERMINATING
    if code != NOT_FOUND and _FAILED_RULE.search(status.message):
        return _RULE_FAILED
    if _DENYING_RULE.search(status.message) or (code == 403 and " is forbidden: " in status.message):
        return _DENIED
    if status.reason in _TIMEOUT_REASONS:
        return _KINDS[500]
    return _KINDS.get(code, _KINDS[500] if code >= 500 else _OTHER_KIND)


def _is_transient(code: int) -> bool:
    return code in _TRANSIENT or (code >= 500 and code not in _PERMANENT)


def failure(
    code: int,
    body: object,
    text: str,
    http_reason: str,
    headers: Mapping[str, str],
    action: str,
    redacted: Callable[[str], str] = str,
) -> KubernetesError:
    """Return the error for an error response: of the API server, or of a gateway or login page before it.

    Args:
        code: the HTTP status.
        body: of the response, parsed; None where it is no JSON.
        text: the same, as text, without secrets.
        http_reason: the reason phrase of the status line.
        headers: of the response.
        action: what was requested, in the infinitive: ``submit the job x``.
        redacted: removes secrets from a message, which may have been encoded in the body.
    """
    retry_after = parse_retry_after(next((v for k, v in headers.items() if k.lower() == "retry-after"), None))
    status = Status.of(body, code, redacted)
    if status is not None:
        return KubernetesRefusedError(code, status, action, retry_after)
    said = text.strip() or http_reason
    error = foreign_answer(action, f"HTTP {code}: {said}" if said else f"HTTP {code}")
    error.code = code
    error.is_transient = _is_transient(code)
    error.is_over_quota = code == 429
    error.retry_after = retry_after
    return error


def foreign_answer(action: str, cause: str) -> KubernetesUnreachableError:
    """Return the error for a response that no API server sends. Whether the request reached one is unknown."""
    return KubernetesUnreachableError(
        f"cannot {action}: the response is not one of a Kubernetes API server",
        cause,
        "check whether a proxy or a login page is between this machine and the cluster",
    )


def unreachable(
    action: str, error: Exception, *, was_sent: bool = True, proxy: str | None = None
) -> KubernetesUnreachableError:
    """Return the error for a missing response.

    Only a certificate that cannot be verified proves that no server got the request. Any other failure of TLS may
    come from a connection on which it was sent already.

    Args:
        action: what was requested, in the infinitive.
        error: an exception of urllib3, or a TimeoutError of the deadline of the whole call.
        was_sent: False where the request was certainly not written to a connection.
        proxy: the URL of the proxy on the way, or None; it may be what cannot be reached.
    """
    import urllib3.exceptions as urllib3

    cause = _text(error) or type(error).__name__
    if proxy:
        cause = f"{cause} (through the proxy {proxy})"
    if _is_verification_failure(error):
        return KubernetesUnreachableError(
            f"cannot {action}: the cluster's certificate cannot be verified",
            cause,
            _certificate_hint(cause),
            is_transient=False,
            outcome_unknown=False,
        )
    unsent = urllib3.NewConnectionError | urllib3.ConnectTimeoutError | urllib3.ProxyError
    outcome_unknown = isinstance(error, urllib3.SSLError) or (was_sent and not isinstance(error, unsent))
    return KubernetesUnreachableError(
        f"cannot {action}: no response from the cluster", cause, outcome_unknown=outcome_unknown
    )


def _certificate_hint(cause: str) -> str:
    """Return what to do about a certificate that cannot be verified, by the words of OpenSSL."""
    if "ostname mismatch" in cause or "IP address mismatch" in cause:
        return "correct server or tls-server-name of the cluster in the kubeconfig: the certificate has another name"
    if "expired" in cause or "not yet valid" in cause:
        return "check the date of this machine, or ask the cluster's administrator to renew the certificate"
    return (
        "check certificate-authority-data in the kubeconfig, and whether the cluster was created again; "
        "certificates are verified even with insecure-skip-tls-verify"
    )


def _text(error: BaseException) -> str:
    """Return the message of an exception of urllib3, without the names of its classes."""
    if len(error.args) == 2 and isinstance(error.args[0], str) and isinstance(error.args[1], BaseException):
        return f"{error.args[0].rstrip('.')}: {_text(error.args[1]) or type(error.args[1]).__name__}"
    return _POOL.sub(r"\1:\2: ", str(error))


def _is_verification_failure(error: BaseException | None) -> bool:
    """Return whether TLS failed since this machine does not trust the server's certificate, or its host name."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        error = getattr(error, "reason", None) if isinstance(getattr(error, "reason", None), BaseException) else inner
    return False
