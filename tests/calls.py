"""A command called in this process: parsed as ``main`` does, and run in a context of the test's own."""

from __future__ import annotations

from typing import Any

from caliban.cli.command_line import parse
from caliban.cli.context import Context
from caliban.errors import CalibanError
from tests.conftest import ScreenContext
from tests.json_documents import checked


def call(context: Context, *words: str) -> int:
    """The exit code. Errors come through as they are: telling them is the work of ``main``."""
    code = _run(context, *words)
    context.console.write_document(code)
    if context.console.writes_document and hasattr(context, "out"):
        checked(context.out)
    return code


def result_of(context: ScreenContext, *words: str) -> dict[str, Any]:
    """The document of a command with ``--json``, which may end with an error, as ``main`` writes it."""
    try:
        context.console.write_document(_run(context, *words))
    except CalibanError as error:
        context.console.write_document(error.exit_code, error)
    except KeyboardInterrupt:
        context.console.write_document(130, CalibanError("interrupted", "interrupted"))
    return checked(context.out)


def _run(context: Context, *words: str) -> int:
    args = parse(["caliban", *words], context.console)
    context.console.writes_document = getattr(args, "as_json", False)
    return int(args.command_module.run(args, context))
