"""The programs of a Docker Engine of ours: Debian's docker.io, or today's engine compiled from Go modules."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from services.debian import find_program, install, unpack
from services.go_build import GoModule, build, programs_directory
from services.kubernetes_programs import CONTAINERD_MODULE
from services.shell import Failure
from services.versions import MOBY, RUNC

_WHY = "no Docker Engine answers"
_RUNC_PACKAGES = {"gcc": "gcc", "pkg-config": "pkg-config"}
_RUNC_LIBRARIES = ("libc6-dev", "libseccomp-dev")

_MOBY_MODULE = GoModule(
    "moby",
    "github.com/moby/moby/v2",
    MOBY,
    {name: f"github.com/moby/moby/v2/cmd/{name}" for name in ("dockerd", "docker-proxy")},
    variables={"github.com/moby/moby/v2/dockerversion.Version": f"29-moby-{MOBY}"},
)
_RUNC_MODULE = GoModule(
    "runc",
    "github.com/opencontainers/runc",
    RUNC,
    {"runc": "github.com/opencontainers/runc"},
    tags="seccomp",
    cgo=True,
)
"""Debian's runc 1.1.5 cannot run the containers of today's engine."""


def debian_engine() -> tuple[Path, ...]:
    """Install Debian's engine if dockerd is missing; return the directories that the PATH must start with: none.

    Raises:
        Failure: it cannot be installed.
    """
    packages = (("docker.io", "dockerd"), ("iptables", "iptables"))
    missing = [package for package, program in packages if find_program(program) is None]
    if missing:
        install(missing, why=_WHY)
    # `caliban run` needs the client; up to bookworm it is part of docker.io.
    if find_program("docker") is None:
        install(["docker-cli"], why="there is no docker client")
    return ()


def current_engine() -> tuple[Path, ...]:
    """Build today's engine if it is not built yet; return the directories that the PATH must start with.

    Raises:
        Failure: Go, root or apt-get is missing, or a build fails.
    """
    if find_program("iptables") is None:
        install(["iptables"], why=_WHY)
    return (
        build(_MOBY_MODULE),
        build(CONTAINERD_MODULE),
        build(_RUNC_MODULE, prepare=_install_for_runc),
        _helpers(),
    )


def _install_for_runc() -> None:
    missing = [package for program, package in _RUNC_PACKAGES.items() if shutil.which(program) is None]
    missing += [package for package in _RUNC_LIBRARIES if not Path(f"/usr/share/doc/{package}").exists()]
    if missing:
        install(missing, why="runc is compiled with a C compiler")


def _helpers() -> Path:
    """Return a directory with docker-init, and the docker client where the machine has none."""
    wanted = {"docker-init": ("tini", "usr/bin/tini-static")}
    if find_program("docker") is None:
        wanted["docker"] = ("docker.io", "usr/bin/docker")
    directory = programs_directory() / "docker-helpers"
    directory.mkdir(exist_ok=True)
    for name, (package, path) in wanted.items():
        if not os.access(directory / name, os.X_OK):
            program = unpack([package], why=f"the engine needs {name}") / path
            if not program.exists():
                raise Failure(f"Debian's package {package} has no {path}")
            (directory / name).unlink(missing_ok=True)
            (directory / name).symlink_to(program)
    return directory
