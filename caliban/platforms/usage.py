"""What jobs occupy while they run: accelerators by name, or machines."""

from __future__ import annotations

import re
from collections.abc import Mapping

MACHINE = "machine"
"""What a job without accelerators occupies."""

_MAKERS = re.compile(r"^(?:(?:NVIDIA|TESLA)-)+")


def accelerator_name(text: str) -> str:
    """Return a short name: ``T4`` for ``NVIDIA_TESLA_T4``, ``A100-80GB`` for ``nvidia-a100-80gb``."""
    return _MAKERS.sub("", text.upper().replace("_", "-"))


def usage_of(accelerators: Mapping[str, int], machines: int = 1) -> dict[str, int]:
    """Return what a job occupies: its accelerators by short name, or its machines if it has none."""
    found = {accelerator_name(name): count for name, count in accelerators.items() if count > 0}
    return found or {MACHINE: max(1, machines)}


def count_in(value: object, default: int = 0) -> int:
    """Return a count of a recorded spec, which may be a number or digits; ``default`` for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return max(0, value)
    is_number = isinstance(value, str) and len(value) < 10 and value.isascii() and value.isdigit()
    return int(str(value)) if is_number else default
