"""Files of this machine that jobs need, and engines of other machines, which do not have them."""

from __future__ import annotations

from collections.abc import Mapping

from caliban.errors import CalibanError
from caliban.escapes import escaped
from caliban.platforms.docker.host_paths import Kind, host_paths
from caliban.platforms.docker.run_arguments import RunArguments
from caliban.redaction import strip_userinfo

PATHS_HINT = (
    "a path to mount is one of the machine of the Docker Engine: with ssh:// or tcp:// in DOCKER_HOST another machine, "
    "with Docker Desktop, colima or podman machine a virtual one, which usually has only what is below your home"
)


def other_machine(environ: Mapping[str, str]) -> str | None:
    """Return the endpoint of the engine if that is on another machine, for messages; None for one of this machine.

    A socket that leads to another machine (``ssh -L``) is not recognized. Nothing is connected to.
    """
    from caliban.images.docker.endpoint import find_endpoint  # not for --help

    try:
        endpoint = find_endpoint(environ)
    except CalibanError:  # reported by whoever connects
        return None
    return escaped(strip_userinfo(endpoint.host or "")) if endpoint.is_elsewhere else None


def warnings(arguments: RunArguments, environ: Mapping[str, str]) -> list[str]:
    """Return a warning if paths in the arguments of ``docker run`` are those of another machine."""
    mounted = (each.path for each in host_paths(arguments) if each.kind in (Kind.CREATED, Kind.MOUNTED))
    paths = list(dict.fromkeys(mounted))
    machine = other_machine(environ) if paths else None
    if machine is None:
        return []
    return [
        f"the Docker Engine at {machine} is on another machine: --docker_run_args mounts files of that machine: "
        + escaped(", ".join(paths))
    ]
