"""The resources that a job requests of a cluster's nodes, and the labels of GKE's nodes.

Sources, read in November 2026; a cluster may offer more, or less:

- GPUs: https://cloud.google.com/kubernetes-engine/docs/how-to/gpus (limits, ``cloud.google.com/gke-accelerator``) and
  https://cloud.google.com/compute/docs/gpus (the names)
- TPUs: https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus (slices of one host)
- Spot: https://cloud.google.com/kubernetes-engine/docs/concepts/spot-vms
- flex start: https://cloud.google.com/kubernetes-engine/docs/concepts/dws
- machine types: https://kubernetes.io/docs/reference/labels-annotations-taints/#nodekubernetesioinstance-type
- taints of nodes with accelerators: https://cloud.google.com/kubernetes-engine/docs/how-to/gpus
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from caliban.errors import UsageError
from caliban.platforms.kubernetes import tpu_hosts

GPU_RESOURCE = "nvidia.com/gpu"
TPU_RESOURCE = tpu_hosts.TPU_RESOURCE

_GPU_LABEL = "cloud.google.com/gke-accelerator"
_TPU_LABEL = "cloud.google.com/gke-tpu-accelerator"
_TPU_TOPOLOGY_LABEL = tpu_hosts.TPU_TOPOLOGY_LABEL
_SPOT_LABEL = "cloud.google.com/gke-spot"
_SPOT_LABELS = (_SPOT_LABEL, "cloud.google.com/gke-preemptible")
_FLEX_START_LABEL = "cloud.google.com/gke-flex-start"
_ACCELERATOR_LABELS = (_GPU_LABEL, _TPU_LABEL, _TPU_TOPOLOGY_LABEL)
_MACHINE_LABEL = "node.kubernetes.io/instance-type"

_GPUS: Mapping[str, str] = {
    "K80": "nvidia-tesla-k80",
    "P4": "nvidia-tesla-p4",
    "P100": "nvidia-tesla-p100",
    "V100": "nvidia-tesla-v100",
    "T4": "nvidia-tesla-t4",
    "L4": "nvidia-l4",
    "A100": "nvidia-tesla-a100",
    "A100_80GB": "nvidia-a100-80gb",
    "H100": "nvidia-h100-80gb",
    "H100_MEGA": "nvidia-h100-mega-80gb",
    "H200": "nvidia-h200-141gb",
    "B200": "nvidia-b200",
    "GB200": "nvidia-gb200",
}
"""Short name -> the value of GKE's node label."""

_TPUS: Mapping[str, tuple[str, Mapping[int, str]]] = {
    "V4": ("tpu-v4-podslice", {4: "2x2x1"}),
    "V5E": ("tpu-v5-lite-podslice", {1: "1x1", 4: "2x2", 8: "2x4"}),
    "V5P": ("tpu-v5p-slice", {4: "2x2x1"}),
    "V6E": ("tpu-v6e-slice", {1: "1x1", 4: "2x2", 8: "2x4"}),
    "V7X": ("tpu7x", {4: "2x2x1"}),
}
"""Short name -> the value of GKE's node label, and the topology for each number of chips of one machine."""

_OLD_TPUS = ("V2", "V3")
_CHIPS_OF_OLD_MACHINES = 8
"""TPU cores of one device in the specs of caliban 0.4.2, ``8xV2``; larger ones are slices of several machines."""

_GPU_NAME = re.compile(
    r"(?:nvidia\.com/(?!gpumem)|amd\.com/|gpu\.intel\.com/|[a-z0-9.-]+/[a-z0-9._-]*gpu)[A-Za-z0-9._-]*"
)
"""Extended resources of the device plugins of NVIDIA (with MIG and shared GPUs), AMD and Intel, and of those whose name
says it. Source: https://kubernetes.io/docs/tasks/manage-gpus/scheduling-gpus/"""

_WITHOUT_ACCELERATOR = (31_000, 119_000)
_CPU_WITH_ACCELERATOR = 1_500
"""The requests of caliban 0.4.2 on GKE (``--min_cpu`` in its help, and the stores that it made): most of an
n1-standard-32."""


@dataclass(frozen=True)
class Accelerator:
    """GPUs or TPU chips of one machine.

    Attributes:
        count: how many.
        type: the short name: ``V100``, ``V5E``; None for any type.
        resource: the resource that a container requests: ``nvidia.com/gpu``.
        selector: labels of the nodes that have them.
    """

    count: int
    type: str | None
    resource: str
    selector: Mapping[str, str]

    def __str__(self) -> str:
        if self.type or self.resource not in (GPU_RESOURCE, TPU_RESOURCE):
            return f"{self.count}x{self.type or self.resource}"
        return f"{self.count} GPU{'' if self.count == 1 else 's'}"


@dataclass(frozen=True)
class Hardware:
    """The resources that each job requests.

    Attributes:
        accelerator: GPUs or TPUs, or None.
        machine_type: ``n1-standard-8``, or None for any.
        min_cpu: thousandths of a CPU, or None.
        min_mem: megabytes (10^6), or None.
        is_spot: run on Spot nodes only, which cost less and may be preempted.
        limit_cpu: thousandths of a CPU, or None for no limit.
        limit_mem: megabytes (10^6), or None for no limit.
        is_flex_start: run on nodes with flex start only, for which the job waits.
    """

    accelerator: Accelerator | None = None
    machine_type: str | None = None
    min_cpu: int | None = None
    min_mem: int | None = None
    is_spot: bool = False
    limit_cpu: int | None = None
    limit_mem: int | None = None
    is_flex_start: bool = False

    @property
    def requests(self) -> dict[str, str]:
        """``resources.requests`` of the container."""
        return _amounts(self.min_cpu, self.min_mem)

    @property
    def limits(self) -> dict[str, str]:
        """``resources.limits`` of the container; a limit of accelerators is also their request."""
        accelerators = {self.accelerator.resource: str(self.accelerator.count)} if self.accelerator else {}
        return _amounts(self.limit_cpu, self.limit_mem) | accelerators

    @property
    def node_selector(self) -> dict[str, str]:
        """``nodeSelector`` of the pod."""
        found = dict(self.accelerator.selector) if self.accelerator else {}
        if self.machine_type:
            found[_MACHINE_LABEL] = self.machine_type
        if self.is_spot:
            found[_SPOT_LABEL] = "true"
        if self.is_flex_start:
            found[_FLEX_START_LABEL] = "true"
        return found

    @property
    def tolerations(self) -> list[dict[str, str]]:
        """``tolerations`` of the pod, for the taints of nodes with accelerators, and of Spot nodes."""
        found = []
        if self.is_spot:
            found.append({"key": _SPOT_LABEL, "operator": "Equal", "value": "true", "effect": "NoSchedule"})
        if self.accelerator:
            found.append({"key": self.accelerator.resource, "operator": "Exists", "effect": "NoSchedule"})
        return found

    def __str__(self) -> str:
        parts = [str(self.accelerator)] if self.accelerator else []
        parts += [self.machine_type] if self.machine_type else []
        parts += [f"{name} {amount}" for name, amount in self.requests.items()]
        limits = _amounts(self.limit_cpu, self.limit_mem)
        parts += [f"{name} limit {amount}" for name, amount in limits.items()]
        parts += ["Spot"] if self.is_spot else []
        parts += ["flex start"] if self.is_flex_start else []
        return ", ".join(parts) or "no resource requests"


def accelerator_of(resource: str, selector: Mapping[str, object]) -> str | None:
    """Return the short name of what a limit is of: GPUs or TPUs; None for anything else.

    Args:
        resource: the name of the limit.
        selector: the node selector of the pod.
    """
    if resource == GPU_RESOURCE:
        label = selector.get(_GPU_LABEL)
        return next((name for name, value in _GPUS.items() if value == label), str(label or "GPU"))
    if resource == TPU_RESOURCE:
        label = selector.get(_TPU_LABEL)
        return next((f"TPU-{name}" for name, (value, _) in _TPUS.items() if value == label), "TPU")
    return resource if is_gpu_resource(resource) else None


def parse_gpu_spec(text: str, *, is_gke: bool) -> Accelerator:
    """Parse ``2xV100``, or ``2`` for any type.

    Raises:
        UsageError: ``gpu-spec-malformed``; ``gpu-type-elsewhere``: only GKE has node labels for the type.
    """
    match = re.fullmatch(r"([1-9]\d?)(?:x(?:nvidia[_-](?:tesla[_-])?)?([a-z0-9_-]+))?", text.strip(), re.IGNORECASE)
    name = match[2].upper().replace("-", "_") if match and match[2] else None
    name = {"H100_80GB": "H100", "H100_MEGA_80GB": "H100_MEGA", "H200_141GB": "H200"}.get(name or "", name)
    if match is None or (name is not None and name not in _GPUS):
        raise UsageError(
            "gpu-spec-malformed",
            f'expected COUNTxTYPE for --gpu_spec, got "{text}"',
            hint=f"write 2xV100, or 2 for any type; the types are {', '.join(_GPUS)}",
        )
    if name is None:
        return Accelerator(int(match[1]), None, GPU_RESOURCE, {})
    if not is_gke:
        raise _gke_only(
            "gpu-type-elsewhere", f"GPUs of the type {name}", f"use --gpu_spec {match[1]} for any type, or "
        )
    return Accelerator(int(match[1]), name, GPU_RESOURCE, {_GPU_LABEL: _GPUS[name]})


def is_gpu_resource(resource: str) -> bool:
    """Return whether a resource is one of GPUs, whole or parts of them: ``amd.com/gpu``, ``nvidia.com/mig-1g.5gb``."""
    return bool(_GPU_NAME.fullmatch(resource))


def parse_gpu_limit(text: str) -> Accelerator:
    """Parse ``amd.com/gpu=1``, or ``2`` for ``nvidia.com/gpu=2``.

    Raises:
        UsageError: ``invalid-value``.
    """
    resource, _, count = text.strip().rpartition("=")
    resource = resource if "=" in text else GPU_RESOURCE
    if not re.fullmatch(r"[1-9][0-9]{0,3}", count) or not is_gpu_resource(resource):
        raise UsageError(
            "invalid-value",
            f'--gpu_limit: expected RESOURCE=COUNT, or COUNT, got "{text}"',
            hint="write --gpu_limit amd.com/gpu=1, with the name that the nodes have for it: kubectl describe nodes",
        )
    return Accelerator(int(count), None, resource, {})


def parse_tpu_spec(text: str, *, is_gke: bool) -> Accelerator:
    """Parse ``4xV5E``, chips of one machine.

    Raises:
        UsageError: ``tpu-spec-malformed``; ``tpu-several-hosts``; ``tpu-elsewhere``: only GKE has TPUs.
    """
    match = re.fullmatch(r"((?:[1-9]\d{0,4}x){1,3})(?:tpu[_-]?)?(v?\d[a-z]?)", text.strip(), re.IGNORECASE)
    name = match[2].upper() if match else ""
    name = name if name.startswith("V") else f"V{name}"
    label, topologies = _TPUS.get(name, ("", {}))
    count = prod(int(each) for each in match[1].split("x")[:-1]) if match else 0
    if count > max(topologies, default=_CHIPS_OF_OLD_MACHINES if name in _OLD_TPUS else count):
        raise tpu_hosts.tpu_several_hosts(
            UsageError, f"{text.strip()} are TPU chips of several machines", topologies, name
        )
    if count not in topologies:
        known = [f"{count}x{kind}" for kind, (_, counts) in _TPUS.items() for count in counts]
        raise UsageError(
            "tpu-spec-malformed",
            f'expected COUNTxTYPE for --tpu_spec, as many chips as one machine has, got "{text}"',
            hint=f"choose one of {', '.join(known)}",
        )
    if not is_gke:
        raise _gke_only("tpu-elsewhere", "TPUs")
    return Accelerator(count, name, TPU_RESOURCE, {_TPU_LABEL: label, _TPU_TOPOLOGY_LABEL: topologies[count]})


def accelerator_in(limits: Mapping[str, object], selector: Mapping[str, object]) -> Accelerator | None:
    """Return what the limits of a container and the node selector of its pod request; None for no accelerator."""
    for resource in (GPU_RESOURCE, TPU_RESOURCE, *filter(is_gpu_resource, limits)):
        count = str(limits.get(resource) or "")
        if not re.fullmatch(r"[1-9][0-9]{0,3}", count):
            continue
        own = {key: str(value) for key, value in selector.items() if key in _ACCELERATOR_LABELS}
        types = {label: name for name, label in _GPUS.items()} | {label: name for name, (label, _) in _TPUS.items()}
        label = own.get(_GPU_LABEL) or own.get(_TPU_LABEL)
        return Accelerator(int(count), types.get(label, label) if label else None, resource, own)
    return None


def machine_type_in(selector: Mapping[str, object]) -> str | None:
    """Return the machine type that a node selector names."""
    found = selector.get(_MACHINE_LABEL)
    return found if isinstance(found, str) and found else None


def is_spot_selector(selector: Mapping[str, object]) -> bool:
    """Return whether a node selector asks for Spot nodes, or for preemptible ones as caliban 0.4.2 does."""
    return any(selector.get(label) == "true" for label in _SPOT_LABELS)


def is_flex_start_selector(selector: Mapping[str, object]) -> bool:
    """Return whether a node selector asks for nodes with flex start."""
    return selector.get(_FLEX_START_LABEL) == "true"


def without_hardware(selector: Mapping[str, object]) -> dict[str, object]:
    """Return a node selector without the labels of :attr:`Hardware.node_selector`."""
    own = {_MACHINE_LABEL, _FLEX_START_LABEL, *_SPOT_LABELS, *_ACCELERATOR_LABELS}
    return {key: value for key, value in selector.items() if key not in own}


def without_tolerations(tolerations: object) -> list[object]:
    """Return tolerations without those of :attr:`Hardware.tolerations`."""
    own = {GPU_RESOURCE, TPU_RESOURCE, *_SPOT_LABELS}
    found = tolerations if isinstance(tolerations, list) else []
    keys = [str(each.get("key")) if isinstance(each, Mapping) else "" for each in found]
    return [each for each, key in zip(found, keys, strict=True) if key not in own and not is_gpu_resource(key)]


def any_gpu() -> Accelerator:
    """Return one GPU of any type."""
    return Accelerator(1, None, GPU_RESOURCE, {})


def default_requests(accelerator: Accelerator | None, machine_type: str | None) -> tuple[int | None, int | None]:
    """Return the requests of a job on GKE without ``--min_cpu`` and ``--min_mem``: (thousandths of a CPU, megabytes).

    For a machine type they are all of its CPUs but one: system pods need a part of that.
    """
    cpus = re.search(r"-(\d+)$", machine_type or "")
    if machine_type:
        return (1000 * (int(cpus[1]) - 1) if cpus and int(cpus[1]) > 1 else None), None
    return _WITHOUT_ACCELERATOR if accelerator is None else (_CPU_WITH_ACCELERATOR, None)


def _amounts(cpu: int | None, memory: int | None) -> dict[str, str]:
    amounts = {"cpu": None if cpu is None else f"{cpu}m", "memory": None if memory is None else f"{memory}M"}
    return {name: amount for name, amount in amounts.items() if amount is not None}


def _gke_only(id: str, subject: str, alternative: str = "") -> UsageError:
    return UsageError(
        id,
        f"{subject} can be requested on GKE only",
        cause="other clusters have no common node labels for them",
        hint=f"{alternative}choose a GKE cluster with --cluster_name instead of a context",
    )
