"""``caliban cluster job submit``: experiments as jobs of a cluster."""

from __future__ import annotations

from functools import partial

from caliban.commands.submit import SubmitCommand
from caliban.platforms.registry import launchers

COMMAND = SubmitCommand(
    "Build a container image of a script or module, push it, and submit it to a cluster once for each set of flags. "
    "Arguments after -- are passed to it as they are.",
    partial(launchers, "cluster job submit"),
)
