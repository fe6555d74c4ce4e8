"""Parse a command line: find the command, import only that, and let its parser read the rest."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import suppress

from caliban.cli import command_table
from caliban.cli.command_table import Command, Entry
from caliban.cli.console import Console
from caliban.cli.flag_files import expand
from caliban.cli.parser import Parser
from caliban.errors import CalibanError, UsageError
from caliban.input_files import shortened

_DESCRIPTION = "Run groups of experiments in containers, and re-run what failed with one command."
_JSON = "--json"


def version() -> str:
    """Return the line that ``caliban version`` prints."""
    return f"caliban {version_number() or '(not installed: its version is not known)'}"


def version_number() -> str | None:
    """Return ``0.5.0``; None where caliban is run from a directory with its source."""
    from importlib import metadata  # it takes as long as all of caliban that help needs

    try:
        return metadata.version("caliban")
    except metadata.PackageNotFoundError:
        return None


def parse(argv: Sequence[str], console: Console) -> argparse.Namespace:
    """Parse a command line, importing only the command that it names.

    Args:
        argv: ``[program, argument, ...]``.
        console: where to report broken plugins.

    Returns:
        The values of the command's flags; ``command_module``, the command; and ``script_args``, the arguments after
        ``--``, untouched; and ``command_plugin``, the package that the command is of, or None.

    Raises:
        UsageError: the command line is wrong.
        CalibanError: ``broken-plugin``.
        SystemExit: after ``--help`` and ``--version``.
    """
    arguments = list(argv[1:])
    _check_text(arguments)
    script: list[str] | None = None
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, script = arguments[:cut], arguments[cut + 1 :]
    first = next((index for index, argument in enumerate(arguments) if not argument.startswith("-")), None)
    if first is None:
        _top_parser(console).parse(arguments or ["--help"])
        raise UsageError("missing-command", "no command given", hint='for a list of commands, run "caliban help"')
    entry, length = command_table.find(arguments[first:])
    if entry is None:
        raise _incomplete_or_unknown(arguments, first, length)
    del arguments[first : first + length]
    return _parse_command(entry, arguments, script)


def _parse_command(entry: Entry, arguments: Sequence[str], script: Sequence[str] | None) -> argparse.Namespace:
    command, parser = _command_parser(entry)
    takes_script_arguments = getattr(command, "TAKES_SCRIPT_ARGS", False)
    with command_table.plugin_errors(entry):
        args = parser.parse(arguments, script=(script or ()) if takes_script_arguments else None)
    if script is not None and not takes_script_arguments:
        raise UsageError(
            "unexpected-argument",
            f'"caliban {entry.name}" takes no arguments after --',
            hint=f'for details, run "caliban {entry.name} --help"',
        )
    args.script_args = tuple(script or ())
    args.command_module = command
    args.command_plugin = entry.plugin
    return args


def asks_for_document(argv: Sequence[str]) -> bool:
    """Return whether ``--json`` is among the flags of a command line, which may be wrong otherwise.

    Args:
        argv: ``[program, argument, ...]``.
    """
    arguments = list(argv[1:])
    flags = arguments[: arguments.index("--")] if "--" in arguments else arguments
    with suppress(UsageError):  # reported when the command line is parsed
        flags = expand(flags)
    return any(flag == _JSON or flag.startswith(f"{_JSON}=") for flag in flags)


def help_parser(name: Sequence[str], console: Console) -> Parser:
    """Return the parser whose help describes a command, several that begin alike, or all.

    Raises:
        UsageError: ``unknown-command``.
        CalibanError: ``broken-plugin``.
    """
    if not name:
        return _top_parser(console)
    entry, length = command_table.find(name)
    if entry is not None and length == len(name):
        return _command_parser(entry)[1]
    family = command_table.family(name)
    if family:
        return _family_parser(family, " ".join(name))
    raise _unknown_command(" ".join(name))


def _check_text(arguments: Sequence[str]) -> None:
    """Refuse bytes that are not UTF-8, and NUL: the store and every service accept only text."""
    for argument in arguments:
        try:
            argument.encode()
            if "\0" in argument:
                raise UsageError(
                    "argument-not-text", f"argument contains NUL: {shortened(argument)!r}", hint="remove the character"
                )
        except UnicodeEncodeError:
            raise UsageError(
                "argument-not-text",
                f"argument is not valid UTF-8: {_as_bytes(shortened(argument))!r}",
                hint="write the bytes to a file, and pass the file's name instead",
            ) from None


def _as_bytes(argument: str) -> bytes:
    try:
        return os.fsencode(argument)
    except UnicodeEncodeError:  # no argument of a process has such characters
        return argument.encode(errors="backslashreplace")


def _command_parser(entry: Entry) -> tuple[Command, Parser]:
    command = command_table.load(entry)
    usage = getattr(command, "USAGE", None)
    parser = Parser(f"caliban {entry.name}", usage=usage, description=str(command.DESCRIPTION))
    command_table.add_arguments(entry, command, parser)
    return command, parser


def _top_parser(console: Console) -> Parser:
    """Return the parser of ``caliban`` without a command; its help lists all commands."""
    for problem in command_table.damaged_packages():
        console.warn(f"cannot read the metadata of an installed package: {problem}")
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


def _incomplete_or_unknown(arguments: Sequence[str], first: int, length: int) -> UsageError:
    """Return the error for a command line without a known command; show the help of ``caliban cluster`` and the like.

    Args:
        arguments: the command line without the program and the script's arguments.
        first: the index of the first that is not a flag.
        length: how many from there are the beginning of a command's name, at least 1.
    """
    beginning, rest = arguments[first : first + length], arguments[first + length :]
    family = command_table.family(beginning)
    name = " ".join(beginning)
    if family and all(argument.startswith("-") for argument in rest):
        _family_parser(family, name).parse([*arguments[:first], *rest] or ["--help"])
        return UsageError("missing-command", f'"caliban {name}" is not a complete command', hint=_names(family))
    name = " ".join(arguments[first : first + length + bool(family)])
    return _unknown_command(name, flag=arguments[0] if first else None)


def _unknown_command(name: str, *, flag: str | None = None) -> UsageError:
    """Return the error for an unknown command.

    Args:
        name: what was typed: ``staus``, ``cluster lst``.
        flag: the flag that precedes it, whose value it may be.
    """
    family = command_table.family(name.split(" ")[:-1])
    suggestions = command_table.suggestions(name)
    if suggestions:
        quoted = (f'"caliban {suggestion}"' for suggestion in suggestions)
        hint = f"did you mean {' or '.join(quoted)}?"
    elif flag is not None:
        hint = f"put the command first: caliban COMMAND {flag} ..."
    else:
        hint = _names(family or [*command_table.BUILT_IN.values(), *command_table.plugins().values()])
    return UsageError("unknown-command", f'unknown command "{shortened(name)}"', hint=hint)


def _names(entries: Sequence[Entry]) -> str:
    return f"the commands are {', '.join(entry.name for entry in entries)}"
