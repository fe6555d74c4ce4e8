"""The process: parse, dispatch, exit code. The one place where an error becomes a message."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from absl import app
from absl import logging as absl_logging
from absl.flags import argparse_flags

from caliban.cli import command_table as command_table
from caliban.cli.console import Console
from caliban.cli.context import Context
from caliban.errors import CalibanError, ExitCode, UsageError

_DESCRIPTION = "Run groups of experiments in containers, and re-run what failed with one command."


class _Parser(argparse_flags.ArgumentParser):
    """Flags are spelt out in full: in a tool that spends money, ``--all`` must not turn into ``--all_jobs``."""

    def __init__(self, prog: str, **kwargs: object) -> None:
        super().__init__(prog=prog, allow_abbrev=False, conflict_handler="resolve", **kwargs)  # type: ignore[no-untyped-call]  # absl has no types

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and which flag was perhaps meant."""
        self.print_usage(sys.stderr)
        known = [flag for action in self._actions for flag in action.option_strings]
        unknown = [word.partition("=")[0] for word in message.split() if word.startswith("--")]
        for word in unknown if message.startswith("unrecognized") else ():
            near = difflib.get_close_matches("--" + word[2:].replace("-", "_"), known, n=1)
            message += f"; did you mean {near[0]}?" if near else ""
        self.exit(ExitCode.USAGE, f"{self.prog}: error: {message}\n")


def parse(argv: Sequence[str], console: Console) -> argparse.Namespace:
    """Turn a command line into a Namespace, importing the chosen command alone.

    Args:
        argv: ``[program, word, ...]``.
        console: where to warn of plugins that are broken.

    Returns:
        The command's flags, and ``command_module``, and ``script_args``: the words after ``--``, which nobody but
        the experiment's own code looks at.

    Raises:
        CalibanError: ``broken-plugin``, ``argument-not-text``.
        SystemExit: after ``--help``, or when the words are wrong.
    """
    words = list(argv[1:])
    _check_text(words)
    script_args: list[str] | None = None
    if "--" in words:
        cut = words.index("--")
        words, script_args = words[:cut], words[cut + 1 :]
    begin = next((index for index, word in enumerate(words) if not word.startswith("-")), None)
    if begin is None:
        top = _top_parser(console)
        top.parse_args(words or ["--help"])
        top.error("no command is named")
    entry, length = command_table.find(words[begin:])
    if entry is None:
        family = command_table.family(words[begin : begin + length])
        if family and all(word.startswith("-") for word in words[begin + length :]):
            parser = _family_parser(family, " ".join(words[begin : begin + length]))
            parser.parse_args(words[begin + length :] or ["--help"])
            parser.error("no command is named")
        raise _unknown_command(" ".join(words[begin : begin + length + bool(family)]), words)
    del words[begin : begin + length]
    command = command_table.load(entry)
    parser = _Parser(f"caliban {entry.name}", description=command.DESCRIPTION)
    command.add_arguments(parser)
    args: argparse.Namespace = parser.parse_args(_with_values_attached(words, parser))
    if script_args is not None and not getattr(command, "TAKES_SCRIPT_ARGS", False):
        parser.error(f"{entry.name} takes no arguments after --")
    args.script_args = tuple(script_args or ())
    args.command_module = command
    return args


def _check_text(words: Sequence[str]) -> None:
    """Refuse bytes that are no UTF-8: the store, and every service, takes text alone."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError(
                "argument-not-text",
                f"an argument is not UTF-8 text: {os.fsencode(word)!r}",
                hint="write such bytes to a file, and name the file in its place",
            ) from None


def _top_parser(console: Console) -> _Parser:
    """``caliban`` without a command: help, with every command's line, and the version."""
    plugins = command_table.plugins()
    for entry in plugins.values():
        try:
            command_table.load(entry)
        except CalibanError as error:
            console.warn(f"{error.message}: {error.cause}")
    parser = _listing_parser(
        "caliban", "[--version] ", _DESCRIPTION, [*command_table.BUILT_IN.values(), *plugins.values()]
    )
    parser.add_argument("--version", action="version", version=f"caliban {metadata.version('caliban')}")
    return parser


def _family_parser(family: Sequence[command_table.Entry], name: str) -> _Parser:
    """``caliban cluster`` without the rest of a command: help, with the line of each that begins like that."""
    return _listing_parser(f"caliban {name}", "", f"The commands that begin with {name}.", family)


def _listing_parser(prog: str, flags: str, description: str, entries: Sequence[command_table.Entry]) -> _Parser:
    width = max(len(entry.name) for entry in entries)
    return _Parser(
        prog,
        usage=f"{prog} [-h] [--helpfull] {flags}COMMAND ...",
        description=description,
        epilog="commands:\n"
        + "\n".join(f"  {entry.name:{width}}  {entry.help}" for entry in entries)
        + "\n\ncaliban COMMAND --help tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _unknown_command(name: str, words: Sequence[str]) -> UsageError:
    known = [*command_table.BUILT_IN, *command_table.plugins()]
    near = difflib.get_close_matches(name, known, n=1)
    family = command_table.family(name.split()[:-1])
    if near:
        hint = f"did you mean {near[0]}?"
    elif family:
        hint = f"there are {', '.join(entry.name for entry in family)}"
    elif words[0] != name:
        hint = f"the command comes first: caliban COMMAND {words[0]} ..."
    else:
        hint = f"the commands are {', '.join(known)}"
    return UsageError("unknown-command", f"{name} is not a command of caliban", hint=hint)


def _with_values_attached(words: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """``--docker_run_args -v=/a:/b`` as ``--docker_run_args=-v=/a:/b``: argparse takes the value for a flag."""
    verbatim = {flag for action in parser._actions if action.metavar == "ARGS" for flag in action.option_strings}
    attached: list[str] = []
    pending = iter(words)
    for word in pending:
        value = next(pending, None) if word in verbatim else None
        attached.append(word if value is None else f"{word}={value}")
    return attached


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the chosen command, and turn every way in which it can end into an exit code."""
    _quiet_libraries()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends us lets us finish what is under way
    try:
        return int(args.command_module.run(args, Context.of_this_process(console)))
    except CalibanError as error:
        console.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        console.info("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _write_no_more()
        return ExitCode.NOT_DONE


def _write_no_more() -> None:
    """Whoever read our output has enough: ``caliban status | head``."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _quiet_libraries() -> None:
    """What libraries log and warn of is their makers': what is wrong, caliban tells."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    absl_logging.get_absl_handler().setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.getLogger().setLevel(logging.ERROR)


def main() -> NoReturn:
    """Entry point of the command ``caliban``."""
    console = Console()

    def parse_flags(argv: Sequence[str]) -> argparse.Namespace:
        try:
            return parse(argv, console)
        except CalibanError as error:
            console.error(error)
            sys.exit(error.exit_code)
        except BrokenPipeError:  # help that nobody reads on; from Python 3.11, argparse takes that well by itself
            _write_no_more()
            sys.exit(ExitCode.DONE)

    app.run(lambda args: run(args, console), flags_parser=parse_flags)
    raise AssertionError("absl.app.run ends the process")
