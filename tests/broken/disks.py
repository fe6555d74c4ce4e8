"""Disks that are full or read-only, for one command, gone without a trace when it ends.

A mount namespace holds a real file system of a few pages; making one takes root, or a kernel that lets everybody. A
limit on the size of files needs neither, and fails as a bad disk does instead of a full one.
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
mount -t tmpfs -o size="$SIZE" none "$FOLDER"
[ ! -e "$ASIDE/caliban.db" ] || cp -p "$ASIDE/caliban.db" "$FOLDER"
status=0
"$@" || status=$?
rm -rf "$ASIDE"
cp -a "$FOLDER" "$ASIDE"
exit $status
"""
_READ_ONLY = """
mount --bind "$TARGET" "$TARGET"
mount -o remount,bind,ro "$TARGET"
exec "$@"
"""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Command:
    """The command caliban, with a store at ``folder / STORE``."""

    folder: Path
    cwd: Path
    environ: Mapping[str, str]

    def __call__(self, *words: str, prefix: tuple[str, ...] = (), setup: Callable[[], None] | None = None) -> Answer:
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "caliban", *words],
            cwd=self.cwd,
            env={**self.environ, "CALIBAN_DB_URL": f"sqlite:///{self.folder / STORE}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            preexec_fn=setup,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)


@cache
def namespace() -> tuple[str, ...] | None:
    """The words that run a shell script where mounts are its own; None where that is not allowed."""
    for options in ((), ("--user", "--map-root-user")):
        words = ("unshare", *options, "--mount", "sh", "-ec")
        if (
            shutil.which("unshare")
            and not subprocess.run([*words, "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode
        ):
            return words
    return None


def with_small_files(command: Command, size: int, *words: str) -> Answer:
    """Call the command where no file can grow beyond ``size`` bytes."""
    return command(*words, setup=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))


def on_small_disk(command: Command, size: int, *words: str) -> Answer:
    """Call the command with its store on a disk of ``size`` bytes; afterwards the folder is as the disk was."""
    enter = namespace()
    assert enter
    aside = command.folder.with_name("aside")
    shutil.copytree(command.folder, aside)
    environ = {**command.environ, "SIZE": str(size), "FOLDER": str(command.folder), "ASIDE": str(aside)}
    there = Command(command.folder, command.cwd, environ)
    answer = there(*words, prefix=(*enter, _ON_A_SMALL_DISK, "sh"))
    shutil.rmtree(command.folder)
    aside.rename(command.folder)
    return answer


def read_only_mount(command: Command, target: Path, *words: str) -> Answer:
    """Call the command with ``target``, the store's file or folder, mounted read-only."""
    enter = namespace()
    assert enter
    there = Command(command.folder, command.cwd, {**command.environ, "TARGET": str(target)})
    return there(*words, prefix=(*enter, _READ_ONLY, "sh"))


def read_only_mode(command: Command, target: Path, *words: str) -> Answer:
    """Call the command without the permission to write to ``target``; root has it always."""
    before = target.stat().st_mode
    target.chmod(before & ~0o222)
    try:
        return command(*words)
    finally:
        target.chmod(before)


FULL = [with_small_files, *([on_small_disk] if namespace() else [])]
READ_ONLY = [*([read_only_mount] if namespace() else []), *([read_only_mode] if os.geteuid() else [])]
