"""Errors of Google's APIs: what was refused or not answered, in Google's own words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caliban.errors import PlatformError
from caliban.platforms.retry import ServiceError
from caliban.redaction import redact, redact_assertions, strip_userinfo

if TYPE_CHECKING:
    from google.auth.exceptions import GoogleAuthError

QUOTA_EXHAUSTED = "google-quota-exhausted"
NO_CREDENTIALS = "no-credentials"

TRANSIENT_STATUSES = frozenset({429, 500, 502, 503, 504})
_UNKNOWN_OUTCOME = frozenset({409, 500, 502, 503, 504})
"""HTTP statuses of a submission after which the job may exist, and may be ours."""
_CAUSE_LIMIT = 2000


class GoogleError(ServiceError):
    """A request to a Google API failed."""


class GoogleUnreachableError(GoogleError):
    """Google did not answer. Whether it processed the request is unknown."""


class GoogleRefusedError(GoogleError):
    """Google answered with an error.

    Attributes:
        code: the HTTP status.
        status: Google's name for it (``FAILED_PRECONDITION``), or "".
    """

    def __init__(self, code: int, status: str, action: str, cause: str, retry_after: float | None = None) -> None:
        kind = _KINDS.get(code, _KINDS[500] if code >= 500 else _OTHER_KIND)
        super().__init__(kind.id, f"cannot {action}: {kind.message}", cause=cause or f"HTTP {code}", hint=kind.hint)
        self.code = code
        self.status = status
        self.is_transient = code in TRANSIENT_STATUSES
        self.is_over_quota = code == 429
        self.outcome_unknown = code in _UNKNOWN_OUTCOME
        self.retry_after = retry_after


class CredentialsError(PlatformError):
    """There are no credentials that Google accepts. No request was sent to the API."""


@dataclass(frozen=True)
class _Kind:
    id: str
    message: str
    hint: str | None = None


_OTHER_KIND = _Kind("google-refused", "request refused")
_KINDS: Mapping[int, _Kind] = {
    400: _Kind("google-bad-request", "bad request"),
    401: _Kind(
        "google-not-authenticated",
        "access token not accepted",
        "check whether the key is still valid, and whether this machine's clock is correct",
    ),
    403: _Kind(
        "google-permission-denied",
        "permission denied",
        "ask the project's owner for the role aiplatform.user (Vertex AI), ml.developer (AI Platform) or "
        "container.developer (GKE); or enable the API; or choose another project with --project_id or other "
        "credentials with --cloud_key",
    ),
    404: _Kind("google-not-found", "not found", "check whether --project_id names the right project"),
    409: _Kind("google-conflict", "already exists"),
    429: _Kind(QUOTA_EXHAUSTED, "quota exceeded", "try again later, or request more quota"),
    500: _Kind("google-unavailable", "service unavailable", "try again later"),
}


def token_failure(error: GoogleAuthError, secrets: Iterable[object] = ()) -> CredentialsError | GoogleUnreachableError:
    """Return why there is no access token: refused credentials, or a token endpoint that fails or does not answer.

    Args:
        error: raised by google-auth; it holds the endpoint's answer, which may repeat what was sent.
        secrets: what was sent and must not be shown.
    """
    from google.auth.exceptions import TransportError

    if isinstance(error, TransportError) or error.retryable:
        return unreachable("fetch an access token", error, secrets)
    text = redact_assertions(redact(secrets, str(error.args[0] if error.args else error)))
    return CredentialsError(
        "credentials-refused",
        "Google does not accept the credentials",
        cause=text[:_CAUSE_LIMIT],
        hint="for a service account, check whether the key is still valid and this machine's clock is correct; for "
        "your own account, run: gcloud auth application-default login",
    )


def unexpected_answer(action: str, answer: str) -> GoogleUnreachableError:
    """Return the error for an answer that does not come from the API, such as a proxy's page."""
    return GoogleUnreachableError(
        "google-misunderstood",
        f"cannot {action}: the answer does not come from Google's API",
        cause=answer[:_CAUSE_LIMIT],
        hint="check whether a proxy or a login page is between this machine and Google",
    )


def unreachable(action: str, error: Exception, secrets: Iterable[object] = ()) -> GoogleUnreachableError:
    """Return the error for a request without an answer.

    Args:
        action: what was attempted, in the infinitive: ``fetch an access token``.
        error: the library's; a proxy's login in it is removed.
        secrets: what must not be shown.
    """
    text = strip_userinfo(redact_assertions(redact(secrets, str(error))))
    return GoogleUnreachableError(
        "google-unreachable",
        f"cannot {action}",
        cause=text[:_CAUSE_LIMIT] or type(error).__name__,
        hint="check whether this machine is online, and whether it needs a proxy (HTTPS_PROXY)",
    )


def parse_error(content: bytes, reason: str) -> tuple[str, str]:
    """Return Google's name for an error, and its message with what its details add.

    Source: https://cloud.google.com/apis/design/errors#http_mapping

    Args:
        content: the body of the answer.
        reason: HTTP's, for an empty body.
    """
    try:
        error = json.loads(content)["error"]
        status, message, details = error.get("status", ""), error["message"], error.get("details", [])
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", (content.decode("utf-8", "replace").strip() or str(reason))[:_CAUSE_LIMIT]
    lines = [str(message).strip(), *_detail_lines(details, str(message))]
    return str(status), "\n".join(lines)[:_CAUSE_LIMIT]


def _detail_lines(details: object, message: str) -> Iterable[str]:
    """Yield what the details add to the message (https://cloud.google.com/apis/design/errors#error_details)."""
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, Mapping):
            continue
        for violation in detail.get("fieldViolations") or ():
            if str(violation.get("description", "")) not in message:
                yield f"{violation.get('field', '')}: {violation.get('description')}"
        if "reason" in detail:
            yield ", ".join([str(detail["reason"]), *(f"{k}: {v}" for k, v in (detail.get("metadata") or {}).items())])
        for link in detail.get("links") or ():
            yield f"{link.get('description', '')}: {link.get('url', '')}"
