"""A command called in this process: parsed as ``main`` does, and run in a context of the test's own."""

from __future__ import annotations

from caliban.cli.command_line import parse
from caliban.cli.context import Context
from tests.json_documents import checked


def call(context: Context, *words: str) -> int:
    """The exit code. Errors come through as they are: telling them is the work of ``main``."""
    args = parse(["caliban", *words], context.console)
    context.console.writes_document = getattr(args, "as_json", False)
    code = int(args.command_module.run(args, context))
    context.console.write_document(code)
    if context.console.writes_document and hasattr(context, "out"):
        checked(context.out)
    return code
