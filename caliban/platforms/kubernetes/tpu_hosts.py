"""TPU slices of several machines, which one Job with one pod cannot use. Pure.

A slice has as many chips as its topology says, and a pod requests the chips of its machine; if those are fewer, the
slice has several machines: 2x4 with 4 chips each is one of two, 2x4 with 8 chips is one of one. All machines of a slice
have to start together, each with the addresses of the others: a JobSet does that.

Source: https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus (topologies of one host and of several),
https://cloud.google.com/kubernetes-engine/docs/how-to/tpus ("google.com/tpu"), read in November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from math import prod
from typing import TypeVar

from caliban.errors import CalibanError, PlatformError
from caliban.platforms.kubernetes.details import object_at, objects_in
from caliban.records import JsonObject

TPU_RESOURCE = "google.com/tpu"
TPU_TOPOLOGY_LABEL = "cloud.google.com/gke-tpu-topology"

# The resources of caliban 0.4.2, by which GKE made Cloud TPU devices: v2 and v3 of 8 cores, or slices of more.
# Source: https://cloud.google.com/tpu/docs/kubernetes-engine-setup, in 2020.
_OLD_RESOURCE = re.compile(r"cloud-tpus\.google\.com/(?:preemptible-)?v[0-9]")
_OLD_CORES = 8
_TOPOLOGY = re.compile(r"[0-9]{1,4}(?:x[0-9]{1,4}){1,2}")

_E = TypeVar("_E", bound=CalibanError)


def of_one_host(spec: JsonObject) -> JsonObject:
    """Return a job spec that does not request a part of a slice of several machines.

    Raises:
        PlatformError: ``tpu-several-hosts``.
    """
    pod = object_at(spec, "template", "spec")
    chips = 0
    for container in objects_in(pod, "containers"):
        for resource, amount in object_at(container, "resources", "limits").items():
            count = int(str(amount)) if re.fullmatch(r"[0-9]{1,6}", str(amount)) else 0
            if _OLD_RESOURCE.fullmatch(resource) and count > _OLD_CORES:
                version = resource[-2:].upper()
                raise tpu_several_hosts(PlatformError, f"{count}x{version} are TPU cores of several machines")
            chips += count if resource == TPU_RESOURCE else 0
    for topology in _topologies(pod):
        if chips and prod(int(each) for each in topology.split("x")) > chips:
            what = f"the TPU topology {topology} with {chips} chips in one machine is a slice of several machines"
            raise tpu_several_hosts(PlatformError, what)
    return spec


def _topologies(pod: Mapping[str, object]) -> list[str]:
    """Return the topologies that a pod's node selector and required node affinity allow."""
    found = [object_at(pod, "nodeSelector").get(TPU_TOPOLOGY_LABEL)]
    required = object_at(pod, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    for term in objects_in(required, "nodeSelectorTerms"):
        for rule in objects_in(term, "matchExpressions"):
            values = rule.get("values")
            if rule.get("key") == TPU_TOPOLOGY_LABEL and rule.get("operator") == "In" and isinstance(values, list):
                found += values
    return [each for each in found if isinstance(each, str) and _TOPOLOGY.fullmatch(each)]


def tpu_several_hosts(type: type[_E], what: str, choices: Collection[int] = (), name: str = "") -> _E:
    """Return the error for a slice of several machines.

    Args:
        type: of the error.
        what: is refused.
        choices: how many chips one machine can have.
        name: the type of TPU.
    """
    one = f"use --tpu_spec {' or '.join(f'{count}x{name}' for count in choices)}, or " if choices else ""
    return type(
        "tpu-several-hosts",
        what,
        cause="its machines have to start together, which needs a JobSet; a caliban job is a Job with one pod",
        hint=f"{one}create a JobSet with kubectl: https://cloud.google.com/kubernetes-engine/docs/how-to/tpu-multislice",
    )
