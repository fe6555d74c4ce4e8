"""The hardware of AI Platform Training: regions, machine types, GPUs, and what goes together.

Sources, as of 2021, the service's last extension:

- regions: https://cloud.google.com/ai-platform/training/docs/regions
- machine types: https://cloud.google.com/ai-platform/training/docs/machine-types#compute-engine-machine-types
- GPUs per machine: https://cloud.google.com/ai-platform/training/docs/using-gpus#compute-engine-machine-types-with-gpu
- GPUs per region: https://cloud.google.com/compute/docs/gpus/gpu-regions-zones, whose GPUs the service uses

Google may offer more, or less, than is written here; whoever knows better overrules it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from caliban.errors import UsageError

NO_GPU = "ACCELERATOR_TYPE_UNSPECIFIED"

DEFAULT_REGION = "us-central1"
DEFAULT_CPU_MACHINE = "n1-highcpu-32"
DEFAULT_GPU_MACHINE = "n1-standard-8"

_OVERRULE = "or overrule this with --force"


@dataclass(frozen=True)
class Gpu:
    """GPUs of one machine.

    Attributes:
        count: how many.
        type: as the API names it: ``NVIDIA_TESLA_V100``.
    """

    count: int
    type: str

    def __str__(self) -> str:
        return f"{self.count}x{short_name(self.type)}"


DEFAULT_GPU = Gpu(1, "NVIDIA_TESLA_P100")
"""The defaults are those that caliban 0.4.2 documents, so that a re-run elsewhere costs what it did."""

REGIONS: Mapping[str, tuple[str, ...]] = {
    "us-central1": ("K80", "P4", "P100", "V100", "T4", "A100"),
    "us-east1": ("K80", "P100", "V100", "T4"),
    "us-east4": ("P4", "T4"),
    "us-west1": ("K80", "P100", "V100", "T4"),
    "us-west2": ("P4", "T4"),
    "us-west3": (),
    "northamerica-northeast1": ("P4",),
    "southamerica-east1": ("T4",),
    "europe-north1": (),
    "europe-west1": ("K80", "P100"),
    "europe-west2": ("T4",),
    "europe-west3": ("T4",),
    "europe-west4": ("P4", "P100", "V100", "T4", "A100"),
    "europe-west6": (),
    "asia-east1": ("K80", "P100", "V100", "T4"),
    "asia-east2": (),
    "asia-northeast1": ("T4",),
    "asia-northeast2": (),
    "asia-northeast3": ("T4",),
    "asia-south1": ("T4",),
    "asia-southeast1": ("P4", "T4", "A100"),
    "australia-southeast1": ("P4", "P100", "T4"),
}
"""Region -> the GPUs to be had there, by their short names."""

_COUNTS: Mapping[str, tuple[int, ...]] = {
    "K80": (1, 2, 4, 8),
    "P4": (1, 2, 4),
    "P100": (1, 2, 4),
    "T4": (1, 2, 4),
    "V100": (1, 2, 4, 8),
    "A100": (1, 2, 4, 8, 16),
}
"""GPU -> how many of it a machine may have; the larger the machine, the more it must have (see ``_FEWEST``)."""

_FEWEST: Mapping[str, Mapping[int, int]] = {
    "K80": {8: 1, 16: 2, 32: 4},
    "P4": {16: 1, 32: 2, 96: 4},
    "P100": {16: 1, 32: 2},
    "T4": {16: 1, 32: 2, 96: 4},
    "V100": {8: 1, 16: 2, 32: 4, 96: 8},
}
"""GPU -> number of virtual CPUs, up to which so many GPUs are the fewest that an n1 machine may have."""

_FEWEST_HIGHCPU_64: Mapping[str, int] = {"K80": 8, "P100": 4}
"""n1-highcpu-64 has so little memory that it may have GPUs that other machines of 64 CPUs may not."""

_SIZES: Mapping[str, tuple[int, ...]] = {
    "e2-standard": (4, 8, 16, 32),
    "e2-highmem": (2, 4, 8, 16),
    "e2-highcpu": (16, 32),
    "n1-standard": (4, 8, 16, 32, 64, 96),
    "n1-highmem": (2, 4, 8, 16, 32, 64, 96),
    "n1-highcpu": (16, 32, 64, 96),
    "n2-standard": (4, 8, 16, 32, 48, 64, 80),
    "n2-highmem": (2, 4, 8, 16, 32, 48, 64, 80),
    "n2-highcpu": (16, 32, 48, 64, 80),
    "c2-standard": (4, 8, 16, 30, 60),
    "m1-ultramem": (40, 80, 160),
    "m1-megamem": (96,),
}
"""Family -> sizes in virtual CPUs."""

_WITH_A100: Mapping[str, int] = {
    "a2-highgpu-1g": 1,
    "a2-highgpu-2g": 2,
    "a2-highgpu-4g": 4,
    "a2-highgpu-8g": 8,
    "a2-megagpu-16g": 16,
}
"""Machine type -> the A100 GPUs that it comes with."""

MACHINE_TYPES: tuple[str, ...] = (
    *(f"{family}-{size}" for family, sizes in _SIZES.items() for size in sizes),
    *_WITH_A100,
)


def short_name(gpu_type: str) -> str:
    """``NVIDIA_TESLA_V100`` -> ``V100``."""
    return gpu_type.removeprefix("NVIDIA_TESLA_")


def parse_gpu_spec(text: str) -> Gpu:
    """``2xV100`` (or ``2xNVIDIA_TESLA_V100``, in any case) -> the GPUs.

    Raises:
        UsageError: ``gpu-spec-malformed``.
    """
    match = re.fullmatch(r"([1-9]\d*)x(?:nvidia[_-]tesla[_-])?([a-z]+\d+)", text.strip(), re.IGNORECASE)
    name = match[2].upper() if match else ""
    if match is None or name not in _COUNTS:
        raise UsageError(
            "gpu-spec-malformed",
            f"the GPUs {text!r} are not understood",
            hint=f"write COUNTxTYPE, for example 2xV100; the types are {_listed(_COUNTS)}",
        )
    return Gpu(int(match[1]), f"NVIDIA_TESLA_{name}")


def default_machine(gpu: Gpu | None) -> str:
    """The machine type where none is named; for ``gpu``, the default one or the smallest that may have it."""
    if gpu is None:
        return DEFAULT_CPU_MACHINE
    fitting = machines_for(gpu)
    return DEFAULT_GPU_MACHINE if DEFAULT_GPU_MACHINE in fitting or not fitting else fitting[0]


def gpu_counts(machine_type: str, gpu_type: str) -> tuple[int, ...]:
    """How many GPUs of a type (``NVIDIA_TESLA_V100``) a machine may have; () for none."""
    name = short_name(gpu_type)
    if machine_type in _WITH_A100:
        return (_WITH_A100[machine_type],) if name == "A100" else ()
    family, _, size = machine_type.rpartition("-")
    if not family.startswith("n1-"):
        return ()
    limits = _FEWEST.get(name, {})
    fewest = next((count for cpus, count in limits.items() if int(size) <= cpus), None)
    if machine_type == "n1-highcpu-64" and fewest is None:
        fewest = _FEWEST_HIGHCPU_64.get(name)
    return () if fewest is None else tuple(count for count in _COUNTS[name] if count >= fewest)


def machines_for(gpu: Gpu) -> tuple[str, ...]:
    """The machine types that may have just these GPUs."""
    return tuple(machine for machine in MACHINE_TYPES if gpu.count in gpu_counts(machine, gpu.type))


def check_hardware(region: str, machine_type: str, gpu: Gpu | None) -> None:
    """Refuse what AI Platform Training has not, or would not combine.

    Args:
        region: ``us-central1``.
        machine_type: ``n1-standard-8``.
        gpu: its GPUs; None for none.

    Raises:
        UsageError: ``unknown-region``, ``unknown-machine-type``, ``gpu-not-in-region`` or ``gpu-not-on-machine``; the
            hint says what would go.
    """
    if region not in REGIONS:
        raise _unknown("region", region, REGIONS)
    if machine_type not in MACHINE_TYPES:
        raise _unknown("machine-type", machine_type, MACHINE_TYPES)
    if gpu is None:
        if machine_type in _WITH_A100:
            wanted = f"{_WITH_A100[machine_type]}xA100"
            raise _mismatch("gpu-not-on-machine", f"{machine_type} comes with GPUs", f"ask for --gpu_spec {wanted}")
        return
    name = short_name(gpu.type)
    if name not in REGIONS[region]:
        elsewhere = [other for other, names in REGIONS.items() if name in names]
        here = f"; {region} has {_listed(REGIONS[region])}" if REGIONS[region] else f"; {region} has no GPUs"
        raise _mismatch(
            "gpu-not-in-region", f"there is no {name} in {region}", f"{name} is in {_listed(elsewhere)}{here}"
        )
    if gpu.count not in gpu_counts(machine_type, gpu.type):
        raise _mismatch("gpu-not-on-machine", f"{machine_type} cannot have {gpu}", _alternatives(machine_type, gpu))


def _alternatives(machine_type: str, gpu: Gpu) -> str:
    counts = gpu_counts(machine_type, gpu.type)
    found = []
    if counts:
        found.append(f"{machine_type} may have {_listed(f'{count}x{short_name(gpu.type)}' for count in counts)}")
    machines = machines_for(gpu)
    if machines:
        found.append(f"{gpu} may be on {_listed(machines)}")
    elif gpu.type != NO_GPU:
        found.append(f"a machine may have {_listed(_COUNTS[short_name(gpu.type)])} {short_name(gpu.type)}")
    return "; ".join(found)


def _unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]}? known are {_listed(known)}" if near else f"known are {_listed(known)}"
    words = kind.replace("-", " ")
    return UsageError(f"unknown-{kind}", f"AI Platform Training has no {words} {name}", hint=f"{hint}; {_OVERRULE}")


def _mismatch(id: str, message: str, instead: str) -> UsageError:
    return UsageError(id, f"AI Platform Training does not offer that: {message}", hint=f"{instead}; {_OVERRULE}")


def _listed(items: Iterable[object]) -> str:
    return ", ".join(str(item) for item in items)
