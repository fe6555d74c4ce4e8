"""One instruction of a Dockerfile."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Instruction:
    """One line of a Dockerfile.

    Attributes:
        text: the instruction.
        purpose: what it does, in a few words, for messages.
        hint: what to check when it fails.
        shown: the instruction as people read it; None for the text itself.
        has_alternative: whether the image can be built in another way when it fails; see
            :meth:`caliban.images.dependency_plan.DependencyPlan.without_skeleton`.
    """

    text: str
    purpose: str
    hint: str = "fix the problem that the output shows, then run the command again"
    shown: str | None = None
    has_alternative: bool = False


def shell(script: str, *arguments: str) -> str:
    """Return an instruction that runs a script, which finds its arguments in ``$1``, ``$2``, ..."""
    # The exec form ignores a base image's SHELL, and needs no shell quoting.
    return "RUN " + json.dumps(["/bin/sh", "-ec", script, "sh", *arguments])
