"""The process that a command runs in, as one value that tests replace."""

from __future__ import annotations

import getpass
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

from caliban.cli.console import Console
from caliban.clock import Clock, SystemClock
from caliban.errors import UsageError

_SHOWN_BYTES = 100


def login_name(environ: Mapping[str, str]) -> str:
    """Return the user whose experiments are meant: ``$CALIBAN_USER``, else the login name, else ``$USER``.

    Raises:
        UsageError: ``no-user``: the system has no name for the user id, as in a container that runs with a bare one.
    """
    for variable in ("CALIBAN_USER", "LOGNAME", "USER"):
        if name := environ.get(variable):
            return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        raise UsageError(
            "no-user",
            "cannot determine the user name",
            cause=f"user id {os.getuid()} has no login name on this machine, and $USER is not set",
            hint="set $CALIBAN_USER to your name",
        ) from None


@dataclass(frozen=True)
class Context:
    """The process that a command runs in.

    Attributes:
        console: its standard streams.
        environ: its environment variables.
        cwd: its current directory; absolute.
        home: the user's home directory.
        user: whose experiments are meant.
        clock: the time.
    """

    console: Console
    environ: Mapping[str, str] = field(repr=False)
    cwd: Path
    home: Path
    user: str
    clock: Clock = field(default_factory=SystemClock, repr=False)

    def now(self) -> datetime:
        """Return the local time, naive, as the store records it."""
        return self.clock.now()

    @classmethod
    def of_this_process(cls, console: Console) -> Context:
        """Return the context of a command that was called in a shell.

        What the process does not have is an error only for a command that uses it: ``caliban help`` needs neither a
        user nor directories. For the errors, see :class:`_ProcessContext`.
        """
        return _ProcessContext(console)


class Environment(dict[str, str]):
    """Environment variables, of which the values that are used have to be text; a child process gets all as they are.

    Raises:
        UsageError: ``variable-not-text``, by ``[]`` and ``get``.
    """

    def __getitem__(self, name: str) -> str:
        value = super().__getitem__(name)
        if _is_text(value):
            return value
        try:
            return os.fsencode(value).decode("utf-8")  # in a locale that has another encoding
        except UnicodeDecodeError:
            raise UsageError(
                "variable-not-text",
                f"the environment variable {name} is not valid UTF-8: {os.fsencode(value)[:_SHOWN_BYTES]!r}",
                hint=f"set ${name} to text in UTF-8, or unset it",
            ) from None

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # no other default
        """Return a value as text."""
        return self[name] if name in self else default  # noqa: SIM401 - `get` is this method


class _ProcessContext(Context):
    """The context of this process; what it does not have is an error when it is first used."""

    def __init__(self, console: Console) -> None:
        vars(self).update(console=console, environ=Environment(os.environ), clock=SystemClock())

    @cached_property
    def cwd(self) -> Path:
        """The current directory.

        Raises:
            UsageError: ``no-folder``: it does not exist any more, or its name is not text.
        """
        try:
            return _checked(Path.cwd())
        except (OSError, ValueError) as error:
            raise UsageError(
                "no-folder",
                "cannot determine the current directory",
                cause=str(error),
                hint="change to a directory that exists",
            ) from error

    @cached_property
    def home(self) -> Path:
        """The user's home directory: ``$HOME``, else that of the user database.

        Raises:
            UsageError: ``no-folder``: it is not known, or not an absolute path in UTF-8.
        """
        try:
            return _checked(_home(self.environ.get("HOME")))
        except (KeyError, ValueError) as error:
            raise UsageError(
                "no-folder",
                "cannot determine the home directory",
                cause=str(error.args[0]),
                hint="set $HOME to the absolute path of your home directory",
            ) from error

    @cached_property
    def user(self) -> str:
        """See :func:`login_name`."""
        return login_name(self.environ)


def _home(variable: str | None) -> Path:
    if not variable:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    if not variable.startswith("/"):
        raise ValueError(f'$HOME is not an absolute path: "{variable}"')
    return Path(variable)


def _checked(directory: Path) -> Path:
    if not _is_text(str(directory)):
        raise ValueError(f"not valid UTF-8: {os.fsencode(directory)[:_SHOWN_BYTES]!r}")
    return directory


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
