"""What an answer of a cluster says, checked as far as anything depends on it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from caliban.bounded import parse_json
from caliban.platforms.kubernetes.details import object_at
from caliban.platforms.kubernetes.errors import KubernetesError, Status, failure, foreign_answer
from caliban.platforms.kubernetes.transport import Response
from caliban.records import JsonObject
from caliban.redaction import clean_text

_MAX_SHOWN = 100_000


def failure_of(response: Response, secrets: tuple[str, ...], action: str) -> KubernetesError:
    """Return the error for a response that is not the requested one."""
    hide = partial(redacted, secrets)
    text = hide(response.content[:_MAX_SHOWN].decode("utf-8", "replace"))
    if response.status < 400:
        return foreign_answer(action, text or f"HTTP {response.status}")
    content, reason = parsed(response.content), hide(response.reason)
    return failure(response.status, content, text, reason, response.headers, action, hide)


def identified(job: JsonObject, action: str) -> JsonObject:
    """Return the job of a response, of which nothing but its name and uid is required."""
    found = object_at(job, "metadata")
    if not all(isinstance(found.get(key), str) and found[key] for key in ("name", "uid")):
        raise foreign_answer(action, "the job in the response has no name or no uid")
    return job


def items_in(page: JsonObject, action: str) -> list[JsonObject]:
    """Return the items of a list."""
    items = page.get("items")
    if items is None:
        return []  # as Go writes an empty list
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        raise foreign_answer(action, "the items of the list are malformed")
    return items


def parsed(content: bytes) -> object:
    """Return the JSON of a response; None where it is none, or nested too deeply."""
    try:
        return parse_json(content)
    except ValueError:
        return None


def is_status(response: Response) -> bool:
    """Return whether an error response comes from an API server, and not from a gateway before it."""
    return Status.of(parsed(response.content), response.status) is not None


def redacted(secrets: tuple[str, ...], text: str) -> str:
    """Return a part of a response without our token, which a proxy before the cluster may repeat."""
    return clean_text(text, secrets)
