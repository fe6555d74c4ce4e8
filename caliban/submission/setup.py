"""What a command that deals with jobs needs first: the platforms, and one connection to the Docker Engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from caliban.clock import Clock, SystemClock
from caliban.platforms import flags, registry
from caliban.platforms.context import PlatformContext
from caliban.platforms.registry import Platforms
from caliban.reporter import Reporter

if TYPE_CHECKING:
    from caliban.images.docker.engine import Engine
    from caliban.images.dockerfile import BuildUser
    from caliban.images.secret_rules import SecretFiles


def make_platforms(
    environ: Mapping[str, str],
    home: Path,
    reporter: Reporter,
    options: Mapping[str, object] | None = None,
    clock: Clock | None = None,
) -> Platforms:
    """Return the platforms of one command. Nothing is imported or connected to before it is used.

    Args:
        environ: the environment variables.
        home: the user's home directory.
        reporter: where platforms report to.
        options: the values of the command's flags, by name.
        clock: the time, and waiting; None for that of this machine.
    """

    @cache
    def engine() -> Engine:
        from caliban.images.docker.engine import Engine

        return Engine.connect(environ, secret_files(options or {}), on_slow=reporter.info)

    return Platforms(PlatformContext(environ, home, reporter, engine, options or {}, clock or SystemClock()))


def secret_files(options: Mapping[str, object]) -> SecretFiles:
    """Return which files never go into an image.

    Args:
        options: the values of the command's flags, by name.
    """
    from caliban.images.secret_rules import SecretFiles

    key = flags.cloud_key(options)
    return registry.secret_files().combined(SecretFiles(files=() if key is None else (str(key),)))


def build_user(name: str) -> BuildUser:
    """Return the calling user, as whom the code in an image runs."""
    from caliban.images.dockerfile import BuildUser

    return BuildUser(os.getuid(), os.getgid(), name)
