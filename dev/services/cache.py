"""The one directory outside the clone that makes a second run, and a second clone, quick; and the locks in it."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.shell import Failure, say


def cache_directory() -> Path:
    """Give ``$CALIBAN_DEV_DIR``, or ``/var/tmp/caliban-dev-<uid>``, made with mode 0700.

    Raises:
        Failure: it is a symbolic link, no directory, somebody else's, or others may write to it: what we run from
            there, at times as root, could be theirs.
    """
    path = Path(os.environ.get("CALIBAN_DEV_DIR") or f"/var/tmp/caliban-dev-{os.getuid()}")
    if not path.is_absolute():
        raise Failure(f"CALIBAN_DEV_DIR is {path}, which is not an absolute path")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        _check_ours(path)
    return path


def _check_ours(path: Path) -> None:
    found = path.lstat()
    hint = "remove it, or name another directory with CALIBAN_DEV_DIR"
    if not stat.S_ISDIR(found.st_mode):
        raise Failure(f"the cache directory {path} is not a directory", hint)
    if found.st_uid != os.getuid():
        raise Failure(f"the cache directory {path} belongs to user {found.st_uid}, not to us", hint)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Failure(f"others may write to the cache directory {path}", hint)
    path.chmod(0o700)


@contextmanager
def locked(path: Path, *, shared: bool = False, waiting: str = "") -> Iterator[None]:
    """Hold a lock on a file; the kernel gives it back when the process ends, however it ends.

    Args:
        path: the file, made when it is not there. Its descriptor is not handed to child processes.
        shared: whether others may hold it shared at the same time.
        waiting: what to tell when somebody else holds it.
    """
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("a") as file:
        try:
            fcntl.flock(file, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                say(waiting)
            fcntl.flock(file, mode)
        yield


def is_held(path: Path, *, against_shared: bool = False) -> bool:
    """Say whether somebody holds the lock: in any way, or, with ``against_shared``, exclusively."""
    mode = fcntl.LOCK_SH if against_shared else fcntl.LOCK_EX
    with path.open("a") as file:
        try:
            fcntl.flock(file, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
