"""The hardware of Google's training services: what may be asked for, and how people write it.

Each service has a :class:`Catalog` of its own. What they share are Compute Engine's machines.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from caliban.errors import UsageError

NO_GPU = "ACCELERATOR_TYPE_UNSPECIFIED"
_OVERRULE = "or overrule this with --force"


@dataclass(frozen=True)
class Gpu:
    """GPUs of one machine.

    Attributes:
        count: how many.
        type: as the APIs name it: ``NVIDIA_TESLA_V100``, ``NVIDIA_L4``.
    """

    count: int
    type: str

    def __str__(self) -> str:
        return f"{self.count}x{short_name(self.type)}"


@dataclass(frozen=True)
class Hardware:
    """What each job runs on.

    Attributes:
        region: ``us-central1``.
        machine_type: ``n1-standard-8``.
        gpu: its GPUs; None for none.
    """

    region: str
    machine_type: str
    gpu: Gpu | None

    def __str__(self) -> str:
        machine = f"{self.gpu} on {self.machine_type}" if self.gpu else self.machine_type
        return f"{machine} in {self.region}"


GENERAL_PURPOSE: Mapping[str, tuple[int, ...]] = {
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
"""Family of machines without GPUs of their own -> sizes in virtual CPUs, as both services offer them.

Source: https://cloud.google.com/vertex-ai/docs/training/configure-compute#machine-types, and for AI Platform
https://cloud.google.com/ai-platform/training/docs/machine-types#compute-engine-machine-types
"""

_N1_COUNTS: Mapping[str, tuple[int, ...]] = {
    "K80": (1, 2, 4, 8),
    "P4": (1, 2, 4),
    "P100": (1, 2, 4),
    "T4": (1, 2, 4),
    "V100": (1, 2, 4, 8),
}
"""GPU -> how many of it an n1 machine may have; the larger the machine, the more it must have (see ``_N1_FEWEST``)."""

_N1_FEWEST: Mapping[str, Mapping[int, int]] = {
    "K80": {8: 1, 16: 2, 32: 4},
    "P4": {16: 1, 32: 2, 96: 4},
    "P100": {16: 1, 32: 2},
    "T4": {16: 1, 32: 2, 96: 4},
    "V100": {8: 1, 16: 2, 32: 4, 96: 8},
}
"""GPU -> number of virtual CPUs, up to which so many GPUs are the fewest that an n1 machine may have.

Source: https://cloud.google.com/vertex-ai/docs/training/configure-compute#gpu-compatibility-table, and for AI Platform
https://cloud.google.com/ai-platform/training/docs/using-gpus#compute-engine-machine-types-with-gpu
"""

_N1_FEWEST_HIGHCPU_64: Mapping[str, int] = {"K80": 8, "P100": 4}
"""n1-highcpu-64 has so little memory that it may have GPUs that other machines of 64 CPUs may not."""


@dataclass(frozen=True)
class Catalog:
    """What one service offers. It may offer more, or less, by now; whoever knows better overrules it.

    Attributes:
        service: its name, for messages.
        regions: region -> the GPUs to be had there, by their short names.
        gpu_types: the GPUs that there are, as the API names them.
        with_gpus: machine type -> the GPUs that it comes with.
        default_region: where none is named.
        default_gpu: where none are named.
        default_cpu_machine: where no machine is named, and no GPUs.
        default_gpu_machine: where no machine is named, if it may have the GPUs.
    """

    service: str
    regions: Mapping[str, tuple[str, ...]]
    gpu_types: tuple[str, ...]
    with_gpus: Mapping[str, Gpu]
    default_region: str
    default_gpu: Gpu
    default_cpu_machine: str
    default_gpu_machine: str

    @property
    def machine_types(self) -> tuple[str, ...]:
        """Every machine type that there is."""
        return (
            *(f"{family}-{size}" for family, sizes in GENERAL_PURPOSE.items() for size in sizes),
            *self.with_gpus,
        )

    def parse_gpus(self, text: str) -> Gpu:
        """``2xV100`` (or ``2xNVIDIA_TESLA_V100``, in any case) -> the GPUs.

        The size of their memory need not be written where there is but one: ``8xH100`` is ``8xH100_80GB``.

        Raises:
            UsageError: ``gpu-spec-malformed``.
        """
        match = re.fullmatch(r"([1-9]\d*)x([a-z0-9_-]+)", text.strip(), re.IGNORECASE)
        gpu_type = self._gpu_type(match[2].upper().replace("-", "_")) if match else None
        if match is None or gpu_type is None:
            example = Gpu(2, self.default_gpu.type)
            raise UsageError(
                "gpu-spec-malformed",
                f"the GPUs {text!r} are not understood",
                hint=f"write COUNTxTYPE, for example {example}; the types are "
                f"{_listed(short_name(each) for each in self.gpu_types)}",
            )
        return Gpu(int(match[1]), gpu_type)

    def choose(self, region: str | None, machine_type: str | None, gpu: Gpu | None, *, wants_gpu: bool) -> Hardware:
        """What a job runs on, where a person left something open. Not checked: see :meth:`check`.

        Args:
            region: None for the default one.
            machine_type: None for the default one, or the smallest that may have the GPUs.
            gpu: None for those that the machine comes with, or the default ones.
            wants_gpu: whether there are to be GPUs where none are named.
        """
        if gpu is None and wants_gpu:
            gpu = self.with_gpus.get(machine_type or "", self.default_gpu)
        return Hardware(region or self.default_region, machine_type or self.default_machine(gpu), gpu)

    def default_machine(self, gpu: Gpu | None) -> str:
        """The machine type where none is named; for ``gpu``, the default one or the smallest that may have it."""
        if gpu is None:
            return self.default_cpu_machine
        fitting = self.machines_for(gpu)
        return self.default_gpu_machine if self.default_gpu_machine in fitting or not fitting else fitting[0]

    def gpu_counts(self, machine_type: str, gpu_type: str) -> tuple[int, ...]:
        """How many GPUs of a type (``NVIDIA_TESLA_V100``) a machine may have; () for none."""
        own = self.with_gpus.get(machine_type)
        if own is not None:
            return (own.count,) if own.type == gpu_type else ()
        return _n1_counts(machine_type, short_name(gpu_type)) if gpu_type in self.gpu_types else ()

    def machines_for(self, gpu: Gpu) -> tuple[str, ...]:
        """The machine types that may have just these GPUs."""
        return tuple(each for each in self.machine_types if gpu.count in self.gpu_counts(each, gpu.type))

    def check(self, hardware: Hardware) -> None:
        """Refuse what the service has not, or would not combine.

        Raises:
            UsageError: ``unknown-region``, ``unknown-machine-type``, ``gpu-not-in-region`` or ``gpu-not-on-machine``;
                the hint says what would go.
        """
        region, machine_type, gpu = hardware.region, hardware.machine_type, hardware.gpu
        if region not in self.regions:
            raise self._unknown("region", region, self.regions)
        if machine_type not in self.machine_types:
            raise self._unknown("machine-type", machine_type, self.machine_types)
        if gpu is None:
            if machine_type in self.with_gpus:
                wanted = self.with_gpus[machine_type]
                raise self._mismatch(
                    "gpu-not-on-machine", f"{machine_type} comes with GPUs", f"ask for --gpu_spec {wanted}"
                )
            return
        if short_name(gpu.type) not in self.regions[region]:
            raise self._not_there(region, short_name(gpu.type))
        if gpu.count not in self.gpu_counts(machine_type, gpu.type):
            instead = "; ".join(self._alternatives(machine_type, gpu))
            raise self._mismatch("gpu-not-on-machine", f"{machine_type} cannot have {gpu}", instead)

    def _gpu_type(self, name: str) -> str | None:
        """The type that ``name`` names: in full, in short, or without the size of its memory."""
        short = short_name(name)
        for each in self.gpu_types:
            if short_name(each) == short:
                return each
        sized = [each for each in self.gpu_types if re.fullmatch(rf"{re.escape(short)}_\d+GB", short_name(each))]
        return sized[0] if len(sized) == 1 else None

    def _alternatives(self, machine_type: str, gpu: Gpu) -> Iterator[str]:
        name = short_name(gpu.type)
        counts = self.gpu_counts(machine_type, gpu.type)
        others = [short_name(each) for each in self.gpu_types if self.gpu_counts(machine_type, each)]
        if counts:
            yield f"{machine_type} may have {_listed(f'{count}x{name}' for count in counts)}"
        elif others:
            yield f"{machine_type} may have {_listed(others)}"
        machines = self.machines_for(gpu)
        if machines:
            yield f"{gpu} may be on {_listed(machines)}"
        else:
            possible = {count for each in self.machine_types for count in self.gpu_counts(each, gpu.type)}
            yield f"a machine may have {_listed(sorted(possible))} {name}"

    def _not_there(self, region: str, name: str) -> UsageError:
        elsewhere = [other for other, names in self.regions.items() if name in names]
        here = f"{region} has {_listed(self.regions[region])}" if self.regions[region] else f"{region} has no GPUs"
        return self._mismatch(
            "gpu-not-in-region", f"there is no {name} in {region}", f"{name} is in {_listed(elsewhere)}; {here}"
        )

    def _unknown(self, kind: str, name: str, known: Iterable[str]) -> UsageError:
        near = difflib.get_close_matches(name, list(known), n=1)
        hint = f"did you mean {near[0]}? known are {_listed(known)}" if near else f"known are {_listed(known)}"
        words = kind.replace("-", " ")
        return UsageError(f"unknown-{kind}", f"{self.service} has no {words} {name}", hint=f"{hint}; {_OVERRULE}")

    def _mismatch(self, id: str, message: str, instead: str) -> UsageError:
        return UsageError(id, f"{self.service} does not offer that: {message}", hint=f"{instead}; {_OVERRULE}")


def short_name(gpu_type: str) -> str:
    """``NVIDIA_TESLA_V100`` -> ``V100``; ``NVIDIA_L4`` -> ``L4``."""
    return gpu_type.removeprefix("NVIDIA_").removeprefix("TESLA_")


def _n1_counts(machine_type: str, name: str) -> tuple[int, ...]:
    family, _, size = machine_type.rpartition("-")
    if not family.startswith("n1-"):
        return ()
    limits = _N1_FEWEST.get(name, {})
    fewest = next((count for cpus, count in limits.items() if int(size) <= cpus), None)
    if machine_type == "n1-highcpu-64" and fewest is None:
        fewest = _N1_FEWEST_HIGHCPU_64.get(name)
    return () if fewest is None else tuple(count for count in _N1_COUNTS[name] if count >= fewest)


def _listed(items: Iterable[object]) -> str:
    return ", ".join(str(item) for item in items)
