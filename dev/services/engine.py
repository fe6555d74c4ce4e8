"""The Docker Engine: the machine's own where it answers, else one of ours in the cache folder."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.cache import cache_folder, is_held, locked
from services.debian import find_program, install
from services.engine_api import DEFAULT_SOCKET, EngineApi
from services.shell import Failure, say, tail

START_SECONDS = 60
STOP_SECONDS = 60
_PACKAGES = (("docker.io", "dockerd"), ("iptables", "iptables"))
_STORAGE_TROUBLE = ("graphdriver", "storage-driver", "overlay")


@dataclass(frozen=True)
class Engine:
    """A Docker Engine that answers.

    Attributes:
        api: how to ask it.
        is_ours: whether we started it; else it is the machine's and is left as it was.
        label: ``name=value`` that our base image carries, and thereby all that is made from it.
        folder: what we remember of it: locks, the log, what we added.
    """

    api: EngineApi
    is_ours: bool
    label: str
    folder: Path

    @property
    def address(self) -> str:
        """What DOCKER_HOST is to be."""
        return self.api.address


def run_folder() -> Path:
    """Give the folder for the socket of our engine: short, as a socket's path may have 107 characters at most."""
    digest = hashlib.sha256(str(cache_folder()).encode()).hexdigest()[:8]
    return Path(f"/run/caliban-dev-{digest}")


def own_address() -> str:
    """Give the address that an engine of ours has."""
    return f"unix://{run_folder()}/docker.sock"


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
def docker_engine() -> Iterator[Engine]:
    """Use an engine; everything of ours in it, and the engine if it is ours, goes when its last user has gone.

    A guard (``services.guard``) sees to that: it waits until no process holds the users' lock any more.

    Raises:
        Failure: no engine answers and none can be started.
    """
    api = find_machines_engine() or EngineApi(own_address())
    key = hashlib.sha256(api.address.encode()).hexdigest()[:12]
    folder = cache_folder() / "engines" / key
    folder.mkdir(parents=True, exist_ok=True)
    owner = hashlib.sha256(f"{os.getuid()} {cache_folder()}".encode()).hexdigest()[:12]
    engine = Engine(api, api.address == own_address(), f"caliban.dev={owner}", folder)
    try:
        with locked(folder / "users.lock", shared=True, waiting="waiting for the last user's engine to be stopped"):
            with locked(folder / "start.lock", waiting="another run is bringing the engine up"):
                _bring_up(engine)
            yield engine
    finally:
        _wait_for_guard(engine)


def _bring_up(engine: Engine) -> None:
    guarded = is_held(engine.folder / "guard.lock")
    if guarded and engine.api.answers() is None:
        say(f"Docker Engine: using {engine.address}")
        return
    if not engine.is_ours:
        say(f"Docker Engine: using this machine's at {engine.address}")
        if find_program("docker") is None:
            say("there is no docker client, which `caliban run` needs; this machine's Docker is left as it is")
        _spawn_guard(engine, [])
        return
    if os.geteuid() != 0:
        raise Failure(
            f"no Docker Engine answers at {os.environ.get('DOCKER_HOST') or DEFAULT_SOCKET}; only root may start one",
            "start Docker, set DOCKER_HOST, or run this as root",
        )
    _install_missing()
    _clear_remains(run_folder())
    started = time.monotonic()
    if not _start(engine, []):
        if not any(word in _log(engine).read_text(errors="replace") for word in _STORAGE_TROUBLE):
            raise Failure(f"the Docker Engine does not start; its log ends:\n{tail(_log(engine))}")
        say("the engine cannot use this file system's usual driver; trying again with vfs")
        _clear_remains(run_folder())
        if not _start(engine, ["--storage-driver", "vfs"]):
            raise Failure(f"the Docker Engine does not start, nor with vfs; its log ends:\n{tail(_log(engine))}")
    say(f"Docker Engine: started one at {engine.address} in {time.monotonic() - started:.0f} s")


def _install_missing() -> None:
    missing = [package for package, program in _PACKAGES if find_program(program) is None]
    if missing:
        install(missing, why="no Docker Engine answers")
    # `caliban run` needs the client; up to bookworm it is part of docker.io.
    if find_program("docker") is None:
        install(["docker-cli"], why="there is no docker client")


def _log(engine: Engine) -> Path:
    return engine.folder / "engine.log"


def _start(engine: Engine, options: list[str]) -> bool:
    folder = run_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    daemon = find_program("dockerd") or "dockerd"
    command = [daemon, "--data-root", str(cache_folder() / "docker"), "--exec-root", str(folder / "exec")]
    command += ["-H", engine.address, "-p", str(folder / "docker.pid"), *options]
    guard = _spawn_guard(engine, command)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and guard.poll() is None:
        if engine.api.answers() is None:
            return True
        time.sleep(0.2)
    if guard.poll() is None:
        guard.terminate()
        guard.wait()
    return False


def _spawn_guard(engine: Engine, command: list[str]) -> subprocess.Popen[bytes]:
    options = ["--folder", str(engine.folder), "--address", engine.address, "--label", engine.label]
    program = [sys.executable, "-m", "services.guard", *options, "--", *command]
    with _log(engine).open("wb") as log:
        guard = subprocess.Popen(
            program,
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not is_held(engine.folder / "guard.lock"):
        if guard.poll() is not None:
            break
        time.sleep(0.02)
    return guard


def _clear_remains(folder: Path) -> None:
    """End what a killed run left: an engine without a guard, its pid file, its socket."""
    pid_file = folder / "docker.pid"
    if pid_file.exists():
        pid = int(pid_file.read_text() or 0)
        deadline = time.monotonic() + STOP_SECONDS
        while pid and _is_dockerd(pid):
            os.kill(pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
            time.sleep(0.5)
        pid_file.unlink(missing_ok=True)
    (folder / "docker.sock").unlink(missing_ok=True)


def _is_dockerd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd"
    except OSError:
        return False


def _wait_for_guard(engine: Engine) -> None:
    """Wait until the guard has tidied up, unless somebody else uses the engine."""
    users, guard = engine.folder / "users.lock", engine.folder / "guard.lock"
    deadline = time.monotonic() + STOP_SECONDS
    while is_held(guard) and time.monotonic() < deadline:
        others_use_it = is_held(users) and not is_held(users, against_shared=True)
        if others_use_it:
            return
        time.sleep(0.05)
