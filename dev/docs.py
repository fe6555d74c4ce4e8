"""``make docs``: writes ``docs/commands.md`` from the commands' own flags, or checks it with ``--check``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from caliban.cli import command_table as cli_command_table

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
        name = ", ".join(action.option_strings) or str(action.metavar)
        value = "" if action.nargs == 0 or not action.option_strings else f" {action.metavar or action.dest.upper()}"
        yield f"| `{name}{value}` | {(action.help or '').replace('|', '/')} |"
    if getattr(command, "TAKES_SCRIPT_ARGS", False):
        yield "| `-- ARGS` | arguments for the script, passed on as they are |"


def main() -> int:
    """Write the page; with ``--check``, only tell whether it is out of date."""
    text = command_reference()
    if sys.argv[1:] == ["--check"]:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
