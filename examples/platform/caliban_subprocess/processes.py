"""Detached processes, each with a directory that outlives it: ``cwd``, ``lock``, ``pid``, ``output``, ``exit``.

A process holds a lock on ``lock`` while it runs. The lock, not the process id, shows whether it runs: the system
releases the lock however the process ends, but reuses ids. Functions raise OSError where files cannot be used.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

_SCRIPT = """
echo $$ > "$0/pid" || exit
{
    "$@"
    echo $? > "$0/exit.part" && mv "$0/exit.part" "$0/exit"
} > "$0/output" 2>&1 < /dev/null &
"""

_GRACE, _POLL = 10, 0.05
"""Seconds between SIGTERM and SIGKILL, and between checks whether a process has stopped."""


class State(NamedTuple):
    """What a job's directory shows: where it runs or ran, whether it runs, was stopped, and its exit code.

    The exit code is None while the job runs, and where nothing recorded it: for a job that was stopped or vanished.
    """

    cwd: str
    is_running: bool
    is_stopped: bool
    code: int | None


def start(directory: Path, command: Sequence[str], cwd: str, environ: Mapping[str, str]) -> None:
    """Start a command, unless one was started for this directory before."""
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("a") as lock:
        if not _lock(lock, fcntl.LOCK_EX) or (directory / "pid").exists():
            return
        with suppress(FileExistsError):
            (directory / "cwd").symlink_to(cwd)
        subprocess.run(
            ["/bin/sh", "-c", _SCRIPT, str(directory), *command],
            cwd=cwd,
            env=dict(environ),
            pass_fds=[lock.fileno()],  # a lock is held until every process that inherited it has ended
            start_new_session=True,
            check=False,
        )


def read(directory: Path) -> State | None:
    """Return the state of a job; None where none was started."""
    is_running = _is_running(directory)
    if not (directory / "pid").exists():
        return None
    code = None
    with suppress(FileNotFoundError):
        code = int((directory / "exit").read_text())
    is_stopped = (directory / "stopped").exists()
    return State(str((directory / "cwd").readlink()), is_running and code is None, is_stopped, code)


def stop(directory: Path, wait: Callable[[float], object]) -> None:
    """Send SIGTERM to a job's processes, and SIGKILL where that does not end them."""
    (directory / "stopped").touch()
    for number in (signal.SIGTERM, signal.SIGKILL):
        for poll in range(int(_GRACE / _POLL)):
            if not _is_running(directory):
                return
            if poll == 0:
                os.killpg(int((directory / "pid").read_text()), number)
            wait(_POLL)


def _is_running(directory: Path) -> bool:
    try:
        with (directory / "lock").open() as lock:
            return not _lock(lock, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _lock(file: IO[str], operation: int) -> bool:
    """Lock a file, unless another process holds the lock."""
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
