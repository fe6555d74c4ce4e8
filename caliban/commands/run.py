"""``caliban run``: experiments in containers on this machine, one after the other."""

from __future__ import annotations

from functools import partial

from caliban.commands.submit import SubmitCommand
from caliban.platforms.registry import launchers

COMMAND = SubmitCommand(
    "Build a container image of a script or module, and run it on this machine once for each set of flags, one after "
    "the other. Arguments after -- are passed to it as they are. Standard output is that of the jobs; the list of the "
    "jobs goes to standard error.",
    partial(launchers, "run"),
    shows_requests=False,
    waits=True,
)
