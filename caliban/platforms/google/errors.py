"""What Google's refusals and silences become: errors that tell them in Google's own words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caliban.errors import CalibanError, PlatformError
from caliban.platforms.retry import ServiceError
from caliban.redaction import redact, redact_assertions, strip_userinfo

if TYPE_CHECKING:
    from google.auth.exceptions import GoogleAuthError

QUOTA_EXHAUSTED = "google-quota-exhausted"
NO_CREDENTIALS = "no-credentials"

_PASSING = frozenset({429, 500, 502, 503, 504})
_DOUBTFUL = frozenset({409, 500, 502, 503, 504})
"""Answers to a submission that leave open whether there is such a job, perhaps of ours."""
_CAUSE_LIMIT = 2000


class GoogleError(ServiceError):
    """A call to a Google API that did not succeed."""


class GoogleUnreachableError(GoogleError):
    """No answer came. Whether Google did what it was asked is not known."""


class GoogleRefusedError(GoogleError):
    """Google answered with an error.

    Attributes:
        code: the HTTP status.
        status: Google's name for it (``FAILED_PRECONDITION``), or "".
    """

    def __init__(self, code: int, status: str, doing: str, cause: str, retry_after: float | None = None) -> None:
        kind = _KINDS.get(code, _KINDS[500] if code >= 500 else _OTHER_KIND)
        super().__init__(kind.id, f"cannot {doing}: {kind.words}", cause=cause or f"HTTP {code}", hint=kind.hint)
        self.code = code
        self.status = status
        self.is_transient = code in _PASSING
        self.is_over_quota = code == 429
        self.outcome_unknown = code in _DOUBTFUL
        self.retry_after = retry_after


class CredentialsError(PlatformError):
    """There are no credentials that Google accepts. Nothing was asked of the API."""


@dataclass(frozen=True)
class _Kind:
    id: str
    words: str
    hint: str | None = None


_OTHER_KIND = _Kind("google-refused", "Google refuses")
_KINDS: Mapping[int, _Kind] = {
    400: _Kind("google-bad-request", "Google does not accept the request"),
    401: _Kind(
        "google-not-authenticated",
        "Google does not accept the access token",
        "see whether the key is still in use, and whether this machine's clock is right",
    ),
    403: _Kind(
        "google-permission-denied",
        "permission denied",
        "ask the project's owner for the permission (roles: aiplatform.user for Vertex AI, ml.developer for AI "
        "Platform, container.developer for GKE), enable the API, or name another project with --project_id or other "
        "credentials with --cloud_key",
    ),
    404: _Kind("google-not-found", "Google knows no such thing", "see whether --project_id names the right project"),
    409: _Kind("google-conflict", "there is one already"),
    429: _Kind(QUOTA_EXHAUSTED, "the quota is used up", "wait a while, or ask for more quota"),
    500: _Kind("google-unavailable", "Google's service fails just now", "try again later"),
}


def token_failure(error: GoogleAuthError, secrets: Iterable[object] = ()) -> CredentialsError | GoogleUnreachableError:
    """Why there is no access token: the credentials are refused, or the token endpoint cannot be reached or fails.

    Args:
        error: what google-auth raised; it holds the endpoint's answer, which may repeat what was sent.
        secrets: what was sent, and is not to be shown.
    """
    from google.auth.exceptions import TransportError

    if isinstance(error, TransportError) or error.retryable:
        return unreachable("fetch an access token", error, secrets)
    words = redact_assertions(redact(secrets, str(error.args[0] if error.args else error)))
    return CredentialsError(
        "credentials-refused",
        "Google does not accept the credentials: they give no access token",
        cause=words[:_CAUSE_LIMIT],
        hint="for a service account: a key that is in use, and a clock that is right; for your own account: "
        "gcloud auth application-default login",
    )


def one_line(error: CalibanError) -> str:
    """An error as a remark: its message, and the first line of its cause."""
    cause = (error.cause or "").strip().partition("\n")[0]
    return f"{error.message}: {cause}" if cause else error.message


def misunderstood(doing: str, answer: str) -> GoogleUnreachableError:
    """What comes of an answer that is not the API's."""
    return GoogleUnreachableError(
        "google-misunderstood",
        f"cannot {doing}: what was answered does not come from Google's API",
        cause=answer[:_CAUSE_LIMIT],
        hint="see whether a proxy or a login page stands between this machine and Google",
    )


def unreachable(what: str, error: Exception, secrets: Iterable[object] = ()) -> GoogleUnreachableError:
    """What comes of no answer; ``what`` in the infinitive. ``secrets`` are not shown, nor is a proxy's login."""
    words = strip_userinfo(redact_assertions(redact(secrets, str(error))))
    return GoogleUnreachableError(
        "google-unreachable",
        f"cannot {what}",
        cause=words[:_CAUSE_LIMIT] or type(error).__name__,
        hint="see whether this machine is online, and whether a proxy (HTTPS_PROXY) is needed",
    )


def words(content: bytes, reason: str) -> tuple[str, str]:
    """An error's body -> Google's name for it, and its message with what its details add.

    Source: https://cloud.google.com/apis/design/errors#http_mapping
    """
    try:
        error = json.loads(content)["error"]
        status, message, details = error.get("status", ""), error["message"], error.get("details", [])
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", (content.decode("utf-8", "replace").strip() or str(reason))[:_CAUSE_LIMIT]
    lines = [str(message).strip(), *_detail_lines(details, str(message))]
    return str(status), "\n".join(lines)[:_CAUSE_LIMIT]


def _detail_lines(details: object, message: str) -> Iterable[str]:
    """What the details add to the message; their kinds: https://cloud.google.com/apis/design/errors#error_details."""
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
