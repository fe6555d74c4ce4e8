"""Fit new jobs to the rules of a namespace, and check with its cluster that it would accept them."""

from __future__ import annotations

import secrets

from caliban.platforms.kubernetes import job_spec
from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.details import object_at
from caliban.platforms.kubernetes.errors import KubernetesRefusedError
from caliban.platforms.kubernetes.namespace_rules import NamespaceRules, Resources, counting
from caliban.platforms.kubernetes.security import enforces_restricted
from caliban.records import JsonObject


def needs_restriction(cluster: Cluster, namespace: str) -> bool:
    """Return whether a namespace accepts restricted pods only, as far as the user may read that.

    Raises:
        CalibanError: the cluster cannot be asked.
    """
    return enforces_restricted(cluster.check_namespace(namespace))


def fitted(cluster: Cluster, namespace: str, spec: JsonObject, chosen: frozenset[str]) -> Resources | None:
    """Return the resources that a job must have in a namespace; None for those that it has.

    Args:
        cluster: whose namespace it is.
        namespace: its name.
        spec: of the job.
        chosen: see :meth:`NamespaceRules.fitted`.

    Raises:
        CalibanError: no job with these resources can run there, or the cluster cannot be asked.
    """
    before = Resources.of(job_spec.container_of(spec))
    quotas = cluster.rules(namespace, "resourcequotas", "ResourceQuota")
    ranges = cluster.rules(namespace, "limitranges", "LimitRange")
    quotas = counting(quotas, object_at(spec, "template", "spec"))
    after = NamespaceRules(quotas, ranges).fitted(before, chosen)
    return None if after == before else after


def check(cluster: Cluster, namespace: str, spec: JsonObject) -> None:
    """Check with the cluster that it would accept a job.

    Raises:
        CalibanError: it would not, or cannot be asked.
    """
    labels = dict.fromkeys(job_spec.OWN_LABELS, "")
    name = job_spec.job_name(spec, secrets.token_hex(8))
    try:
        cluster.check_job(namespace, job_spec.manifest(spec, name, labels))
    except KubernetesRefusedError as error:
        error.hint = error.hint or "check the flags of the job, and the files of --job_patch"
        raise
