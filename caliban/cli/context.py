"""Everything that a command knows of the world around it, as one value that tests replace."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from caliban.cli.console import Console
from caliban.errors import UsageError


def login_name(environ: Mapping[str, str]) -> str:
    """Whose experiments these are: ``$CALIBAN_USER``, else the login name, else ``$USER``.

    Raises:
        UsageError: nobody is logged in as far as the system knows, as in a container with a bare uid.
    """
    for variable in ("CALIBAN_USER", "LOGNAME", "USER"):
        if name := environ.get(variable):
            return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        raise UsageError(
            "no-user",
            "whose experiments these are is not known",
            cause=f"user id {os.getuid()} has no login name here, and $USER is not set",
            hint="set $CALIBAN_USER to your name",
        ) from None


@dataclass(frozen=True)
class Context:
    """The process that a command runs in.

    Attributes:
        console: the terminal, or what stands for it.
        environ: the environment variables.
        cwd: the folder that the command was called in; absolute.
        home: the user's home folder.
        user: whose experiments are meant.
        now: the local time, naive, as the store records it.
    """

    console: Console
    environ: Mapping[str, str] = field(repr=False)
    cwd: Path
    home: Path
    user: str
    now: Callable[[], datetime] = field(default=datetime.now)

    @classmethod
    def of_this_process(cls, console: Console) -> Context:
        """The context of a command that was called in a shell.

        Raises:
            UsageError: ``no-user``, see :func:`login_name`; ``no-folder``, when the current one or the home folder is
                not there.
        """
        environ = dict(os.environ)
        try:
            cwd, home = Path.cwd(), Path.home()
        except (OSError, RuntimeError) as error:
            raise UsageError(
                "no-folder",
                "the current folder, or your home folder, is not known",
                cause=str(error),
                hint="go to a folder that is there; $HOME names the home folder",
            ) from error
        return cls(console, environ, cwd, home, login_name(environ))
