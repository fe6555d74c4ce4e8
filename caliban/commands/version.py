"""``caliban version``: show the version of caliban."""

from __future__ import annotations

import argparse

from caliban.cli.command_line import version
from caliban.cli.context import Context
from caliban.errors import ExitCode

DESCRIPTION = "Show the version of caliban."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing."""


def run(args: argparse.Namespace, context: Context) -> int:
    """Print the version."""
    context.console.print(version())
    return ExitCode.DONE
