"""For which operating system and processor an image is built: ``linux/amd64``, as in ``docker build --platform``.

Jobs on this machine run on what its Docker Engine is. Machines of clusters and clouds are linux/amd64 unless they were
chosen otherwise, whatever the laptop is on which the image is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caliban.config import ProjectConfig

REMOTE_DEFAULT = "linux/amd64"

VARIABLE = "DOCKER_DEFAULT_PLATFORM"
"""The variable that docker's own commands read (https://docs.docker.com/reference/cli/docker/#environment-variables)."""

_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm", "armel": "arm"}
_ALSO_RUNS = {"amd64": ("386",), "arm64": ("arm",)}


def platform_of_remote_jobs(config: ProjectConfig, environ: Mapping[str, str]) -> str:
    """Return the platform of images for other machines."""
    return config.platform or environ.get(VARIABLE) or REMOTE_DEFAULT


def platform_of_local_jobs(environ: Mapping[str, str]) -> str | None:
    """Return the platform of images for the Docker Engine that builds them; None for that of the engine."""
    return environ.get(VARIABLE) or None


def architecture(platform: str) -> str:
    """Return the processor in Go's words, without its variant: ``linux/aarch64/v8`` -> ``arm64``."""
    first, _, rest = platform.lower().partition("/")
    name = rest.partition("/")[0] or first
    return _ALIASES.get(name, name)


def other_architecture(inspected: object, platform: str) -> str | None:
    """Return the processor of an inspected image if it is not that of ``platform``; None where it is, or is not known.

    Args:
        inspected: the answer to ``GET /images/NAME/json``.
        platform: such as ``linux/amd64``.
    """
    found = inspected.get("Architecture") if isinstance(inspected, Mapping) else None
    if not isinstance(found, str) or not found or architecture(platform) in (architecture(found), "linux"):
        return None
    return found


def runs_without_emulation(platform: str, native: str) -> bool:
    """Return whether an engine for ``native`` runs programs for ``platform``."""
    wanted, own = architecture(platform), architecture(native)
    return wanted in (own, *_ALSO_RUNS.get(own, ()), "linux")
