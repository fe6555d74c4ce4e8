"""The table of commands: name -> module and one line of help. A command's module is imported when it is chosen.

A command is a module (or any object) with the three things that :class:`Command` names. Commands of other packages
come in by the entry-point group ``caliban.commands``::

    [project.entry-points."caliban.commands"]
    hello = "my_package.hello"
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Protocol, cast

from caliban.cli.context import Context
from caliban.errors import CalibanError

ENTRY_POINT_GROUP = "caliban.commands"


class Command(Protocol):
    """What a command's module has at its top level. ``caliban resubmit`` is one; so is anybody's plugin."""

    DESCRIPTION: str
    """What ``caliban NAME --help`` says below the usage line."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's flags and arguments. Import nothing heavy here: ``--help`` pays for it."""

    def run(self, args: argparse.Namespace, context: Context) -> int:
        """Do it, and answer the exit code (:class:`caliban.errors.ExitCode`). May raise CalibanError."""


@dataclass(frozen=True)
class Entry:
    """A command that can be chosen.

    Attributes:
        name: what is typed: ``run``; of ours, several words too: ``cluster job ls``.
        help: one line for ``caliban --help``.
        module: where it lives: ``caliban.commands.run``, or ``package.module:attribute``.
        plugin: the package that brings it, or None for ours.
    """

    name: str
    help: str
    module: str
    plugin: str | None = None


BUILT_IN: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("build", "build the container image of a script or module", "caliban.commands.build"),
        Entry("run", "run experiments in containers on this machine", "caliban.commands.run"),
        Entry("cloud", "submit experiments to Vertex AI", "caliban.commands.cloud"),
        Entry("cluster ls", "list the clusters that jobs can be submitted to", "caliban.commands.cluster.ls"),
        Entry(
            "cluster job submit", "submit experiments to a Kubernetes cluster", "caliban.commands.cluster.job_submit"
        ),
        Entry("cluster job ls", "list the jobs of a cluster", "caliban.commands.cluster.job_ls"),
        Entry("status", "show experiment groups and the state of their jobs", "caliban.commands.status"),
        Entry("stop", "stop the running jobs of an experiment group", "caliban.commands.stop"),
        Entry("resubmit", "re-run the jobs of an experiment group that failed", "caliban.resubmit.command"),
    )
}

_LONGEST_NAME = max(len(name.split()) for name in BUILT_IN)


def plugins() -> dict[str, Entry]:
    """The commands that installed packages bring, none of them imported. A name of ours cannot be taken over."""
    found = {}
    for point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        package = point.dist.name if point.dist else "an unknown package"
        if point.name not in BUILT_IN and not family([point.name]):
            found[point.name] = Entry(point.name, f"(from the package {package})", point.value, package)
    return found


def find(words: Sequence[str]) -> tuple[Entry | None, int]:
    """The command that a command line begins with, and how many words its name has.

    Args:
        words: from the command's first word on: ``["cluster", "job", "ls", "--zone", ...]``.

    Returns:
        None for an unknown command, with how many words are the beginning of a name, 1 at least.
    """
    for length in range(min(len(words), _LONGEST_NAME), 0, -1):
        name = " ".join(words[:length])
        entry = BUILT_IN.get(name) or (plugins().get(name) if length == 1 else None)
        if entry is not None:
            return entry, length
    return None, next((n for n in range(_LONGEST_NAME, 1, -1) if len(words) >= n and family(words[:n])), 1)


def family(beginning: Sequence[str]) -> tuple[Entry, ...]:
    """The commands of ours whose names begin with these words, and have more: ``cluster ls`` for ``cluster``."""
    start = list(beginning)
    return tuple(
        entry
        for entry in BUILT_IN.values()
        if start and entry.name.split()[: len(start)] == start and entry.name != " ".join(start)
    )


def load(entry: Entry) -> Command:
    """Import a command.

    Raises:
        CalibanError: ``broken-plugin``, when another package's command cannot be imported or is not a command.
    """
    module, _, attribute = entry.module.partition(":")
    if entry.plugin is None:
        return cast(Command, import_module(module))
    try:
        command: object = import_module(module)
        for part in attribute.split(".") if attribute else ():
            command = getattr(command, part)
    except (Exception, SystemExit) as error:  # importing somebody else's code can raise anything
        raise _broken(entry, f"{type(error).__name__}: {error}") from error
    missing = [name for name in ("DESCRIPTION", "add_arguments", "run") if not hasattr(command, name)]
    if missing:
        raise _broken(entry, f"{entry.module} has no {', '.join(missing)}")
    return cast(Command, command)


def _broken(entry: Entry, cause: str) -> CalibanError:
    return CalibanError(
        "broken-plugin",
        f"the command {entry.name} of the package {entry.plugin} cannot be used",
        cause=cause,
        hint=f"update or remove the package {entry.plugin}; all other commands work",
    )
