"""``caliban help``: show the help of a command, or list all commands."""

from __future__ import annotations

import argparse

from caliban.cli.command_line import help_parser
from caliban.cli.context import Context
from caliban.errors import ExitCode

DESCRIPTION = "Show the help of a command; without COMMAND, list all commands."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's name, which may have several words."""
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="a command: status, cluster job ls")


def run(args: argparse.Namespace, context: Context) -> int:
    """Print what ``caliban COMMAND --help`` prints."""
    context.console.print(*help_parser(args.command, context.console).format_help().rstrip().splitlines())
    return ExitCode.DONE
