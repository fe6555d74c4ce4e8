"""The process that a command runs in, as one value that tests replace."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from caliban.cli.console import Console
from caliban.clock import Clock, SystemClock
from caliban.errors import UsageError


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

        Raises:
            UsageError: ``no-user``, see :func:`login_name`; ``no-folder``: the current directory does not exist, or the
                home directory is not known.
        """
        environ = dict(os.environ)
        try:
            cwd, home = Path.cwd(), Path.home()
        except (OSError, RuntimeError) as error:
            raise UsageError(
                "no-folder",
                "cannot determine the current directory or the home directory",
                cause=str(error),
                hint="change to a directory that exists, and set $HOME to your home directory",
            ) from error
        return cls(console, environ, cwd, home, login_name(environ))
