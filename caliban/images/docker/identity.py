"""Which Docker Engine answers: what jobs record, so that another engine is never taken for theirs.

Docker keeps an id of the engine's own beside its data (``/var/lib/docker/engine-id``; before Docker 24
``/etc/docker/key.json``). It survives restarts and upgrades, also of the machine's name. It is a new one when that
file is deleted, and the same on machines that were cloned from one image with a Docker Engine in it. So an engine of
the same id *and* name is the same one; one of the same id and another name may be. Podman makes up an id for every
request; its name and the directory of its data stand for it.

Sources: https://docs.docker.com/reference/api/engine/version/v1.41/ (SystemInfo),
https://github.com/containers/podman/blob/main/pkg/api/handlers/compat/info.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_PODMAN_KEY = "BuildahVersion"


@dataclass(frozen=True)
class EngineIdentity:
    """An engine.

    Attributes:
        id: its id; None where it has none.
        name: the name of its machine; None where it has none.
        has_init: whether containers can have an init process (``--init``); None where it does not say.
        is_rootless: whether it runs as its user, who is root in its containers; all other users of a container are
            none of the machine's.
    """

    id: str | None = None
    name: str | None = None
    has_init: bool | None = field(default=None, compare=False)
    is_rootless: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return self.name or self.id or "unknown"


def engine_identity(info: object) -> EngineIdentity:
    """Read the answer to ``GET /info``. What is missing or malformed is None."""
    if not isinstance(info, Mapping):
        return EngineIdentity()
    own, name, data = (_text(info.get(key)) for key in ("ID", "Name", "DockerRootDir"))
    if own is None or _PODMAN_KEY in info:
        own = f"{name}:{data}" if name and data else None
    return EngineIdentity(own, name, _has_init(info), _is_rootless(info))


def _has_init(info: Mapping[object, object]) -> bool | None:
    """Return whether the engine has the program that ``--init`` runs.

    Docker runs it to learn its version, and reports ``N/A`` where it cannot. Podman names none.
    """
    if "InitBinary" not in info:
        return None
    commit = info.get("InitCommit")
    is_missing = isinstance(commit, Mapping) and commit.get("ID") == "N/A"
    return bool(info["InitBinary"]) and not is_missing


def _is_rootless(info: Mapping[object, object]) -> bool:
    """Read ``SecurityOptions``: ``["name=seccomp,profile=builtin", "name=rootless"]``; Podman also has ``Rootless``."""
    if info.get("Rootless") is True:
        return True
    options = info.get("SecurityOptions")
    names = [str(each).partition(",")[0] for each in options] if isinstance(options, list) else []
    return "name=rootless" in names


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
