"""The flags for the resources of jobs: declared once, for submitting commands and for re-runs.

Imports nothing heavy: ``--help`` pays for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from caliban.platforms.flags import duration, integer_at_least

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


MACHINE_TYPE = ResourceFlag("machine_type")
GPU_SPEC = ResourceFlag("gpu_spec", metavar="COUNTxTYPE")
NOGPU = ResourceFlag("nogpu", is_switch=True)
MIN_CPU = ResourceFlag("min_cpu", integer_at_least(1), "MILLICPUS")
MIN_MEM = ResourceFlag("min_mem", integer_at_least(1), "MB")
LIMIT_CPU = ResourceFlag("limit_cpu", integer_at_least(1), "MILLICPUS")
LIMIT_MEM = ResourceFlag("limit_mem", integer_at_least(1), "MB")
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
