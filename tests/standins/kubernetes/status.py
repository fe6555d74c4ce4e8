"""Refusals as the Kubernetes API words them: metav1 ``Status`` objects.

Sources: ``staging/src/k8s.io/apimachinery/pkg/api/errors/errors.go`` (reasons, codes, messages, details) and
``.../pkg/util/validation/field/errors.go`` (the words of one invalid field), both of kubernetes/kubernetes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True)
class Resource:
    """What a request is about: ``jobs`` of the group ``batch``, or a resource of the core group."""

    group: str
    plural: str
    kind: str
    version: str = "v1"

    @property
    def qualified(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural.partition("/")[0]

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def details(self, name: str = "", **more: Any) -> dict[str, Any]:
        """``details`` of a Status about an object of this resource."""
        given = {"name": name, "group": self.group, "kind": self.plural.partition("/")[0], **more}
        return {key: value for key, value in given.items() if value}


JOBS = Resource("batch", "jobs", "Job")
PODS = Resource("", "pods", "Pod")
LOGS = Resource("", "pods/log", "Pod")
EVENTS = Resource("", "events", "Event")
QUOTAS = Resource("", "resourcequotas", "ResourceQuota")
LIMIT_RANGES = Resource("", "limitranges", "LimitRange")
WORKLOADS = Resource("kueue.x-k8s.io", "workloads", "Workload", "v1beta2")
NAMESPACES = Resource("", "namespaces", "Namespace")


@dataclass(frozen=True)
class FieldError:
    """One thing that is wrong with a field: cause, field's path, and what is said of it."""

    cause: str
    field: str
    body: str


def required(field: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", field, "Required value" + (f": {detail}" if detail else ""))


def invalid(field: str, value: object, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", field, f"Invalid value: {_shown(value)}: {detail}")


def unsupported(field: str, value: object, supported: Sequence[str]) -> FieldError:
    listed = ", ".join(json.dumps(word) for word in supported)
    return FieldError(
        "FieldValueNotSupported", field, f"Unsupported value: {_shown(value)}: supported values: {listed}"
    )


def duplicate(field: str, value: object) -> FieldError:
    return FieldError("FieldValueDuplicate", field, f"Duplicate value: {_shown(value)}")


def not_there(field: str, value: object) -> FieldError:
    return FieldError("FieldValueNotFound", field, f"Not found: {_shown(value)}")


def field_forbidden(field: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", field, f"Forbidden: {detail}")


class StatusError(Exception):
    """An answer that is a Status of failure."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str | None = None,
        details: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.headers = dict(headers or {})
        self.body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": dict(metadata or {}),
            "status": "Failure",
            "message": message,
        }
        chosen = _REASONS.get(code, "") if reason is None else reason
        if chosen:
            self.body["reason"] = chosen
        if details is not None:
            self.body["details"] = dict(details)
        self.body["code"] = code


def bad_request(message: str) -> StatusError:
    return StatusError(400, message)


def no_such_resource() -> StatusError:
    """404 for a path that the server does not know at all."""
    return StatusError(404, "the server could not find the requested resource", details={})


def not_found(resource: Resource, name: str) -> StatusError:
    return StatusError(404, f'{resource.qualified} "{name}" not found', details=resource.details(name))


def already_exists(resource: Resource, name: str) -> StatusError:
    message = f'{resource.qualified} "{name}" already exists'
    return StatusError(409, message, reason="AlreadyExists", details=resource.details(name))


def conflict(resource: Resource, name: str, why: str) -> StatusError:
    """409 of a precondition, which names the kind where other refusals name the resource."""
    message = f'Operation cannot be fulfilled on {resource.kind}.{resource.group} "{name}": {why}'
    return StatusError(409, message, details={"name": name, "group": resource.group, "kind": resource.kind})


def forbidden(
    resource: Resource, name: str, why: str, causes: Sequence[Mapping[str, str]] | None = None
) -> StatusError:
    named = f'{resource.qualified} "{name}"' if name else resource.qualified
    return StatusError(403, f"{named} is forbidden: {why}", details=resource.details(name, causes=causes))


def not_valid(group_kind: tuple[str, str], name: str, errors: Sequence[FieldError]) -> StatusError:
    """422 with one cause for each field that is wrong."""
    group, kind = group_kind
    said = list(dict.fromkeys(f"{error.field}: {error.body}" for error in errors))
    words = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    qualified = f"{kind}.{group}" if group else kind
    causes = [{"reason": error.cause, "message": error.body, "field": error.field} for error in errors]
    details = {"name": name, "group": group, "kind": kind, "causes": causes}
    message = f'{qualified} "{name}" is invalid: {words}'
    return StatusError(422, message, details={key: value for key, value in details.items() if value})


def too_many_requests(message: str, retry_after: int) -> StatusError:
    return StatusError(
        429,
        message,
        details={"retryAfterSeconds": retry_after},
        headers={"Retry-After": str(retry_after)},
    )


def success(resource: Resource, name: str, uid: str) -> dict[str, Any]:
    """The Status that tells of a deletion that is done."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": resource.details(name, uid=uid),
    }


def _shown(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) if not isinstance(value, bool) else str(value).lower()
