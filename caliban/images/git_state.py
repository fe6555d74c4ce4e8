"""Read which commit a project is at, without running anything that its repository configures.

A repository may be anyone's: what was downloaded, or another user's. Its configuration can name programs that Git runs
(``core.fsmonitor``, filters, external diffs), so Git never sees it: the commit is read from the files, and Git compares
the working tree with it from a Git directory of ours that borrows only the objects and the index.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from caliban import input_files
from caliban.bounded import DeadlineExceededError, TooLargeError
from caliban.clock import Clock
from caliban.code_record import GitState
from caliban.helper_process import run_helper
from caliban.input_files import InputFileError

SECONDS = 5.0
"""How long Git may take to compare the working tree."""

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BRANCH = re.compile(r"ref: (refs/[^\0\n]{1,1000})")
_MAX_PACKED = 16 * input_files.MIB
_MAX_DEPTH = 64


def git_state(directory: Path, environ: Mapping[str, str], clock: Clock) -> GitState | None:
    """Return the commit of the repository that a directory is in, and whether tracked files in it differ.

    Never raises: None where there is no repository, or where it cannot be read.
    """
    with suppress(OSError, ValueError, InputFileError):
        found = _repository(directory)
        if found is None:
            return None
        root, private = found
        shared = _shared(private)
        commit = _commit(private, shared)
        return GitState(commit, _is_dirty(root, directory, private, shared, commit, environ, clock)) if commit else None
    return None


def _repository(directory: Path) -> tuple[Path, Path] | None:
    """Return the working tree that a directory is in, and its Git directory."""
    for root in [directory, *directory.parents][:_MAX_DEPTH]:
        git = root / ".git"
        if git.is_dir():
            return root, git
        if git.is_file():  # of a worktree or a submodule
            target = _line(git).removeprefix("gitdir:").strip()
            return root, root / target
    return None


def _shared(private: Path) -> Path:
    """Return the Git directory that has the objects and branches: another one for a worktree."""
    with suppress(InputFileError):
        return private / _line(private / "commondir")
    return private


def _commit(private: Path, shared: Path) -> str | None:
    head = _line(private / "HEAD")
    branch = _BRANCH.fullmatch(head)
    if branch is None:
        return head if _COMMIT.fullmatch(head) else None
    name = branch[1]
    if ".." in name.split("/"):
        return None
    for place in (private, shared):
        with suppress(InputFileError):
            value = _line(place / name)
            return value if _COMMIT.fullmatch(value) else None
    for line in input_files.read_text(shared / "packed-refs", limit=_MAX_PACKED, errors="replace").splitlines():
        value, _, ref = line.partition(" ")
        if ref == name and _COMMIT.fullmatch(value):
            return value
    return None


def _is_dirty(
    root: Path,
    directory: Path,
    private: Path,
    shared: Path,
    commit: str,
    environ: Mapping[str, str],
    clock: Clock,
) -> bool | None:
    program = shutil.which("git", path=_absolute(environ.get("PATH", os.defpath)))
    if program is None or not (private / "index").is_file():
        return None
    with TemporaryDirectory(prefix="caliban-git-") as own:
        _write_git_directory(Path(own), commit)
        variables = {
            "PATH": _absolute(environ.get("PATH", os.defpath)),
            "HOME": own,
            "LC_ALL": "C",
            "GIT_DIR": own,
            "GIT_WORK_TREE": str(root),
            "GIT_OBJECT_DIRECTORY": str(shared / "objects"),
            "GIT_INDEX_FILE": str(private / "index"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
        }
        flags = ("--no-ext-diff", "--no-textconv", "--ignore-submodules=all", "--quiet")
        command = (program, "-c", "core.fsmonitor=", "-c", f"core.hooksPath={os.devnull}", "diff", *flags, "HEAD")
        try:
            place = os.path.relpath(directory, root)
            result = run_helper((*command, "--", place), clock, environ=variables, cwd=str(root), seconds=SECONDS)
        except (OSError, DeadlineExceededError, TooLargeError):
            return None
    return {0: False, 1: True}.get(result.code)


def _write_git_directory(own: Path, commit: str) -> None:
    """Write the least that Git takes for a repository, at a commit."""
    (own / "refs").mkdir()
    (own / "objects").mkdir()
    (own / "HEAD").write_text(f"{commit}\n", encoding="ascii")
    is_sha256 = len(commit) == 64
    extensions = "[extensions]\n\tobjectformat = sha256\n" if is_sha256 else ""
    config = f"[core]\n\trepositoryformatversion = {int(is_sha256)}\n\tbare = false\n{extensions}"
    (own / "config").write_text(config, encoding="ascii")


def _absolute(path: str) -> str:
    """Return ``PATH`` without directories relative to the current one, which may be the repository."""
    return os.pathsep.join(each for each in path.split(os.pathsep) if each.startswith("/"))


def _line(path: Path) -> str:
    return input_files.read_text(path, limit=64 * 1024, errors="replace").strip()
