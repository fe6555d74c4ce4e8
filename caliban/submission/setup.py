"""What a command that deals with jobs needs first: the platforms, and one connection to the Docker Engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from caliban.platforms.base import PlatformContext, Platforms
from caliban.reporter import Reporter

if TYPE_CHECKING:
    from caliban.images.docker.engine import Engine
    from caliban.images.dockerfile import BuildUser


def make_platforms(
    environ: Mapping[str, str],
    home: Path,
    reporter: Reporter,
    *,
    project_id: str | None = None,
    cloud_key: Path | None = None,
) -> Platforms:
    """The platforms for one command. Nothing is imported or connected to until it is asked for."""

    @cache
    def engine() -> Engine:
        from caliban.images.docker.engine import Engine

        return Engine.connect(environ)

    return Platforms(PlatformContext(environ, home, reporter, engine, project_id, cloud_key))


def build_user(name: str) -> BuildUser:
    """The person calling, as whom the code in an image runs."""
    from caliban.images.dockerfile import BuildUser

    return BuildUser(os.getuid(), os.getgid(), name)
