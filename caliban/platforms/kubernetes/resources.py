"""What a job may ask of a cluster's nodes, and how GKE's nodes are labelled.

Sources, read in November 2026; a cluster may offer more, or less:

- GPUs: https://cloud.google.com/kubernetes-engine/docs/how-to/gpus (limits, ``cloud.google.com/gke-accelerator``) and
  https://cloud.google.com/compute/docs/gpus (the names)
- TPUs: https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus (slices of one host)
- Spot: https://cloud.google.com/kubernetes-engine/docs/concepts/spot-vms
- machine types: https://kubernetes.io/docs/reference/labels-annotations-taints/#nodekubernetesioinstance-type
- taints that keep others off nodes with accelerators: https://cloud.google.com/kubernetes-engine/docs/how-to/gpus
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from caliban.errors import UsageError

GPU_RESOURCE = "nvidia.com/gpu"
TPU_RESOURCE = "google.com/tpu"

_GPU_LABEL = "cloud.google.com/gke-accelerator"
_TPU_LABEL = "cloud.google.com/gke-tpu-accelerator"
_TPU_TOPOLOGY_LABEL = "cloud.google.com/gke-tpu-topology"
_SPOT_LABEL = "cloud.google.com/gke-spot"
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
"""Short name -> the value of GKE's label."""

_TPUS: Mapping[str, tuple[str, Mapping[int, str]]] = {
    "V4": ("tpu-v4-podslice", {4: "2x2x1"}),
    "V5E": ("tpu-v5-lite-podslice", {1: "1x1", 4: "2x2", 8: "2x4"}),
    "V5P": ("tpu-v5p-slice", {4: "2x2x1"}),
    "V6E": ("tpu-v6e-slice", {1: "1x1", 4: "2x2", 8: "2x4"}),
}
"""Short name -> the value of GKE's label, and the topology of each number of chips that one machine has."""

_CPU_ALONE = (31_000, 119_000)
_CPU_WITH_ACCELERATOR = 1_500
"""What caliban 0.4.2 asks for on GKE (``--min_cpu`` in its help, and the stores that it made): most of an
n1-standard-32, so that a re-run elsewhere costs what it did."""


@dataclass(frozen=True)
class Accelerator:
    """GPUs or TPU chips of one machine.

    Attributes:
        count: how many.
        type: short name: ``V100``, ``V5E``; None for any that the cluster has.
        resource: what a container asks for: ``nvidia.com/gpu``.
        selector: labels of the nodes that have them.
    """

    count: int
    type: str | None
    resource: str
    selector: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.count}x{self.type}" if self.type else f"{self.count} GPU{'' if self.count == 1 else 's'}"


@dataclass(frozen=True)
class Hardware:
    """What each job asks of the node that it runs on.

    Attributes:
        accelerator: GPUs or TPUs, or None.
        machine_type: ``n1-standard-8``, or None for any.
        min_cpu: thousandths of a CPU, or None.
        min_mem: megabytes (10^6), or None.
        is_spot: only nodes that may be taken away, which cost less.
    """

    accelerator: Accelerator | None = None
    machine_type: str | None = None
    min_cpu: int | None = None
    min_mem: int | None = None
    is_spot: bool = False

    @property
    def requests(self) -> dict[str, str]:
        """``resources.requests`` of the container."""
        found = {}
        if self.min_cpu is not None:
            found["cpu"] = f"{self.min_cpu}m"
        if self.min_mem is not None:
            found["memory"] = f"{self.min_mem}M"
        return found

    @property
    def limits(self) -> dict[str, str]:
        """``resources.limits`` of the container; those of accelerators are requests too."""
        return {self.accelerator.resource: str(self.accelerator.count)} if self.accelerator else {}

    @property
    def node_selector(self) -> dict[str, str]:
        """``nodeSelector`` of the pod."""
        found = dict(self.accelerator.selector) if self.accelerator else {}
        if self.machine_type:
            found[_MACHINE_LABEL] = self.machine_type
        if self.is_spot:
            found[_SPOT_LABEL] = "true"
        return found

    @property
    def tolerations(self) -> list[dict[str, str]]:
        """``tolerations`` of the pod: the taints of nodes with accelerators, and of Spot nodes."""
        found = []
        if self.is_spot:
            found.append({"key": _SPOT_LABEL, "operator": "Equal", "value": "true", "effect": "NoSchedule"})
        if self.accelerator:
            found.append({"key": self.accelerator.resource, "operator": "Exists", "effect": "NoSchedule"})
        return found

    def __str__(self) -> str:
        words = [str(self.accelerator)] if self.accelerator else []
        words += [self.machine_type] if self.machine_type else []
        words += [f"{name} {amount}" for name, amount in self.requests.items()]
        words += ["Spot"] if self.is_spot else []
        return ", ".join(words) or "whatever the cluster gives"


def parse_gpu_spec(text: str, *, is_gke: bool) -> Accelerator:
    """``2xV100``, or ``2`` for any type, -> GPUs.

    Raises:
        UsageError: ``gpu-spec-malformed``; ``gpu-type-elsewhere``: only GKE labels its nodes so that the type can be
            asked for.
    """
    match = re.fullmatch(r"([1-9]\d?)(?:x(?:nvidia[_-](?:tesla[_-])?)?([a-z0-9_-]+))?", text.strip(), re.IGNORECASE)
    name = match[2].upper().replace("-", "_") if match and match[2] else None
    name = {"H100_80GB": "H100", "H100_MEGA_80GB": "H100_MEGA", "H200_141GB": "H200"}.get(name or "", name)
    if match is None or (name is not None and name not in _GPUS):
        raise UsageError(
            "gpu-spec-malformed",
            f"the GPUs {text!r} are not understood",
            hint=f"write COUNTxTYPE, such as 2xV100, or COUNT for any type; the types are {_listed(_GPUS)}",
        )
    if name is None:
        return Accelerator(int(match[1]), None, GPU_RESOURCE, {})
    if not is_gke:
        raise _elsewhere(
            "gpu-type-elsewhere", f"GPUs of the type {name}", f"write --gpu_spec {match[1]} for any type, or"
        )
    return Accelerator(int(match[1]), name, GPU_RESOURCE, {_GPU_LABEL: _GPUS[name]})


def parse_tpu_spec(text: str, *, is_gke: bool) -> Accelerator:
    """``4xV5E``, chips of one machine, -> TPUs.

    Raises:
        UsageError: ``tpu-spec-malformed``; ``tpu-elsewhere``: GKE alone has TPUs.
    """
    match = re.fullmatch(r"([1-9]\d?)x(?:tpu[_-]?)?(v\d[a-z]?)", text.strip(), re.IGNORECASE)
    name = match[2].upper() if match else ""
    label, topologies = _TPUS.get(name, ("", {}))
    if match is None or int(match[1]) not in topologies:
        known = [f"{count}x{kind}" for kind, (_, counts) in _TPUS.items() for count in counts]
        raise UsageError(
            "tpu-spec-malformed",
            f"the TPUs {text!r} are not understood, or are more than one machine has",
            hint=f"there are {_listed(known)}",
        )
    if not is_gke:
        raise _elsewhere("tpu-elsewhere", "TPUs", "")
    count = int(match[1])
    return Accelerator(count, name, TPU_RESOURCE, {_TPU_LABEL: label, _TPU_TOPOLOGY_LABEL: topologies[count]})


def any_gpu() -> Accelerator:
    """One GPU, of whatever type."""
    return Accelerator(1, None, GPU_RESOURCE, {})


def default_requests(accelerator: Accelerator | None, machine_type: str | None) -> tuple[int | None, int | None]:
    """What a job on GKE asks for where the person says nothing: (thousandths of a CPU, megabytes).

    On a machine type that is named, all of its CPUs but one, which GKE's own programs need a part of.
    """
    cpus = re.search(r"-(\d+)$", machine_type or "")
    if machine_type:
        return (1000 * (int(cpus[1]) - 1) if cpus and int(cpus[1]) > 1 else None), None
    return _CPU_ALONE if accelerator is None else (_CPU_WITH_ACCELERATOR, None)


def _elsewhere(id: str, what: str, instead: str) -> UsageError:
    return UsageError(
        id,
        f"{what} can be asked for on GKE alone",
        cause="other clusters label their nodes in ways of their own",
        hint=f"{instead} name the GKE cluster with --cluster_name in place of its context".strip(),
    )


def _listed(items: Iterable[object]) -> str:
    return ", ".join(map(str, items))
