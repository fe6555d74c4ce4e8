"""Full and read-only disks for a single command.

A mount namespace provides a real file system of a few pages that ends with the command; it requires root, or a kernel
that allows user namespaces. A limit on file sizes requires neither, but fails like a defective disk.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

STORE = "caliban.db"
_ON_A_SMALL_DISK = """
mount -t tmpfs -o size="$SIZE" none "$DIRECTORY"
[ ! -e "$COPY/caliban.db" ] || cp -p "$COPY/caliban.db" "$DIRECTORY"
status=0
"$@" || status=$?
rm -rf "$COPY"
cp -a "$DIRECTORY" "$COPY"
exit $status
"""
_READ_ONLY = """
mount --bind "$TARGET" "$TARGET"
mount -o remount,bind,ro "$TARGET"
exec "$@"
"""


@dataclass(frozen=True)
class CommandResult:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Command:
    """The command caliban, with its store at ``directory / STORE``."""

    directory: Path
    cwd: Path
    environ: Mapping[str, str]

    def __call__(
        self, *arguments: str, prefix: tuple[str, ...] = (), setup: Callable[[], None] | None = None
    ) -> CommandResult:
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "caliban", *arguments],
            cwd=self.cwd,
            env={**self.environ, "CALIBAN_DB_URL": f"sqlite:///{self.directory / STORE}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            preexec_fn=setup,
            check=False,
        )
        return CommandResult(done.returncode, done.stdout, done.stderr)


@cache
def namespace() -> tuple[str, ...] | None:
    """Return the command that runs a shell script in a mount namespace of its own; None where that is not allowed."""
    for options in ((), ("--user", "--map-root-user")):
        command = ("unshare", *options, "--mount", "sh", "-ec")
        if (
            shutil.which("unshare")
            and not subprocess.run([*command, "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode
        ):
            return command
    return None


def with_small_files(command: Command, size: int, *arguments: str) -> CommandResult:
    """Run the command with a limit of ``size`` bytes per file."""
    return command(*arguments, setup=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))


def on_small_disk(command: Command, size: int, *arguments: str) -> CommandResult:
    """Run the command with its store on a disk of ``size`` bytes, whose content the directory has afterwards."""
    enter = namespace()
    assert enter
    copy = command.directory.with_name("copy")
    shutil.copytree(command.directory, copy)
    environ = {**command.environ, "SIZE": str(size), "DIRECTORY": str(command.directory), "COPY": str(copy)}
    mounted = Command(command.directory, command.cwd, environ)
    result = mounted(*arguments, prefix=(*enter, _ON_A_SMALL_DISK, "sh"))
    shutil.rmtree(command.directory)
    copy.rename(command.directory)
    return result


def read_only_mount(command: Command, target: Path, *arguments: str) -> CommandResult:
    """Run the command with ``target``, the store's file or directory, mounted read-only."""
    enter = namespace()
    assert enter
    mounted = Command(command.directory, command.cwd, {**command.environ, "TARGET": str(target)})
    return mounted(*arguments, prefix=(*enter, _READ_ONLY, "sh"))


def read_only_mode(command: Command, target: Path, *arguments: str) -> CommandResult:
    """Run the command without write permission for ``target``, which has no effect for root."""
    before = target.stat().st_mode
    target.chmod(before & ~0o222)
    try:
        return command(*arguments)
    finally:
        target.chmod(before)


FULL = [with_small_files, *([on_small_disk] if namespace() else [])]
READ_ONLY = [*([read_only_mount] if namespace() else []), *([read_only_mode] if os.geteuid() else [])]
