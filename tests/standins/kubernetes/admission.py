"""What stands between a well-formed Job and its being kept: namespaces on their way out, webhooks, quotas.

Sources, all of kubernetes/kubernetes: ``staging/src/k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle``,
``.../plugin/webhook/errors/statuserror.go``, ``.../pkg/quota/v1/generic`` and ``plugin/pkg/admission/resourcequota``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.standins.kubernetes.state import State
from tests.standins.kubernetes.status import JOBS, NAMESPACES, StatusError, forbidden, not_found

_COUNT = "count/jobs.batch"


@dataclass(frozen=True)
class Quota:
    """A ResourceQuota of every namespace: how many Jobs there may be in it."""

    name: str
    jobs: int


@dataclass(frozen=True)
class Webhook:
    """A validating webhook: why it denies a Job (``""`` says nothing more), None for one that it admits."""

    name: str
    denies: Callable[[Mapping[str, Any]], str | None]
    code: int = 400


def check_namespace(state: State, namespace: str, job_name: str) -> None:
    """Refuse what is to be made in a namespace that is gone, or going.

    Raises:
        StatusError: 404 or 403.
    """
    if not state.has(NAMESPACES, "", namespace):
        raise not_found(NAMESPACES, namespace)
    if state.get(NAMESPACES, "", namespace)["status"]["phase"] == "Terminating":
        words = f"unable to create new content in namespace {namespace} because it is being terminated"
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {namespace} is being terminated",
            "field": "metadata.namespace",
        }
        raise forbidden(JOBS, job_name, words, [cause])


def check_webhooks(webhooks: Sequence[Webhook], job: Mapping[str, Any]) -> None:
    """Refuse what a webhook denies.

    Raises:
        StatusError: with the webhook's code, and no reason.
    """
    for webhook in webhooks:
        why = webhook.denies(job)
        if why is not None:
            denied = f'admission webhook "{webhook.name}" denied the request'
            words = f"{denied}: {why}" if why else f"{denied} without explanation"
            raise StatusError(webhook.code, words, reason="")


def check_quota(quota: Quota | None, state: State, namespace: str, job_name: str) -> None:
    """Refuse one Job too many.

    Raises:
        StatusError: 403.
    """
    used = len(state.items_at(None, JOBS, namespace) or [])
    if quota is not None and used >= quota.jobs:
        raise forbidden(
            JOBS,
            job_name,
            f"exceeded quota: {quota.name}, requested: {_COUNT}=1, used: {_COUNT}={used}, limited: "
            f"{_COUNT}={quota.jobs}",
        )
