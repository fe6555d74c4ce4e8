"""Errors of Google's APIs: what was refused or not answered, in Google's own words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from caliban.bounded import parse_json
from caliban.errors import PlatformError
from caliban.platforms.google.identifiers import PROJECT
from caliban.platforms.google.quotas import is_passing, retry_delay
from caliban.platforms.retry import ServiceError
from caliban.redaction import clean_text, exception_text

QUOTA_EXHAUSTED = "google-quota-exhausted"
NO_CREDENTIALS = "no-credentials"

_OK = 200
_SERVICE = re.compile(r"[a-z]{1,40}\.googleapis\.com")

_UNKNOWN_OUTCOME = frozenset({408, 409, 425, 499})
"""HTTP statuses below 500 of a submission after which the job may exist, and may be ours: the request may have been
processed although its answer was given up (408, 499), may still be (425), or was before (409)."""
_NOT_IMPLEMENTED = 501
_PERMANENT = frozenset({401, 403, 404})
"""HTTP statuses of questions that are answered otherwise only after somebody changed credentials, roles or names."""
_RPC_STATUSES = frozenset(
    {
        *("CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
        *("PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED"),
        *("OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    }
)
"""Source: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto"""


class GoogleError(ServiceError):
    """A request to a Google API failed."""


class GoogleUnreachableError(GoogleError):
    """Google did not answer. Whether it processed the request is unknown."""


class ForeignAnswerError(GoogleUnreachableError):
    """The answer is not one of Google's API but that of a gateway, proxy or login page in between.

    The request may have been processed all the same: the API's answer may have been replaced.

    Attributes:
        code: the HTTP status.
        is_page: whether it is a page of HTML.
    """

    retry_deadline = 10  # a login page goes away when somebody logs in, not by itself

    def __init__(self, action: str, code: int, answer: str) -> None:
        shown = clean_text(answer)
        super().__init__(
            "google-misunderstood",
            f"cannot {action}: the answer does not come from Google's API",
            cause=shown if code == _OK else f"HTTP {code}\n{shown}".rstrip(),
            hint="check whether a proxy or a login page is between this machine and Google",
        )
        self.code = code
        self.is_page = answer.lstrip().startswith("<")


class GoogleRefusedError(GoogleError):
    """Google answered with an error.

    Attributes:
        code: the HTTP status.
        status: Google's name for it (``FAILED_PRECONDITION``), or "".
    """

    def __init__(
        self,
        code: int,
        status: str,
        action: str,
        cause: str,
        retry_after: float | None = None,
        *,
        hint: str | None = None,
        is_passing: bool = True,
    ) -> None:
        """Describe a refusal.

        Args:
            code: the HTTP status.
            status: Google's name for it.
            action: what was attempted, in the infinitive.
            cause: Google's words.
            retry_after: after how many seconds the service asks to try again, or None.
            hint: what to do; None for the usual hint for the code.
            is_passing: whether an exhausted quota (429) passes within minutes.
        """
        kind = _KINDS.get(code, _KINDS[500] if code >= 500 else _OTHER_KIND)
        message = f"cannot {action}: {kind.message}"
        super().__init__(kind.id, message, cause=cause or f"HTTP {code}", hint=hint or kind.hint)
        self.code = code
        self.status = status
        self.is_transient = is_transient_status(code) and is_passing
        self.is_over_quota = code == 429 and is_passing
        self.outcome_unknown = code in _UNKNOWN_OUTCOME or (code >= 500 and not self._is_not_implemented)
        self.retry_after = retry_after

    @property
    def is_permanent(self) -> bool:
        """See :attr:`caliban.errors.PlatformError.is_permanent`."""
        return not self.is_transient and self.code in _PERMANENT

    @property
    def _is_not_implemented(self) -> bool:
        """Whether the API itself, and no gateway, says that it has no such method."""
        return self.code == _NOT_IMPLEMENTED and self.status == "UNIMPLEMENTED"


def is_transient_status(code: int) -> bool:
    """Return whether the same request may succeed a little later after this HTTP status."""
    return code in (408, 425, 429, 499) or (code >= 500 and code != _NOT_IMPLEMENTED)


class CredentialsError(PlatformError):
    """There are no credentials that Google accepts. No request was sent to the API."""

    @property
    def is_permanent(self) -> bool:
        """See :attr:`caliban.errors.PlatformError.is_permanent`."""
        return True


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


_MORE_QUOTA = (
    "request more quota at https://console.cloud.google.com/iam-admin/quotas; or use fewer or other GPUs (--gpu_spec), "
    "or another --region"
)
_QUOTA_PROJECT = (
    "the quota project is $GOOGLE_CLOUD_QUOTA_PROJECT, or quota_project_id of the credentials file; ask its owner for "
    "the role serviceusage.serviceUsageConsumer, or set another: "
    "gcloud auth application-default set-quota-project PROJECT_ID"
)


def _hint(error: Mapping[str, object] | None) -> str | None:
    """Return what to do about a refusal, where its ErrorInfo says more than its code; else None.

    Source: https://github.com/googleapis/googleapis/blob/master/google/api/error_reason.proto
    """
    if "requires a quota project" in str((error or {}).get("message")):
        return _QUOTA_PROJECT
    for detail in _objects((error or {}).get("details")):
        metadata = detail.get("metadata")
        named = metadata if isinstance(metadata, dict) else {}
        service, consumer = str(named.get("service", "")), str(named.get("consumer", ""))
        project = consumer.removeprefix("projects/")
        if detail.get("reason") == "USER_PROJECT_DENIED":
            return _QUOTA_PROJECT
        if detail.get("reason") == "SERVICE_DISABLED" and _SERVICE.fullmatch(service) and PROJECT.is_valid(project):
            return f"run: gcloud services enable {service} --project {project}"
        if detail.get("reason") == "BILLING_DISABLED":
            return "link the project to a billing account: https://console.cloud.google.com/billing/projects"
    return None


def refusal_of(code: int, reason: str, content: bytes, action: str, retry_after: float | None) -> GoogleError:
    """Return the error for an answer with an HTTP status of 300 or more.

    Only an error object of the API itself is a refusal. A gateway's page with the same status may stand in for an
    answer that says the opposite, and statuses of 500 or more are used by both.

    Args:
        code: the HTTP status.
        reason: HTTP's, for an empty body.
        content: the body, without the token.
        action: what was attempted, in the infinitive.
        retry_after: the seconds that the service asks to wait, or None.
    """
    status, cause = parse_error(content, reason)
    if code < 500 and _own_error(content, code) is None:
        foreign = ForeignAnswerError(action, code, content.decode("utf-8", "replace").strip() or reason)
        foreign.retry_after = retry_after
        return foreign
    error = _error_object(content)
    if code != 429:
        return GoogleRefusedError(code, status, action, cause, retry_after, hint=_hint(error))
    if retry_after is None:
        retry_after = retry_delay(error)
    if is_passing(error):
        return GoogleRefusedError(code, status, action, cause, retry_after)
    return GoogleRefusedError(code, status, action, cause, retry_after, hint=_MORE_QUOTA, is_passing=False)


def _own_error(content: bytes, code: int) -> Mapping[str, object] | None:
    """Return the error object of a Google API: its code is the HTTP status, and its status a name of google.rpc.Code.

    Source: https://cloud.google.com/apis/design/errors#http_mapping
    """
    error = _error_object(content)
    if error is None or error.get("code") != code or isinstance(error.get("code"), bool):
        return None
    is_own = isinstance(error.get("message"), str) and str(error.get("status")) in _RPC_STATUSES
    return error if is_own else None


def unreachable(action: str, error: Exception, secrets: Iterable[object] = ()) -> GoogleUnreachableError:
    """Return the error for a request without an answer.

    Args:
        action: what was attempted, in the infinitive: ``fetch an access token``.
        error: the library's; a proxy's login in it is removed.
        secrets: what must not be shown.
    """
    return GoogleUnreachableError(
        "google-unreachable",
        f"cannot {action}",
        cause=exception_text(error, secrets),
        hint="check whether this machine is online, and whether it needs a proxy (HTTPS_PROXY)",
    )


def parse_error(content: bytes, reason: str) -> tuple[str, str]:
    """Return Google's name for an error, and its message with what its details add.

    Source: https://cloud.google.com/apis/design/errors#http_mapping

    Args:
        content: the body of the answer.
        reason: HTTP's, for an empty body.
    """
    error = _error_object(content)
    if error is None or "message" not in error:
        return "", clean_text(content.decode("utf-8", "replace").strip() or str(reason))
    status, message = error.get("status"), str(error["message"]).strip()
    lines = [message, *_detail_lines(error.get("details"), message)]
    return status if isinstance(status, str) else "", clean_text("\n".join(lines))


def _error_object(content: bytes) -> Mapping[str, object] | None:
    try:
        answer = parse_json(content)
    except ValueError:
        return None
    error = answer.get("error") if isinstance(answer, dict) else None
    return error if isinstance(error, dict) else None


def _detail_lines(details: object, message: str) -> Iterable[str]:
    """Yield what the details add to the message (https://cloud.google.com/apis/design/errors#error_details)."""
    for detail in _objects(details):
        for violation in _objects(detail.get("fieldViolations")):
            if str(violation.get("description", "")) not in message:
                yield f"{violation.get('field', '')}: {violation.get('description')}"
        for violation in _objects(detail.get("violations")):
            if str(violation.get("description", "")) not in message:
                yield str(violation["description"])
        if "reason" in detail:
            metadata = detail.get("metadata")
            pairs = metadata.items() if isinstance(metadata, dict) else ()
            yield ", ".join([str(detail["reason"]), *(f"{key}: {value}" for key, value in pairs)])
        for link in _objects(detail.get("links")):
            yield f"{link.get('description', '')}: {link.get('url', '')}"


def _objects(value: object) -> Iterator[Mapping[str, object]]:
    """Yield the objects of a list; nothing for anything else."""
    yield from (each for each in value if isinstance(each, dict)) if isinstance(value, list) else ()
