"""The flags for the resources of jobs: declared once, for submitting commands and for re-runs.

Imports nothing heavy: ``--help`` pays for it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass

from caliban.platforms.flags import duration

Parser = argparse._ActionsContainer  # a parser, or a group of flags
"""Where flags are added."""


@dataclass(frozen=True)
class ResourceFlag:
    """A flag.

    Attributes:
        name: without dashes.
        type: parses its value; None for text.
        metavar: what ``--help`` shows for its value; None for the default.
        is_switch: whether it has no value.
    """

    name: str
    type: Callable[[str], object] | None = None
    metavar: str | None = None
    is_switch: bool = False

    def add(self, parser: Parser, help: str, default: object = None) -> None:
        """Add the flag.

        Args:
            parser: of the command.
            help: what the flag means there.
            default: its value where it is not given; False for one without a value.
        """
        if self.is_switch:
            parser.add_argument(f"--{self.name}", action="store_true", help=help)
        else:
            parse = self.type or str
            parser.add_argument(f"--{self.name}", type=parse, metavar=self.metavar, default=default, help=help)


_LEAST_MILLICPUS, _LEAST_MB = 50, 10
_MEMORY = re.compile(r"(\d{1,12})(?:([KMGT])(i?))?", re.ASCII)


def millicpus(text: str) -> int:
    """Return the thousandths of a CPU of ``1500`` or ``1500m``; the ``type`` of a flag.

    A number that is probably one of CPUs, as kubectl would read it, is an error: such a job would take forever.
    """
    number = text.removesuffix("m")
    if not number.isdecimal() or not number.isascii() or int(number) < 1:
        raise argparse.ArgumentTypeError(f'expected thousandths of a CPU, such as 1500, got "{text}"')
    if number == text and int(number) < _LEAST_MILLICPUS:
        raise argparse.ArgumentTypeError(
            f'"{text}" would be {number} thousandths of a CPU: write {number}000 for {number} CPUs, or {number}m'
        )
    return int(number)


def megabytes(text: str) -> int:
    """Return the megabytes (10^6 bytes) of ``4000``, ``4G`` or ``4Gi``; the ``type`` of a flag.

    They are rounded down: a quota of ``4Gi`` has to have room for them. A number that is probably one of gigabytes is an
    error.
    """
    found = _MEMORY.fullmatch(text)
    if found is None or int(found[1]) < 1:
        raise argparse.ArgumentTypeError(f'expected megabytes, such as 4000, or 4G or 4Gi, got "{text}"')
    number, unit, binary = int(found[1]), found[2], found[3]
    if not unit and number < _LEAST_MB:
        raise argparse.ArgumentTypeError(
            f'"{text}" would be {number} MB: write {number}G for {number} GB, or {number}M'
        )
    size = number
    for _ in range(1 + "KMGT".index(unit or "M")):
        size *= 1024 if binary else 1000
    return max(1, size // 10**6)


MACHINE_TYPE = ResourceFlag("machine_type")
GPU_SPEC = ResourceFlag("gpu_spec", metavar="COUNTxTYPE")
NOGPU = ResourceFlag("nogpu", is_switch=True)
MIN_CPU = ResourceFlag("min_cpu", millicpus, "MILLICPUS")
MIN_MEM = ResourceFlag("min_mem", megabytes, "MB")
LIMIT_CPU = ResourceFlag("limit_cpu", millicpus, "MILLICPUS")
LIMIT_MEM = ResourceFlag("limit_mem", megabytes, "MB")
SPOT = ResourceFlag("spot", is_switch=True)
NONPREEMPTIBLE = ResourceFlag("nonpreemptible", is_switch=True)
TIMEOUT = ResourceFlag("timeout", duration)
REGION = ResourceFlag("region")
DOCKER_RUN_ARGS = ResourceFlag("docker_run_args", metavar="ARGS")
FORCE = ResourceFlag("force", is_switch=True)

RESOURCE_FLAGS = (
    MACHINE_TYPE,
    GPU_SPEC,
    NOGPU,
    MIN_CPU,
    MIN_MEM,
    SPOT,
    NONPREEMPTIBLE,
    TIMEOUT,
    REGION,
    DOCKER_RUN_ARGS,
)
"""Those that a re-run takes, in the order in which help lists them; and ``--force``, which changes nothing itself."""
