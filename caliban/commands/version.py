"""``caliban version``: show the version of caliban."""

from __future__ import annotations

import argparse

from caliban.cli import flags
from caliban.cli.command_line import version, version_number
from caliban.cli.context import Context
from caliban.cli.documents import document
from caliban.errors import ExitCode

DESCRIPTION = "Show the version of caliban."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    flags.add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Print the version."""
    context.console.print(version())
    context.console.document(document("caliban.version/1", version=version_number()))
    return ExitCode.DONE
