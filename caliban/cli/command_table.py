"""The table of commands: name -> one line of help, and where the command is. It is imported only when it is used.

A command is a module, or any object, with what :class:`Command` declares. Packages add commands by the entry-point
group ``caliban.commands``::

    [project.entry-points."caliban.commands"]
    hello = "my_package.hello"
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from caliban.cli.context import Context
from caliban.cli.suggestions import closest
from caliban.entry_points import entry_points
from caliban.errors import CalibanError

ENTRY_POINT_GROUP = "caliban.commands"


class Command(Protocol):
    """What a command has, whether it is built in or a plugin.

    One with ``TAKES_SCRIPT_ARGS = True`` also accepts arguments after ``--``, in ``args.script_args``. One with
    ``CHANGES_JOBS = True`` starts or stops jobs, unless its flag ``--dry_run`` is set: its exit code is about them
    alone, also where its output is lost. The lines that a function ``describe_under_way(context)`` returns say what
    this process may have left unfinished; they are part of the report of an unforeseen error.
    ``USAGE`` is shown instead of a usage line with all flags.
    """

    DESCRIPTION: str
    """What ``caliban NAME --help`` shows below the usage line."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's flags and arguments. Import nothing heavy: ``--help`` pays for it."""

    def run(self, args: argparse.Namespace, context: Context) -> int:
        """Run the command, and return the exit code (:class:`caliban.errors.ExitCode`).

        Raises:
            CalibanError: the command failed; the caller prints it.
        """


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        name: what is typed: ``run``; built-in names may have several words: ``cluster job ls``.
        help: one line for ``caliban --help``.
        location: where the command is: ``package.module`` or ``package.module:attribute``.
        plugin: the package that provides it, or None for a built-in command.
    """

    name: str
    help: str
    location: str
    plugin: str | None = None


BUILT_IN: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("build", "build the container image of a script or module", "caliban.commands.build"),
        Entry("run", "run experiments in containers on this machine", "caliban.commands.run:COMMAND"),
        Entry("cloud", "submit experiments to a cloud training service", "caliban.commands.cloud:COMMAND"),
        Entry("cluster ls", "list the clusters that jobs can be submitted to", "caliban.commands.cluster.ls"),
        Entry("cluster job submit", "submit experiments to a cluster", "caliban.commands.cluster.job_submit:COMMAND"),
        Entry("cluster job ls", "list the jobs of a cluster", "caliban.commands.cluster.job_ls"),
        Entry("status", "show experiment groups and the state of their jobs", "caliban.commands.status"),
        Entry("logs", "show the output of jobs, while they run and afterwards", "caliban.commands.logs"),
        Entry("wait", "wait until jobs have ended", "caliban.commands.wait"),
        Entry("groups", "list your experiment groups", "caliban.commands.groups"),
        Entry("stop", "stop the running jobs of an experiment group", "caliban.commands.stop"),
        Entry("resubmit", "re-run the failed jobs of an experiment group", "caliban.resubmit.command"),
        Entry("abandon", "give up jobs whose state cannot be determined any more", "caliban.commands.abandon"),
        Entry("help", "show the help of a command", "caliban.commands.help"),
        Entry("version", "show the version of caliban", "caliban.commands.version"),
    )
}

_LONGEST_NAME = max(len(name.split()) for name in BUILT_IN)

_RERUN, _SHOW, _END, _GIVE_UP = ("resubmit",), ("status",), ("stop",), ("abandon",)
_LOGS = ("logs",)
_WAIT = ("wait",)

SUGGESTIONS: Mapping[str, tuple[str, ...]] = {
    "again": _RERUN,
    "re-run": _RERUN,
    "redo": _RERUN,
    "rerun": _RERUN,
    "restart": _RERUN,
    "retry": _RERUN,
    "info": _SHOW,
    "jobs": _SHOW,
    "list": _SHOW,
    "ls": _SHOW,
    "xgroups": ("groups",),
    "history": _SHOW,
    "ps": _SHOW,
    "show": _SHOW,
    "attach": _LOGS,
    "cat": _LOGS,
    "follow": _LOGS,
    "log": _LOGS,
    "output": _LOGS,
    "stdout": _LOGS,
    "tail": _LOGS,
    "watch": _SHOW,
    "await": _WAIT,
    "block": _WAIT,
    "join": _WAIT,
    "abort": _END,
    "cancel": _END,
    "delete": _END,
    "end": _END,
    "kill": _END,
    "terminate": _END,
    "discard": _GIVE_UP,
    "forget": _GIVE_UP,
    "giveup": _GIVE_UP,
    "give-up": _GIVE_UP,
    "exec": ("run",),
    "execute": ("run",),
    "local": ("run",),
    "start": ("run",),
    "train": ("run",),
    "launch": ("run", "cloud"),
    "submit": ("cloud", "cluster job submit"),
    "clusters": ("cluster ls",),
    "man": ("help",),
    "usage": ("help",),
}
"""Words that people type, because other tools have such commands -> our commands for "did you mean"."""


def plugins() -> dict[str, Entry]:
    """Return the commands of installed packages, none of them imported. A built-in name cannot be replaced."""
    found = {}
    for point in entry_points(ENTRY_POINT_GROUP)[0]:
        package = point.dist.name if point.dist else "an unknown package"
        if point.name not in BUILT_IN and not family([point.name]):
            found[point.name] = Entry(point.name, f"(from the package {package})", point.value, package)
    return found


def damaged_packages() -> list[str]:
    """Return the installed packages whose metadata cannot be read, each with the reason."""
    return entry_points(ENTRY_POINT_GROUP)[1]


def find(arguments: Sequence[str]) -> tuple[Entry | None, int]:
    """Return the command that a command line begins with, and the number of words of its name.

    Args:
        arguments: the command line from the command's name on: ``["cluster", "job", "ls", "--zone", ...]``.

    Returns:
        For an unknown command None, and the number of words that begin a built-in name, at least 1.
    """
    for length in range(min(len(arguments), _LONGEST_NAME), 0, -1):
        name = " ".join(arguments[:length])
        entry = BUILT_IN.get(name) or (plugins().get(name) if length == 1 else None)
        if entry is not None:
            return entry, length
    lengths = (n for n in range(min(len(arguments), _LONGEST_NAME), 1, -1) if family(arguments[:n]))
    return None, next(lengths, 1)


def family(beginning: Sequence[str]) -> tuple[Entry, ...]:
    """Return the built-in commands whose names begin with these words and continue: ``cluster ls`` for ``cluster``."""
    start = list(beginning)
    return tuple(
        entry
        for entry in BUILT_IN.values()
        if start and entry.name.split()[: len(start)] == start and entry.name != " ".join(start)
    )


def suggestions(name: str) -> tuple[str, ...]:
    """Return the commands that an unknown name was probably meant to be: by :data:`SUGGESTIONS`, else by spelling."""
    if name.lower() in SUGGESTIONS:
        return SUGGESTIONS[name.lower()]
    *beginning, last = name.split(" ")
    prefix = " ".join([*beginning, ""])
    names = [entry.name for entry in family(beginning)] if beginning else [*BUILT_IN, *plugins()]
    near = closest(last, [name.removeprefix(prefix) for name in names])
    return () if near is None else (prefix + near,)


def load(entry: Entry) -> Command:
    """Import a command.

    Raises:
        CalibanError: ``broken-plugin``, for a plugin that cannot be imported or is not a command.
    """
    if entry.plugin is None:
        return cast(Command, _imported(entry.location))
    try:
        with redirect_stdout(sys.stderr):  # what a package prints on import is part of no listing
            command = _imported(entry.location)
    except (Exception, SystemExit) as error:  # importing another package's code can raise anything
        raise _broken(entry, f"{type(error).__name__}: {error}") from error
    missing = [name for name in ("DESCRIPTION", "add_arguments", "run") if not hasattr(command, name)]
    if missing:
        raise _broken(entry, f"{entry.location} has no {', '.join(missing)}")
    return cast(Command, command)


def add_arguments(entry: Entry, command: Command, parser: argparse.ArgumentParser) -> None:
    """Add a command's flags and arguments, and check that the help of a plugin can be shown.

    Raises:
        CalibanError: ``broken-plugin``.
    """
    with plugin_errors(entry):
        command.add_arguments(parser)
        if entry.plugin is not None:
            parser.format_help()  # fails at a "%" in the description of a flag


@contextmanager
def plugin_errors(entry: Entry) -> Iterator[None]:
    """Raise ``broken-plugin`` for whatever another package's code raises in the block, except our errors."""
    try:
        yield
    except CalibanError:
        raise
    except Exception as error:  # a plugin may raise anything
        if entry.plugin is None:
            raise
        raise _broken(entry, f"{type(error).__name__}: {error}") from error


def _imported(location: str) -> object:
    module, _, attribute = location.partition(":")
    found: object = import_module(module)
    for part in attribute.split(".") if attribute else ():
        found = getattr(found, part)
    return found


def _broken(entry: Entry, cause: str) -> CalibanError:
    return CalibanError(
        "broken-plugin",
        f"cannot use the command {entry.name} of the package {entry.plugin}",
        cause=cause,
        hint=f"update or remove the package {entry.plugin}; all other commands work",
    )
