"""The argument parser of a command: wrong usage is an error like any other, and flags may be spelt with hyphens."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn, TextIO, cast

from absl.flags import Error as AbslFlagError
from absl.flags import argparse_flags

from caliban.cli.flag_files import expand
from caliban.cli.suggestions import closest
from caliban.errors import UsageError
from caliban.escapes import escaped
from caliban.input_files import shortened

VERBATIM = "ARGS"
"""The metavar of a flag whose value may look like a flag: ``--docker_run_args --init``."""

_REQUIRED = "the following arguments are required: "
_IGNORED_VALUE = re.compile(r"ignored explicit argument (['\"])(.*)\1", re.DOTALL)
_REPORTED = 10  # arguments that an error names, at most
_NOT_SUGGESTED = ("--help", "--helpfull")


class Parser(argparse_flags.ArgumentParser):
    """An argparse parser that also takes absl's flags, and raises :class:`UsageError` instead of printing its usage.

    Flags cannot be abbreviated: in a tool that spends money, ``--all`` must not turn into ``--all_jobs``.
    """

    def __init__(self, prog: str, **kwargs: object) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # absl has no types
            prog=prog, allow_abbrev=False, exit_on_error=False, conflict_handler="resolve", **kwargs
        )

    def parse(self, arguments: Sequence[str], *, script: Sequence[str] | None = None) -> argparse.Namespace:
        """Parse a command line.

        Args:
            arguments: those after the command's name, up to ``--``.
            script: the arguments after ``--``, for a command that takes them; None for one that does not.

        Raises:
            UsageError: ``unknown-flag``, ``unexpected-argument``, ``missing-argument``, ``invalid-value``.
            SystemExit: after ``--help``.
        """
        try:
            args, unknown = self.parse_known_args(expand(list(self._normalized(arguments))))  # type: ignore[no-untyped-call]  # as above
        except argparse.ArgumentError as error:
            if error.argument_name is None:
                self.error(error.message)
            raise self._usage_error("invalid-value", f"{error.argument_name}: {_reworded(error.message)}") from error
        except (AbslFlagError, ValueError) as error:  # some of absl's flags raise the latter
            raise self._invalid_absl_flag(str(error)) from error
        if unknown:
            raise self._unknown(unknown, args, takes_script_arguments=script is not None)
        assert isinstance(args, argparse.Namespace)
        return args

    def _print_message(self, message: str, file: object = None) -> None:
        """Print help, escaped as all other output; a plugin's may come from anywhere."""
        (sys.stderr if file is None else cast("TextIO", file)).write(
            "\n".join(escaped(line) for line in message.split("\n"))
        )

    def error(self, message: str) -> NoReturn:
        """Raise what argparse reports of the command line as a whole.

        Raises:
            UsageError: always.
        """
        if not message.startswith(_REQUIRED):
            raise self._usage_error("wrong-usage", message)
        missing = message.removeprefix(_REQUIRED)
        helps = [action.help for action in self._actions if missing in (action.metavar, *action.option_strings)]
        raise UsageError(
            "missing-argument",
            f"{missing} {'are' if ', ' in missing else 'is'} required",
            hint=f"{missing}: {helps[0]}" if helps and helps[0] else self._help_hint(),
        )

    def _invalid_absl_flag(self, cause: str) -> UsageError:
        hint = f'for details, run "{self.prog} --helpfull"'
        return UsageError("invalid-value", "invalid value of an absl flag", cause=cause, hint=hint)

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            choices = ", ".join(map(str, action.choices))
            raise argparse.ArgumentError(action, f'invalid choice "{shortened(str(value))}" (choose from {choices})')

    def _get_value(self, action: argparse.Action, text: str) -> object:
        try:
            return super()._get_value(action, text)
        except argparse.ArgumentError as error:
            if isinstance(error.__context__, argparse.ArgumentTypeError):
                raise
            raise argparse.ArgumentError(action, f'invalid value "{shortened(text, 10_000)}"') from error

    def _normalized(self, arguments: Sequence[str]) -> Iterator[str]:
        """Spell flags as they were declared, and attach the values that argparse would take for flags."""
        flags = {flag: action for action in self._actions for flag in action.option_strings}
        pending = iter(arguments)
        for argument in pending:
            typed, equals, value = argument.partition("=")
            flag = typed if typed in flags or not typed.startswith("--") else "--" + typed[2:].replace("-", "_")
            if flag not in flags:
                yield argument
                continue
            following = next(pending, None) if flags[flag].metavar == VERBATIM and not equals else None
            yield f"{flag}{equals}{value}" if following is None else f"{flag}={following}"

    def _unknown(self, unknown: Sequence[str], args: argparse.Namespace, *, takes_script_arguments: bool) -> UsageError:
        """Return the error for arguments that the command does not take; ``args`` are those that it does."""
        flags = [argument.partition("=")[0] for argument in unknown if argument.startswith("-")]
        what = "unknown flag" if flags else "unexpected argument"
        reported = flags or unknown
        own = self._own_flags()
        near = [match for match in (closest(flag, own) for flag in flags[:_REPORTED]) if match is not None]
        if near:
            hint = f"did you mean {', '.join(dict.fromkeys(near))}?"
        elif takes_script_arguments and (flags or self._takes_module):
            argument, module = shlex.quote(shortened(reported[0])), " MODULE" if self._takes_module else " ..."
            hint = f"put the arguments of your script after --: {self.prog}{module} -- {argument} ..."
        elif not flags and len(unknown) == 1 and getattr(args, "xgroup", "") is None:
            hint = f"did you mean --xgroup {shlex.quote(shortened(unknown[0]))}?"
        else:
            hint = self._help_hint()
        names = shortened(", ".join(f'"{shortened(name)}"' for name in reported[:_REPORTED]), 2000)
        return UsageError(what.replace(" ", "-"), f"{what}{'s' if len(reported) > 1 else ''} {names}", hint=hint)

    @property
    def _takes_module(self) -> bool:
        return any(action.dest == "module" for action in self._actions)

    def _own_flags(self) -> list[str]:
        """The long flags that ``--help`` shows, or a description in it names: those of the command, not absl's."""
        named = re.findall(r"--\w+", self.description or "")
        shown = (action for action in self._actions if action.help is not argparse.SUPPRESS)
        flags = [*(flag for action in shown for flag in action.option_strings), *named]
        return [flag for flag in flags if flag.startswith("--") and flag not in _NOT_SUGGESTED]

    def _usage_error(self, id: str, message: str) -> UsageError:
        return UsageError(id, message, hint=self._help_hint())

    def _help_hint(self) -> str:
        return f'for details, run "{self.prog} --help"'


def _reworded(message: str) -> str:
    ignored = _IGNORED_VALUE.fullmatch(message)
    return f'takes no value, got "{shortened(ignored[2])}"' if ignored else message
