"""A PostgreSQL server of our own on the loopback, with a throw-away cluster."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.debian import install
from services.shell import Failure, dies_with_parent, say, stop, tail

_START_SECONDS = 60
_PREFIX = f"caliban-dev-{os.getuid()}-postgresql-"
_READY_LINE = 7
"""Line of postmaster.pid, counted from 0, that says ``ready`` (PostgreSQL: src/include/utils/pidfile.h)."""


def free_port() -> int:
    """Give a port of the loopback that is free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def programs_directory() -> Path | None:
    """Find the directory with ``initdb`` and ``postgres``: the newest of Debian's, else the one on the PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: _version(path.parts[-3]))
    found = [path.parent for path in versions if (path.parent / "postgres").exists()]
    if found:
        return found[-1]
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _user() -> dict[str, Any]:
    """Give Popen's arguments for a user that PostgreSQL accepts: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a server with an empty database; gives its URL in SQLAlchemy's form.

    Raises:
        Failure: PostgreSQL is not there and cannot be installed, or does not start.
    """
    directory_of_programs = programs_directory()
    if directory_of_programs is None:
        install(["postgresql"], why="there is no initdb")
        directory_of_programs = programs_directory()
    if directory_of_programs is None:
        raise Failure("PostgreSQL is installed, and yet there is no initdb")
    _remove_remains()
    user = _user()
    # Not in the cache directory: the other user may not enter that.
    directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    try:
        if user:
            os.chown(directory, user["user"], user["group"])
        _initialize(directory_of_programs, directory, user)
        port = free_port()
        with _server(directory_of_programs, directory, port, user):
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _initialize(programs: Path, directory: Path, user: dict[str, Any]) -> None:
    command: list[str | Path] = [
        programs / "initdb",
        "-D",
        directory / "data",
        "--auth=trust",
        "--username=postgres",
        "--no-sync",
    ]
    command += ["--encoding=UTF8", "--locale=C"]
    with (directory / "log").open("wb") as log:
        code = subprocess.run(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, **user
        ).returncode
    if code != 0:
        raise Failure(f"initdb failed with exit code {code}:\n{tail(directory / 'log')}")


@contextmanager
def _server(programs: Path, directory: Path, port: int, user: dict[str, Any]) -> Iterator[None]:
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
    }
    command: list[str | Path] = [programs / "postgres", "-D", directory / "data"]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=dies_with_parent(signal.SIGQUIT),
            **user,
        )
    try:
        started = time.monotonic()
        while not _is_ready(directory / "data" / "postmaster.pid"):
            if server.poll() is not None or time.monotonic() > started + _START_SECONDS:
                raise Failure(f"PostgreSQL does not start; its log ends:\n{tail(directory / 'log')}")
            time.sleep(0.05)
        say(f"PostgreSQL: listening at 127.0.0.1:{port}")
        yield
    finally:
        # SIGINT is PostgreSQL's "fast" shutdown: it does not wait for its clients.
        stop(server, signal.SIGINT, 20)


def _is_ready(pid_file: Path) -> bool:
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    return len(lines) > _READY_LINE and lines[_READY_LINE].strip() == "ready"


def _remove_remains() -> None:
    """Remove the directories of runs that were killed, whose processes do not exist any more."""
    user = _user().get("user", os.getuid())
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = directory.name.removeprefix(_PREFIX).split("-")[0]
        owned = not directory.is_symlink() and directory.stat().st_uid in (user, os.getuid())
        if pid.isdigit() and owned and not _is_alive(int(pid)):
            shutil.rmtree(directory, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
