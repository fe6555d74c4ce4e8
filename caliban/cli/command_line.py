"""Parse a command line: find the command, import it alone, and let its own parser read the rest."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib import metadata

from caliban.cli import command_table
from caliban.cli.command_table import Command, Entry
from caliban.cli.console import Console
from caliban.cli.parser import Parser
from caliban.errors import CalibanError, UsageError

_DESCRIPTION = "Run groups of experiments in containers, and re-run what failed with one command."


def version() -> str:
    """Return the line that ``caliban version`` prints."""
    return f"caliban {metadata.version('caliban')}"


def parse(argv: Sequence[str], console: Console) -> argparse.Namespace:
    """Parse a command line, importing only the command that it names.

    Args:
        argv: ``[program, word, ...]``.
        console: where to report broken plugins.

    Returns:
        The values of the command's flags; ``command_module``, the command; and ``script_args``, the arguments after
        ``--``, untouched.

    Raises:
        UsageError: the command line is wrong.
        CalibanError: ``broken-plugin``.
        SystemExit: after ``--help`` and ``--version``.
    """
    words = list(argv[1:])
    _check_text(words)
    script: list[str] | None = None
    if "--" in words:
        cut = words.index("--")
        words, script = words[:cut], words[cut + 1 :]
    first = next((index for index, word in enumerate(words) if not word.startswith("-")), None)
    if first is None:
        _top_parser(console).parse(words or ["--help"])
        raise UsageError("missing-command", "no command given", hint='for a list of commands, run "caliban help"')
    entry, length = command_table.find(words[first:])
    if entry is None:
        raise _incomplete_or_unknown(words, first, length)
    del words[first : first + length]
    return _parse_command(entry, words, script)


def _parse_command(entry: Entry, words: Sequence[str], script: Sequence[str] | None) -> argparse.Namespace:
    command, parser = _command_parser(entry)
    takes_script_arguments = getattr(command, "TAKES_SCRIPT_ARGS", False)
    args = parser.parse(words, script=(script or ()) if takes_script_arguments else None)
    if script is not None and not takes_script_arguments:
        raise UsageError(
            "unexpected-argument",
            f'"caliban {entry.name}" takes no arguments after --',
            hint=f'for details, run "caliban {entry.name} --help"',
        )
    args.script_args = tuple(script or ())
    args.command_module = command
    return args


def help_parser(words: Sequence[str], console: Console) -> Parser:
    """Return the parser whose help describes a command, the commands that begin with ``words``, or, for no words, all.

    Raises:
        UsageError: ``unknown-command``.
        CalibanError: ``broken-plugin``.
    """
    if not words:
        return _top_parser(console)
    entry, length = command_table.find(words)
    if entry is not None and length == len(words):
        return _command_parser(entry)[1]
    family = command_table.family(words)
    if family:
        return _family_parser(family, " ".join(words))
    raise _unknown_command(" ".join(words))


def _check_text(words: Sequence[str]) -> None:
    """Refuse bytes that are not UTF-8: the store and every service accept only text."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError(
                "argument-not-text",
                f"argument is not valid UTF-8: {os.fsencode(word)!r}",
                hint="write the bytes to a file, and pass the file's name instead",
            ) from None


def _command_parser(entry: Entry) -> tuple[Command, Parser]:
    command = command_table.load(entry)
    parser = Parser(f"caliban {entry.name}", description=command.DESCRIPTION)
    command.add_arguments(parser)
    return command, parser


def _top_parser(console: Console) -> Parser:
    """Return the parser of ``caliban`` without a command; its help lists all commands."""
    plugins = command_table.plugins()
    for entry in plugins.values():
        try:
            command_table.load(entry)
        except CalibanError as error:
            console.warn(f"{error.message}: {error.cause}")
    entries = [*command_table.BUILT_IN.values(), *plugins.values()]
    parser = _listing_parser("caliban", "[--version] ", _DESCRIPTION, entries)
    parser.add_argument("--version", action="version", version=version())
    return parser


def _family_parser(family: Sequence[Entry], name: str) -> Parser:
    """Return the parser of ``caliban cluster`` without the rest of a command's name; its help lists what begins so."""
    return _listing_parser(f"caliban {name}", "", f'Commands that begin with "{name}".', family)


def _listing_parser(prog: str, flags: str, description: str, entries: Sequence[Entry]) -> Parser:
    width = max(len(entry.name) for entry in entries)
    return Parser(
        prog,
        usage=f"{prog} [-h] [--helpfull] {flags}COMMAND ...",
        description=description,
        epilog="commands:\n"
        + "\n".join(f"  {entry.name:{width}}  {entry.help}" for entry in entries)
        + '\n\nRun "caliban COMMAND --help" for details.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _incomplete_or_unknown(words: Sequence[str], first: int, length: int) -> UsageError:
    """Return the error for words that name no command; show the help of ``caliban cluster`` and the like.

    Args:
        words: the command line without the program and the script's arguments.
        first: the index of the command's first word.
        length: how many words from there are the beginning of a command's name, at least 1.
    """
    beginning, rest = words[first : first + length], words[first + length :]
    family = command_table.family(beginning)
    name = " ".join(beginning)
    if family and all(word.startswith("-") for word in rest):
        _family_parser(family, name).parse([*words[:first], *rest] or ["--help"])
        return UsageError("missing-command", f'"caliban {name}" is not a complete command', hint=_names(family))
    name = " ".join(words[first : first + length + bool(family)])
    return _unknown_command(name, flag=words[0] if first else None)


def _unknown_command(name: str, *, flag: str | None = None) -> UsageError:
    """Return the error for an unknown command.

    Args:
        name: what was typed: ``staus``, ``cluster lst``.
        flag: the flag that precedes it, whose value it may be.
    """
    family = command_table.family(name.split()[:-1])
    suggestions = command_table.suggestions(name)
    if suggestions:
        quoted = (f'"caliban {suggestion}"' for suggestion in suggestions)
        hint = f"did you mean {' or '.join(quoted)}?"
    elif flag is not None:
        hint = f"put the command first: caliban COMMAND {flag} ..."
    else:
        hint = _names(family or [*command_table.BUILT_IN.values(), *command_table.plugins().values()])
    return UsageError("unknown-command", f'unknown command "{name}"', hint=hint)


def _names(entries: Sequence[Entry]) -> str:
    return f"the commands are {', '.join(entry.name for entry in entries)}"
