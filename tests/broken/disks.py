"""Full and read-only disks for a single command.

A mount namespace provides a real file system of a few pages that ends with the command; it requires root, or a kernel
that allows user namespaces. A limit on file sizes requires neither, but fails like a defective disk.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.forkserver import ForkServer

STORE = "caliban.db"
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
"""Source: https://man7.org/linux/man-pages/man2/unshare.2.html"""


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
    server: ForkServer

    def __call__(
        self, *arguments: str, setup: Callable[..., Callable[[], None]] | None = None, **options: object
    ) -> CommandResult:
        """Run the command; ``setup`` is called in its process before, with ``options``."""
        done = self.server.call(
            arguments,
            environ={**self.environ, "CALIBAN_DB_URL": f"sqlite:///{self.directory / STORE}"},
            cwd=self.cwd,
            setup=setup and f"{__name__}:{setup.__name__}",
            options=options,
        )
        return CommandResult(done.returncode, done.stdout, done.stderr)


@cache
def can_mount() -> bool:
    """Return whether a process may have a mount namespace of its own, and mount file systems there."""
    pid = os.fork()
    if pid == 0:
        try:
            _enter_namespace()
            _mount("-t", "tmpfs", "none", "/mnt")
        except (OSError, subprocess.CalledProcessError):
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def _enter_namespace() -> None:
    """Enter a new mount namespace; as nobody but root may do that alone, others enter a new user namespace, too."""
    user, group = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS | (_CLONE_NEWUSER if user else 0)):
        raise OSError(ctypes.get_errno(), "unshare")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _mount("--make-rprivate", "/")


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def limit_files(size: int) -> Callable[[], None]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return lambda: None


def mount_small_disk(directory: str, copy: str, size: int) -> Callable[[], None]:
    """Mount an empty disk at ``directory``, with the content of ``copy``, which in the end gets what it has then."""
    _enter_namespace()
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", directory)
    shutil.copytree(copy, directory, dirs_exist_ok=True)

    def unmount() -> None:
        shutil.rmtree(copy)
        shutil.copytree(directory, copy)

    return unmount


def mount_read_only(target: str) -> Callable[[], None]:
    _enter_namespace()
    _mount("--bind", target, target)
    _mount("-o", "remount,bind,ro", target)
    return lambda: None


def with_small_files(command: Command, size: int, *arguments: str) -> CommandResult:
    """Run the command with a limit of ``size`` bytes per file."""
    return command(*arguments, setup=limit_files, size=size)


def on_small_disk(command: Command, size: int, *arguments: str) -> CommandResult:
    """Run the command with its store on a disk of ``size`` bytes, whose content the directory has afterwards."""
    copy = command.directory.with_name("copy")
    shutil.copytree(command.directory, copy)
    result = command(*arguments, setup=mount_small_disk, directory=str(command.directory), copy=str(copy), size=size)
    shutil.rmtree(command.directory)
    copy.rename(command.directory)
    return result


def read_only_mount(command: Command, target: Path, *arguments: str) -> CommandResult:
    """Run the command with ``target``, the store's file or directory, mounted read-only."""
    return command(*arguments, setup=mount_read_only, target=str(target))


def read_only_mode(command: Command, target: Path, *arguments: str) -> CommandResult:
    """Run the command without write permission for ``target``, which has no effect for root."""
    before = target.stat().st_mode
    target.chmod(before & ~0o222)
    try:
        return command(*arguments)
    finally:
        target.chmod(before)


FULL = [with_small_files, *([on_small_disk] if can_mount() else [])]
READ_ONLY = [*([read_only_mount] if can_mount() else []), *([read_only_mode] if os.geteuid() else [])]
