"""``make docs``: writes ``docs/commands.md`` from the commands' own flags, and the tables of ``docs/json.md`` from the
schemas; with ``--check``, checks them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from caliban.cli import command_table as cli_command_table
from json_docs import PAGE as JSON_PAGE
from json_docs import json_page

PAGE = Path(__file__).resolve().parent.parent / "docs" / "commands.md"


def command_reference() -> str:
    """Every command with its flags, as the commands themselves declare them."""
    lines = ["# Commands", "", "Written by `make docs` from the commands' own flags.", ""]
    for entry in cli_command_table.BUILT_IN.values():
        lines += [f"## caliban {entry.name}", "", *_command(cli_command_table.load(entry)), ""]
    return "\n".join(lines).rstrip() + "\n"


def _command(command: cli_command_table.Command) -> Iterator[str]:
    parser = argparse.ArgumentParser(add_help=False)
    command.add_arguments(parser)
    yield command.DESCRIPTION
    yield ""
    yield "| flag | meaning |"
    yield "|---|---|"
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:  # the description names it
            continue
        name = ", ".join(action.option_strings) or str(action.metavar)
        value = "" if action.nargs == 0 or not action.option_strings else f" {action.metavar or action.dest.upper()}"
        yield f"| `{name}{value}` | {(action.help or '').replace('|', '/')} |"
    if getattr(command, "TAKES_SCRIPT_ARGS", False):
        has_module = any(action.dest == "module" for action in parser._actions)
        meaning = "arguments for the script, passed on as they are" if has_module else "parameters to change or add"
        yield f"| `-- ARGS` | {meaning} |"


def main() -> int:
    """Write the pages; with ``--check``, only tell whether one is out of date."""
    pages = {PAGE: command_reference(), JSON_PAGE: json_page()}
    if sys.argv[1:] == ["--check"]:
        return int(any(not page.exists() or page.read_text(encoding="utf-8") != text for page, text in pages.items()))
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
