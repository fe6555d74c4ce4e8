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
    """A validating webhook: why it denies a Job (``""`` says nothing more), None for one that it admits.

    Attributes:
        error: why it cannot be called.
    """

    name: str
    denies: Callable[[Mapping[str, Any]], str | None]
    code: int = 400
    error: str = ""


@dataclass(frozen=True)
class MutatingPolicy:
    """A MutatingAdmissionPolicy: changes a Job in place before it is checked; ``error``: why it fails instead."""

    name: str
    mutate: Callable[[dict[str, Any]], None]
    error: str = ""


@dataclass(frozen=True)
class ValidatingPolicy:
    """A ValidatingAdmissionPolicy: why it denies a Job, None for one that it admits; ``error``: why it fails.

    Attributes:
        warns: whether its binding has the action ``Warn`` in place of ``Deny``.
        binding: the binding's name; "" for that of the policy.
    """

    name: str
    denies: Callable[[Mapping[str, Any]], str | None]
    error: str = ""
    warns: bool = False
    binding: str = ""


def mutate(policies: Sequence[MutatingPolicy], job: dict[str, Any]) -> None:
    """Let policies change a Job in place.

    Raises:
        StatusError: 403, one of them fails; the API says that it denied the request.
    """
    for policy in policies:
        if policy.error:
            words = f"policy '{policy.name}' with binding '{policy.name}' denied request: {policy.error}"
            raise StatusError(403, words, reason="Invalid")
        policy.mutate(job)


def check_policies(policies: Sequence[ValidatingPolicy], job: Mapping[str, Any]) -> list[str]:
    """Refuse what a policy denies; what others warn of.

    Raises:
        StatusError: 422.
    """
    warnings: list[str] = []
    for policy in policies:
        why = policy.error or policy.denies(job)
        if why is not None and policy.warns and not policy.error:
            by = f"ValidatingAdmissionPolicy '{policy.name}' with binding '{policy.binding or policy.name}'"
            warnings.append(f"Validation failed for {by}: {why}")
        elif why is not None:
            by = f"ValidatingAdmissionPolicy '{policy.name}' with binding '{policy.name}' denied request: {why}"
            name = job["metadata"]["name"]
            words = f'jobs.batch "{name}" is forbidden: {by}'
            details = JOBS.details(name, causes=[{"message": by}])
            raise StatusError(422, words, details=details)
    return warnings


def warning_headers(warnings: Sequence[str]) -> dict[str, str]:
    """The headers of an answer that warns, a line for each warning (``.../endpoints/filters/warning.go``)."""
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in dict.fromkeys(warnings))
    lines = "\n".join(f'299 - "{text}"' for text in quoted)
    return {"Warning": lines.encode().decode("iso-8859-1")} if lines else {}


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
        if webhook.error:
            failed = f'failed calling webhook "{webhook.name}": failed to call webhook: {webhook.error}'
            raise StatusError(500, f"Internal error occurred: {failed}", details={"causes": [{"message": failed}]})
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
