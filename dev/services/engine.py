"""The Docker Engine: the machine's own where it answers, else one of ours in the cache directory."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.cache import cache_directory
from services.debian import find_program
from services.engine_api import DEFAULT_SOCKET, EngineApi
from services.engine_programs import current_engine, debian_engine
from services.sharing import STOP_SECONDS, is_guarded, shared_use, spawn_guard, with_path
from services.shell import Failure, say, tail

START_SECONDS = 60
MACHINE_LOCK = Path("/run/caliban-dev-engine.lock")
"""Held by the guard of an engine of ours: two engines would manage the same bridge and firewall rules."""
_STORAGE_TROUBLE = ("graphdriver", "storage-driver", "overlay")


@dataclass(frozen=True)
class EngineKind:
    """An engine that we can start.

    Attributes:
        name: part of the names of its directories.
        programs: installs or builds it; returns the directories that its PATH starts with.
        fallback_driver: storage driver for a file system that does not support the usual one.
    """

    name: str
    programs: Callable[[], tuple[Path, ...]]
    fallback_driver: str


DEBIAN = EngineKind("docker", debian_engine, "vfs")
CURRENT = EngineKind("docker-current", current_engine, "native")


@dataclass(frozen=True)
class Engine:
    """A Docker Engine that answers.

    Attributes:
        api: how to ask it.
        is_ours: whether we started it; else it is the machine's and is left as it was.
        label: ``name=value`` that our base image carries, and thereby all that is made from it.
        directory: what we remember of it: locks, the log, what we added.
    """

    api: EngineApi
    is_ours: bool
    label: str
    directory: Path

    @property
    def address(self) -> str:
        """What DOCKER_HOST is to be."""
        return self.api.address


def run_directory(kind: EngineKind = DEBIAN) -> Path:
    """Give the directory for the socket of our engine: short, as a socket's path may have 107 characters at most."""
    digest = hashlib.sha256(str(cache_directory()).encode()).hexdigest()[:8]
    return Path(f"/run/caliban-dev-{digest}{kind.name.removeprefix('docker')}")


def own_address(kind: EngineKind = DEBIAN) -> str:
    """Give the address that an engine of ours has."""
    return f"unix://{run_directory(kind)}/docker.sock"


def find_machines_engine() -> EngineApi | None:
    """Give the engine that DOCKER_HOST names, else that at the default socket, when it answers."""
    named = os.environ.get("DOCKER_HOST")
    for address in (named, DEFAULT_SOCKET):
        if address:
            api = EngineApi(address)
            trouble = api.answers()
            if trouble is None:
                return api
            if address == named:
                say(f"no Docker Engine answers at DOCKER_HOST={address}: {trouble}")
            if "Permission denied" in trouble:
                raise Failure(f"this user may not use the Docker Engine at {address}", "join the group docker")
    return None


@contextmanager
def docker_engine(kind: EngineKind = DEBIAN) -> Iterator[Engine]:
    """Use an engine; everything of ours in it, and the engine if it is ours, goes when its last user has gone.

    A guard (``services.guard``) sees to that: it waits until no process holds the users' lock any more.

    Args:
        kind: what is started where the machine has no engine that answers.

    Raises:
        Failure: no engine answers and none can be started.
    """
    api = find_machines_engine() or EngineApi(own_address(kind))
    key = hashlib.sha256(api.address.encode()).hexdigest()[:12]
    directory = cache_directory() / "engines" / key
    owner = hashlib.sha256(f"{os.getuid()} {cache_directory()}".encode()).hexdigest()[:12]
    engine = Engine(api, api.address == own_address(kind), f"caliban.dev={owner}", directory)
    with shared_use(directory, lambda: _bring_up(engine, kind), "Docker Engine"):
        yield engine


def _bring_up(engine: Engine, kind: EngineKind) -> None:
    if is_guarded(engine.directory) and engine.api.answers() is None:
        say(f"Docker Engine: using {engine.address}")
        return
    if not engine.is_ours:
        say(f"Docker Engine: using this machine's {engine.api.version()} at {engine.address}")
        if find_program("docker") is None:
            say("there is no docker client, which `caliban run` needs; this machine's Docker is left as it is")
        _spawn_guard(engine, [], ())
        return
    if os.geteuid() != 0:
        raise Failure(
            f"no Docker Engine answers at {os.environ.get('DOCKER_HOST') or DEFAULT_SOCKET}; only root may start one",
            "start Docker, set DOCKER_HOST, or run this as root",
        )
    programs = kind.programs()
    _clear_remains(run_directory(kind))
    started = time.monotonic()
    if not _start(engine, kind, programs, []):
        if not any(word in _log(engine).read_text(errors="replace") for word in _STORAGE_TROUBLE):
            raise Failure(f"the Docker Engine does not start; its log ends:\n{tail(_log(engine))}")
        driver = kind.fallback_driver
        say(f"the engine cannot use this file system's usual driver; trying again with {driver}")
        _clear_remains(run_directory(kind))
        if not _start(engine, kind, programs, ["--storage-driver", driver]):
            raise Failure(f"the Docker Engine does not start, nor with {driver}; its log ends:\n{tail(_log(engine))}")
    seconds = time.monotonic() - started
    say(f"Docker Engine: started {engine.api.version()} at {engine.address} in {seconds:.0f} s")


def _log(engine: Engine) -> Path:
    return engine.directory / "engine.log"


def _start(engine: Engine, kind: EngineKind, programs: tuple[Path, ...], options: list[str]) -> bool:
    directory = run_directory(kind)
    daemon = next((str(path / "dockerd") for path in programs if (path / "dockerd").exists()), None)
    daemon = daemon or find_program("dockerd") or "dockerd"
    command = [daemon, "--data-root", str(cache_directory() / kind.name), "--exec-root", str(directory / "exec")]
    command += ["-H", engine.address, "-p", str(directory / "docker.pid"), *options]
    guard = _spawn_guard(engine, command, programs)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and guard.poll() is None:
        if engine.api.answers() is None:
            return True
        time.sleep(0.2)
    if guard.poll() is None:
        guard.terminate()
        guard.wait()
    return False


def _spawn_guard(engine: Engine, command: list[str], programs: tuple[Path, ...]) -> subprocess.Popen[bytes]:
    options = ["--directory", str(engine.directory), "--address", engine.address, "--label", engine.label]
    lock = MACHINE_LOCK if command else None
    options += ["--machine-lock", str(lock)] if lock else []
    return spawn_guard(
        "services.guard",
        [*options, "--", *command],
        engine.directory,
        _log(engine),
        machine_lock=lock,
        environment=with_path(programs),
    )


def _clear_remains(directory: Path) -> None:
    """End what a killed run left: an engine without a guard, its pid file, its socket."""
    pid_file = directory / "docker.pid"
    if pid_file.exists():
        pid = int(pid_file.read_text() or 0)
        deadline = time.monotonic() + STOP_SECONDS
        while pid and _is_dockerd(pid):
            os.kill(pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
            time.sleep(0.5)
        pid_file.unlink(missing_ok=True)
    (directory / "docker.sock").unlink(missing_ok=True)


def _is_dockerd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd"
    except OSError:
        return False
