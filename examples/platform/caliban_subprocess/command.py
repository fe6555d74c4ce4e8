"""``caliban subprocess``: run experiments as processes of this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from caliban.commands.submit import SubmitCommand
from caliban.images.package import Package
from caliban.platforms.launch import Launch, LaunchContext, Launcher
from caliban.records import ImageRef, JsonObject


@dataclass(frozen=True)
class SubprocessLaunch(Launch):
    """Processes that run one script with different arguments."""

    command: Sequence[str]
    nice: int
    platform = "SUBPROCESS"

    def job_spec(self, number: int, arguments: Sequence[str], image: ImageRef) -> JsonObject:
        """Return the job spec of one process; ``image`` is the project's directory."""
        command = ["nice", "-n", str(self.nice), *self.command] if self.nice else list(self.command)
        return {"directory": image, "command": command, "arguments": list(arguments)}

    def summary_lines(self) -> Sequence[str]:
        """Return what ``--dry_run`` shows."""
        return [f"nice value: {self.nice}"] if self.nice else []


class SubprocessLauncher(Launcher):
    """The flags of ``caliban subprocess`` beside those that every submitting command has."""

    image_flag = None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add ``--nice N``."""
        parser.add_argument("--nice", type=int, default=0, metavar="N", help="nice value of the processes (default: 0)")

    def prepare(self, args: argparse.Namespace, context: LaunchContext) -> SubprocessLaunch:
        """Find the script."""
        return SubprocessLaunch(Package.parse(args.module, context.cwd).command, args.nice)


COMMAND = SubmitCommand(
    "Run a script as processes of this machine, one for each experiment.",
    lambda: {"subprocess": SubprocessLauncher()},
    shows_requests=False,
)
