"""Which quota is exhausted after a 429 of a Google API: one of requests, which wait, or one of resources. Pure.

Sources: ``google/api/error_reason.proto`` (``RATE_LIMIT_EXCEEDED``, ``RESOURCE_QUOTA_EXCEEDED``) and
``google/rpc/error_details.proto`` (``QuotaFailure``, ``RetryInfo``) of https://github.com/googleapis/googleapis; for
the messages of the training services, https://github.com/GoogleCloudPlatform/stable-diffusion-on-gcp/issues/12 (GPUs on
Vertex AI, as an answer to the creation of a job) and
https://github.com/GoogleCloudPlatform/training-data-analyst/issues/2284 (AI Platform).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from caliban.platforms.stored_json import text

_RESOURCE = re.compile(
    r"quota metrics? exceeds? quota limits?|quota failure for project|\bexceed\w* the (?:allowed|max)"
    r"|quotas? (?:is|are) exceeded|quota '[^']{1,200}' exceeded",
    re.IGNORECASE,
)
_PER_DAY = re.compile(r"per[ -_]?day|\bdaily\b", re.IGNORECASE)
_LIMIT = re.compile(r"\blimit '([^']{1,200})'", re.IGNORECASE)
_PERIOD = re.compile(r"second|minute|hour", re.IGNORECASE)
_SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


def is_passing(error: Mapping[str, object] | None) -> bool:
    """Return whether the same request may succeed within minutes, as far as the error says; None for no error object.

    Args:
        error: of an answer with the status 429.
    """
    if error is None:
        return True
    infos = list(_details(error, "reason"))
    reasons = {text(info, "reason") for info in infos}
    limits = [metadata for info in infos if isinstance(metadata := info.get("metadata"), Mapping)]
    if "RESOURCE_QUOTA_EXCEEDED" in reasons:
        return False
    words = "\n".join([text(error, "message") or "", *_violations(error)])
    if any(_PER_DAY.search(each) for each in (words, *(text(limit, "quota_limit") or "" for limit in limits))):
        return False
    return "RATE_LIMIT_EXCEEDED" in reasons or not _is_of_resources(words)


def _is_of_resources(words: str) -> bool:
    """Return whether an error is about a number of resources: Google's words say so, or name no limit by time."""
    limits = _LIMIT.findall(words)
    return _RESOURCE.search(words) is not None or (bool(limits) and not any(map(_PERIOD.search, limits)))


def retry_delay(error: Mapping[str, object] | None) -> float | None:
    """Return after how many seconds the service asks to try again, by a ``RetryInfo``; None where it has none."""
    for detail in _details(error or {}, "retryDelay"):
        match = _SECONDS.fullmatch(text(detail, "retryDelay") or "")
        if match:
            return float(match[1])
    return None


def _violations(error: Mapping[str, object]) -> Iterator[str]:
    for detail in _details(error, "violations"):
        violations = detail.get("violations")
        for each in violations if isinstance(violations, list) else ():
            if isinstance(each, Mapping):
                yield text(each, "description") or ""


def _details(error: Mapping[str, object], key: str) -> Iterator[Mapping[str, object]]:
    details = error.get("details")
    yield from (
        each for each in (details if isinstance(details, list) else ()) if isinstance(each, Mapping) and key in each
    )
