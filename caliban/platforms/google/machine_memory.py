"""How much memory Compute Engine's machines have, and which one has more. Pure.

Source: https://docs.cloud.google.com/compute/docs/general-purpose-machines,
https://docs.cloud.google.com/compute/docs/memory-optimized-machines and
https://docs.cloud.google.com/compute/docs/accelerator-optimized-machines, as of November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal

_PER_CPU: Mapping[str, str] = {
    "e2-standard": "4",
    "e2-highmem": "8",
    "e2-highcpu": "1",
    "n1-standard": "3.75",
    "n1-highmem": "6.5",
    "n1-highcpu": "0.9",
    "n2-standard": "4",
    "n2-highmem": "8",
    "n2-highcpu": "1",
    "c2-standard": "4",
    "g2-standard": "4",
    "g4-standard": "3.75",
}
"""Machine family -> GB for each virtual CPU."""

_OF_TYPE: Mapping[str, tuple[int, str]] = {
    "m1-ultramem-40": (40, "961"),
    "m1-ultramem-80": (80, "1922"),
    "m1-ultramem-160": (160, "3844"),
    "m1-megamem-96": (96, "1433.6"),
    "a2-highgpu-1g": (12, "85"),
    "a2-highgpu-2g": (24, "170"),
    "a2-highgpu-4g": (48, "340"),
    "a2-highgpu-8g": (96, "680"),
    "a2-megagpu-16g": (96, "1360"),
    "a2-ultragpu-1g": (12, "170"),
    "a2-ultragpu-2g": (24, "340"),
    "a2-ultragpu-4g": (48, "680"),
    "a2-ultragpu-8g": (96, "1360"),
    "a3-highgpu-1g": (26, "234"),
    "a3-highgpu-2g": (52, "468"),
    "a3-highgpu-4g": (104, "936"),
    "a3-highgpu-8g": (208, "1872"),
    "a3-megagpu-8g": (208, "1872"),
    "a3-ultragpu-8g": (224, "2952"),
    "a4-highgpu-8g": (224, "3968"),
    "a4x-highgpu-4g": (140, "884"),
}
"""Machine type -> virtual CPUs, and GB."""


def memory_gb(machine_type: str) -> Decimal | None:
    """Return how many GB of memory a machine has; None for an unknown one."""
    if machine_type in _OF_TYPE:
        return Decimal(_OF_TYPE[machine_type][1])
    family, _, size = machine_type.rpartition("-")
    if family not in _PER_CPU or not re.fullmatch(r"[1-9]\d{0,2}", size):
        return None
    return int(size) * Decimal(_PER_CPU[family])


def larger_machine(machine_type: str, factor: Decimal, candidates: Iterable[str]) -> str | None:
    """Return the smallest machine with enough memory, of the same series where it has one.

    Args:
        machine_type: has too little memory; a known one.
        factor: what its memory is multiplied by.
        candidates: machine types to choose from.

    Returns:
        One with at least as many CPUs; None where there is none with enough memory.
    """
    before = memory_gb(machine_type)
    assert before is not None
    series = machine_type.partition("-")[0]
    fitting = [
        (each.partition("-")[0] != series, memory, _cpus(each), each)
        for each in candidates
        if (memory := memory_gb(each)) is not None and memory >= before * factor and _cpus(each) >= _cpus(machine_type)
    ]
    return min(fitting)[-1] if fitting else None


def _cpus(machine_type: str) -> int:
    return _OF_TYPE[machine_type][0] if machine_type in _OF_TYPE else int(machine_type.rpartition("-")[2])
