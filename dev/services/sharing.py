"""One service, several processes that use it: it ends with its last user, killed ones included.

Each user holds ``users.lock`` shared. A guard, a process in a session of its own, starts the service, holds
``guard.lock`` and waits for ``users.lock``, which the kernel releases when a process ends in any way.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.cache import is_held, locked
from services.debian import administrators_path
from services.shell import say

STOP_SECONDS = 60


@contextmanager
def shared_use(directory: Path, bring_up: Callable[[], None], name: str) -> Iterator[None]:
    """Use a service; return when the guard has taken it down, unless others still use it.

    Args:
        directory: of the service's locks.
        bring_up: starts the service with a guard, or finds it started; never called by two processes at once.
        name: of the service, for people.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with locked(directory / "users.lock", shared=True, waiting=f"waiting for the previous {name} to stop"):
            with locked(directory / "start.lock", waiting=f"another run is starting the {name}"):
                bring_up()
            yield
    finally:
        _wait_for_guard(directory)


def is_guarded(directory: Path) -> bool:
    """Return whether a guard is running."""
    return is_held(directory / "guard.lock")


def spawn_guard(
    module: str,
    arguments: Sequence[str],
    directory: Path,
    log: Path,
    *,
    machine_lock: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a guard and wait until it holds its lock, or has ended.

    Args:
        module: of Python, with the guard's ``main``.
        arguments: for it.
        directory: of the service's locks.
        log: file for what the guard and its children write.
        machine_lock: the lock that the guard needs first, when only one such service may run on a machine.
        environment: instead of ours.
    """
    if machine_lock is not None and is_held(machine_lock):
        say(f"waiting for {machine_lock}: one of these runs on a machine at a time")
    with log.open("wb") as output:
        guard = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=Path(__file__).parent.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    while not is_guarded(directory) and guard.poll() is None:
        time.sleep(0.02)
    return guard


def with_path(directories: Sequence[Path]) -> dict[str, str]:
    """Return our environment with a PATH that starts with these directories and ends with those of administrators."""
    path = os.pathsep.join([*map(str, directories), administrators_path()])
    return {**os.environ, "PATH": path}


def _wait_for_guard(directory: Path) -> None:
    users, guard = directory / "users.lock", directory / "guard.lock"
    deadline = time.monotonic() + STOP_SECONDS
    while is_held(guard) and time.monotonic() < deadline:
        others_use_it = is_held(users) and not is_held(users, against_shared=True)
        if others_use_it:
            return
        time.sleep(0.05)
