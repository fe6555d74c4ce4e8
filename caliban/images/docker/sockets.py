"""The sockets of the engines that people have beside, or instead of, ``/var/run/docker.sock``: for hints.

caliban uses the engine that ``docker`` uses, and no other. Where that one does not answer and another does, the hint is
the command that chooses it.

Sources: https://docs.docker.com/engine/security/rootless/, https://docs.docker.com/desktop/ (FAQ of each system),
https://colima.run/docs/faq/, https://docs.podman.io/en/latest/markdown/podman-system-service.1.html, and the
documentation of Rancher Desktop, OrbStack and Lima.
"""

from __future__ import annotations

import os
import shlex
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from caliban.images.docker.endpoint import contexts_by_host

_ANSWER_SECONDS = 1.0
_MOST_SHOWN = 2


@dataclass(frozen=True)
class _Product:
    """An engine that has a socket of its own.

    Attributes:
        name: for people.
        start: the command that starts it.
        patterns: of its sockets; ``~`` is the home directory, ``$`` a user's directory of runtime files.
    """

    name: str
    start: str
    patterns: tuple[str, ...]


_PRODUCTS = (
    _Product("rootless Docker", "systemctl --user start docker", ("$/docker.sock",)),
    _Product("Docker Desktop", "docker desktop start", ("~/.docker/desktop/docker.sock", "~/.docker/run/docker.sock")),
    _Product("colima", "colima start", ("~/.colima/*/docker.sock", "~/.config/colima/*/docker.sock")),
    _Product("Rancher Desktop", "rdctl start", ("~/.rd/docker.sock",)),
    _Product("OrbStack", "orb start", ("~/.orbstack/run/docker.sock",)),
    _Product("Lima", "limactl start docker", ("~/.lima/*/sock/docker.sock",)),
    _Product("Podman", "systemctl --user start podman.socket", ("$/podman/podman.sock",)),
    _Product("Podman", "sudo systemctl start podman.socket", ("/run/podman/podman.sock",)),
    _Product(
        "Podman",
        "podman machine start",
        (
            "~/.local/share/containers/podman/machine/podman.sock",
            "~/.local/share/containers/podman/machine/*/podman.sock",
        ),
    ),
)


def choice_hint(host: str, environ: Mapping[str, str]) -> str | None:
    """Return the command that chooses another engine of this machine, one that answers; None where there is none.

    Args:
        host: the endpoint that does not answer, in the format of DOCKER_HOST.
        environ: the environment variables.
    """
    here = Path(host.removeprefix("unix://"))
    contexts = contexts_by_host(environ)
    found: dict[Path, tuple[_Product, Path]] = {}
    for product in _PRODUCTS:
        for path in _paths(product, environ):
            if not _is_same(path, here) and _answers(path):
                found.setdefault(path.resolve(), (product, path))
    commands = []
    for product, path in found.values():
        name = contexts.get(f"unix://{path}")
        if name is None or environ.get("DOCKER_HOST") or environ.get("DOCKER_CONTEXT"):
            commands.append(f"to use {product.name}: export DOCKER_HOST={shlex.quote(f'unix://{path}')}")
        else:
            commands.append(f"to use {product.name}: docker context use {shlex.quote(name)}")
    return "; ".join(commands[:_MOST_SHOWN]) or None


def start_hint(host: str, environ: Mapping[str, str]) -> str | None:
    """Return how the product is started whose socket ``host`` is; None where it is nobody's in particular."""
    here = Path(host.removeprefix("unix://"))
    for product in _PRODUCTS:
        if any(_matches(here, pattern, environ) for pattern in product.patterns):
            return f"start {product.name}: {product.start}"
    return None


def _paths(product: _Product, environ: Mapping[str, str]) -> Iterator[Path]:
    for pattern in product.patterns:
        text = _expanded(pattern, environ)
        if text is None:
            continue
        with suppress(OSError):  # a directory that may not be read
            yield from sorted(Path("/").glob(text.lstrip("/")))


def _matches(path: Path, pattern: str, environ: Mapping[str, str]) -> bool:
    text = _expanded(pattern, environ)
    return text is not None and path.is_absolute() and len(path.parts) == len(Path(text).parts) and path.match(text)


def _expanded(pattern: str, environ: Mapping[str, str]) -> str | None:
    if pattern.startswith("$"):
        runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"  # cron and su do not set it
        return runtime + pattern[1:] if runtime.startswith("/") else None
    if pattern.startswith("~"):
        home = environ.get("HOME") or ""
        return home + pattern[1:] if home.startswith("/") else None
    return pattern


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.resolve() == other.resolve()
    except OSError:
        return False


def _answers(path: Path) -> bool:
    """Return whether something listens on a socket that this user may use."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return False
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            connection.connect(str(path))
    except (OSError, ValueError):
        return False
    return True
