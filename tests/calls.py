"""A command called in this process: parsed as ``main`` does, and run in a context of the test's own."""

from __future__ import annotations

from caliban.cli.context import Context
from caliban.main import parse


def call(context: Context, *words: str) -> int:
    """The exit code. Errors come through as they are: telling them is the work of ``main``."""
    args = parse(["caliban", *words], context.console)
    return int(args.command_module.run(args, context))
