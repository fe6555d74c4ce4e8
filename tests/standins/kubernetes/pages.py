"""Lists: selectors, and pages whose tokens are bound to the moment of the first page.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks and
``staging/src/k8s.io/apiserver/pkg/storage/continue.go`` of kubernetes/kubernetes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.standins.kubernetes.selectors import fields_match, labels_match
from tests.standins.kubernetes.state import State
from tests.standins.kubernetes.status import Resource, StatusError, bad_request

_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)
_FROM_NOW_ON = -1


@dataclass(frozen=True)
class _Token:
    version: int
    start: str

    @property
    def text(self) -> str:
        said = {"v": "meta.k8s.io/v1", "rv": self.version, "start": self.start}
        return base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")


def list_page(state: State, resource: Resource, namespace: str | None, query: Mapping[str, str]) -> dict[str, Any]:
    """A page of a list, as the API answers it.

    Raises:
        StatusError: 400, a parameter that cannot be understood; 410, a token whose list is forgotten.
    """
    if query.get("watch") in ("true", "1"):
        raise StatusError(
            405,
            f'watch is not supported on resources of kind "{resource.qualified}"',
            details=resource.details(),
        )
    limit = _number(query, "limit")
    token = _parsed(query["continue"]) if query.get("continue") else None
    if token is not None and query.get("resourceVersion", "0") not in ("", "0"):
        raise bad_request("specifying resource version is not allowed when using continue")
    labels = labels_match(query.get("labelSelector", ""))
    fields = fields_match(query.get("fieldSelector", ""), resource)
    begun_at = token.version if token is not None and token.version != _FROM_NOW_ON else None
    with state.lock:
        everything = state.items_at(begun_at, resource, namespace)
        if everything is None:
            start = token.start if token is not None else ""
            raise StatusError(410, _TOO_OLD, metadata={"continue": _Token(_FROM_NOW_ON, start).text})
        found = [item for item in everything if labels(item["metadata"].get("labels") or {}) and fields(item)]
        rest = [item for item in found if token is None or _place(item) >= token.start]
        page = rest[:limit] if limit else rest
        version = begun_at or state.version
        if begun_at is None and len(rest) > len(page):
            version = state.keep_for_later()
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if len(rest) > len(page):
        metadata["continue"] = _Token(version, _place(page[-1]) + "\0").text
        # The count costs the service a full read where a selector is given, so it does not tell it there.
        if not query.get("labelSelector") and not query.get("fieldSelector"):
            metadata["remainingItemCount"] = len(rest) - len(page)
    return {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata, "items": page}


def _place(item: Mapping[str, Any]) -> str:
    return f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "0") or "0"
    if not text.lstrip("-").isdigit():
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return max(0, int(text))


def _parsed(text: str) -> _Token:
    try:
        said = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return _Token(int(said["rv"]), str(said["start"]))
    except (ValueError, KeyError, TypeError):
        raise bad_request("continue key is not valid: the token cannot be read") from None
