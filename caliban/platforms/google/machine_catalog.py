"""Machines and GPUs of Google's training services, and how flags name them.

Each service has its own :class:`Catalog`; the machines are Compute Engine's.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from caliban.errors import UsageError

NO_GPU = "ACCELERATOR_TYPE_UNSPECIFIED"
_OVERRIDE = "or override this check with --force"


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
    """The machine of a job.

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
"""Machine family without built-in GPUs -> sizes in virtual CPUs, as both services offer them.

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
"""GPU -> possible counts on an n1 machine; larger machines need more of them (see ``_N1_FEWEST``)."""

_N1_FEWEST: Mapping[str, Mapping[int, int]] = {
    "K80": {8: 1, 16: 2, 32: 4},
    "P4": {16: 1, 32: 2, 96: 4},
    "P100": {16: 1, 32: 2},
    "T4": {16: 1, 32: 2, 96: 4},
    "V100": {8: 1, 16: 2, 32: 4, 96: 8},
}
"""GPU -> number of virtual CPUs -> the minimum of GPUs on an n1 machine with up to so many CPUs.

Source: https://cloud.google.com/vertex-ai/docs/training/configure-compute#gpu-compatibility-table, and for AI Platform
https://cloud.google.com/ai-platform/training/docs/using-gpus#compute-engine-machine-types-with-gpu
"""

_N1_FEWEST_HIGHCPU_64: Mapping[str, int] = {"K80": 8, "P100": 4}
"""n1-highcpu-64 has so little memory that it can have GPUs which other machines with 64 CPUs cannot."""


@dataclass(frozen=True)
class Catalog:
    """What one service offers. It may be outdated; ``--force`` overrides it.

    Attributes:
        service: its name, for messages.
        regions: region -> the GPUs available there, by short name.
        gpu_types: all GPUs, by their API names.
        with_gpus: machine type -> its built-in GPUs.
        default_region: without --region.
        default_gpu: without --gpu_spec.
        default_cpu_machine: without --machine_type and GPUs.
        default_gpu_machine: without --machine_type, if it can have the GPUs.
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
        """All machine types."""
        return (
            *(f"{family}-{size}" for family, sizes in GENERAL_PURPOSE.items() for size in sizes),
            *self.with_gpus,
        )

    def parse_gpus(self, text: str) -> Gpu:
        """Parse ``2xV100`` (or ``2xNVIDIA_TESLA_V100``, in upper or lower case).

        The memory size can be omitted where there is only one: ``8xH100`` is ``8xH100_80GB``.

        Raises:
            UsageError: ``gpu-spec-malformed``.
        """
        match = re.fullmatch(r"([1-9]\d*)x([a-z0-9_-]+)", text.strip(), re.IGNORECASE)
        gpu_type = self._gpu_type(match[2].upper().replace("-", "_")) if match else None
        if match is None or gpu_type is None:
            example = Gpu(2, self.default_gpu.type)
            raise UsageError(
                "gpu-spec-malformed",
                f'expected COUNTxTYPE, for example {example}, got "{text}"',
                hint=f"available types: {_listed(short_name(each) for each in self.gpu_types)}",
            )
        return Gpu(int(match[1]), gpu_type)

    def choose(self, region: str | None, machine_type: str | None, gpu: Gpu | None, *, wants_gpu: bool) -> Hardware:
        """Return the machine of a job, with defaults for what is None. Not checked: see :meth:`check`.

        Args:
            region: None for the default.
            machine_type: None for the default, or the smallest that can have the GPUs.
            gpu: None for the machine's built-in GPUs, or the default.
            wants_gpu: whether the job gets GPUs if ``gpu`` is None.
        """
        if gpu is None and wants_gpu:
            gpu = self.with_gpus.get(machine_type or "", self.default_gpu)
        return Hardware(region or self.default_region, machine_type or self.default_machine(gpu), gpu)

    def default_machine(self, gpu: Gpu | None) -> str:
        """Return the default machine type for ``gpu``, or the smallest that can have it."""
        if gpu is None:
            return self.default_cpu_machine
        fitting = self.machines_for(gpu)
        return self.default_gpu_machine if self.default_gpu_machine in fitting or not fitting else fitting[0]

    def gpu_counts(self, machine_type: str, gpu_type: str) -> tuple[int, ...]:
        """Return how many GPUs of a type (``NVIDIA_TESLA_V100``) a machine can have; () for none."""
        own = self.with_gpus.get(machine_type)
        if own is not None:
            return (own.count,) if own.type == gpu_type else ()
        return _n1_counts(machine_type, short_name(gpu_type)) if gpu_type in self.gpu_types else ()

    def machines_for(self, gpu: Gpu) -> tuple[str, ...]:
        """Return the machine types that can have exactly these GPUs."""
        return tuple(each for each in self.machine_types if gpu.count in self.gpu_counts(each, gpu.type))

    def check(self, hardware: Hardware) -> None:
        """Check that the service offers this combination.

        Raises:
            UsageError: ``unknown-region``, ``unknown-machine-type``, ``gpu-not-in-region`` or ``gpu-not-on-machine``;
                the hint names alternatives.
        """
        region, machine_type, gpu = hardware.region, hardware.machine_type, hardware.gpu
        if region not in self.regions:
            raise self._unknown("region", region, self.regions)
        if machine_type not in self.machine_types:
            raise self._unknown("machine-type", machine_type, self.machine_types)
        if gpu is None:
            if machine_type in self.with_gpus:
                builtin = self.with_gpus[machine_type]
                raise self._mismatch(
                    "gpu-not-on-machine", f"{machine_type} has built-in GPUs", f"add --gpu_spec {builtin}"
                )
            return
        if short_name(gpu.type) not in self.regions[region]:
            raise self._not_there(region, short_name(gpu.type))
        if gpu.count not in self.gpu_counts(machine_type, gpu.type):
            instead = "; ".join(self._alternatives(machine_type, gpu))
            raise self._mismatch("gpu-not-on-machine", f"{machine_type} cannot have {gpu}", instead)

    def _gpu_type(self, name: str) -> str | None:
        """Return the API name of a GPU: given in full, in short, or without its memory size."""
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
            yield f"{machine_type} can have {_listed(f'{count}x{name}' for count in counts)}"
        elif others:
            yield f"{machine_type} can have {_listed(others)}"
        machines = self.machines_for(gpu)
        if machines:
            yield f"{gpu} is available on {_listed(machines)}"
        else:
            possible = {count for each in self.machine_types for count in self.gpu_counts(each, gpu.type)}
            yield f"a machine can have {_listed(sorted(possible))} {name}"

    def _not_there(self, region: str, name: str) -> UsageError:
        elsewhere = [other for other, names in self.regions.items() if name in names]
        here = f"{region} has {_listed(self.regions[region])}" if self.regions[region] else f"{region} has no GPUs"
        return self._mismatch(
            "gpu-not-in-region", f"{region} has no {name}", f"{name} is available in {_listed(elsewhere)}; {here}"
        )

    def _unknown(self, kind: str, name: str, known: Iterable[str]) -> UsageError:
        near = difflib.get_close_matches(name, list(known), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        message = f'{self.service} has no {kind.replace("-", " ")} "{name}"'
        return UsageError(f"unknown-{kind}", message, hint=f"{hint}available: {_listed(known)}; {_OVERRIDE}")

    def _mismatch(self, id: str, message: str, instead: str) -> UsageError:
        return UsageError(id, f"not available on {self.service}: {message}", hint=f"{instead}; {_OVERRIDE}")


def short_name(gpu_type: str) -> str:
    """Return ``V100`` for ``NVIDIA_TESLA_V100``, ``L4`` for ``NVIDIA_L4``."""
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
