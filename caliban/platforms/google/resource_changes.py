"""What jobs of both training services have in common when a re-run has other machines or GPUs. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal

from caliban.errors import UsageError
from caliban.platforms.google.identifiers import REGION
from caliban.platforms.google.machine_catalog import NO_GPU, Catalog, Gpu, Hardware
from caliban.platforms.google.machine_memory import larger_machine, memory_gb
from caliban.platforms.resources import ResourceRequest, check_alone, nothing_to_multiply


def changed_hardware(before: Hardware, request: ResourceRequest, catalog: Catalog) -> Hardware:
    """Return the machine of a job with what is requested; checked, unless it stays as it was.

    A machine that cannot have the requested GPUs is replaced by the service's default for them, as in a submission.

    Args:
        before: as recorded.
        request: what changes.
        catalog: of the service.

    Raises:
        UsageError: there is no such machine, or it cannot have the GPUs; or none has enough memory.
    """
    check_alone(request, "machine_type")
    after = before
    if request.region is not None:
        after = replace(after, region=REGION.check_given(request.region))
    if request.machine_type is not None:
        gpu = catalog.with_gpus.get(request.machine_type, before.gpu) if before.gpu else None
        after = replace(after, machine_type=request.machine_type, gpu=gpu)
    if request.nogpu:
        after = _with_gpus(after, None, request, catalog)
    if request.gpu_spec is not None:
        after = _with_gpus(after, catalog.parse_gpus(request.gpu_spec), request, catalog)
    if request.more_memory is not None:
        after = replace(after, machine_type=_with_more_memory(after, request.more_memory, catalog))
    if after != before and not request.force:
        catalog.check(after)
    return after


def recorded_gpu(kind: object, count: object) -> Gpu | None:
    """Return the GPUs in a job spec; None for none, and for what is malformed. JSON may have the count as text."""
    if not isinstance(kind, str) or not kind or kind == NO_GPU or isinstance(count, bool):
        return None
    return Gpu(int(str(count)), kind) if re.fullmatch(r"[1-9][0-9]{0,3}", str(count)) else None


def _with_gpus(hardware: Hardware, gpu: Gpu | None, request: ResourceRequest, catalog: Catalog) -> Hardware:
    machine = hardware.machine_type
    fits = gpu.count in catalog.gpu_counts(machine, gpu.type) if gpu else machine not in catalog.with_gpus
    if not fits and request.machine_type is None:
        machine = catalog.default_machine(gpu)
    return replace(hardware, machine_type=machine, gpu=gpu)


def _with_more_memory(hardware: Hardware, factor: Decimal, catalog: Catalog) -> str:
    machine, gpu = hardware.machine_type, hardware.gpu
    memory = memory_gb(machine)
    if memory is None:
        raise nothing_to_multiply(
            f"amount of memory of the machine type {machine}", "name a machine with more memory: --machine_type"
        )
    without = (each for each in catalog.machine_types if each not in catalog.with_gpus)
    larger = larger_machine(machine, factor, catalog.machines_for(gpu) if gpu else without)
    if larger is None:
        with_gpu = f" with {gpu}" if gpu else ""
        raise UsageError(
            "no-larger-machine",
            f"--more_memory: {catalog.service} has no machine{with_gpu} and {memory * factor:f} GB of memory",
            cause=f"{machine} has {memory:f} GB",
            hint="use a smaller factor" + (", or more GPUs on a larger machine: --gpu_spec" if gpu else ""),
        )
    return larger
