"""The commit of a project, read without running what its repository configures."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from caliban.clock import SystemClock
from caliban.code_record import GitState
from caliban.images.git_state import git_state


def git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Mei", "-c", "user.email=mei@example.com", "-c", "init.defaultBranch=main")
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", *identity, *arguments]
    return subprocess.run(
        command, cwd=directory, env=environ, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    directory = tmp_path / "digits"
    directory.mkdir()
    git(directory, "init", "-q")
    (directory / "train.py").write_text("print()\n")
    git(directory, "add", ".")
    git(directory, "commit", "-q", "-m", "Train")
    return directory


def state(directory: Path, path: str | None = None) -> GitState | None:
    return git_state(directory, {"PATH": os.environ["PATH"] if path is None else path}, SystemClock())


def test_a_clean_repository_is_clean(repository: Path) -> None:
    assert state(repository) == GitState(git(repository, "rev-parse", "HEAD"), False)


@pytest.mark.parametrize("is_staged", [True, False])
def test_a_changed_file_makes_it_dirty(repository: Path, is_staged: bool) -> None:
    (repository / "train.py").write_text("print(1)\n")
    if is_staged:
        git(repository, "add", ".")
    assert state(repository) == GitState(git(repository, "rev-parse", "HEAD"), True)


def test_a_touched_file_does_not(repository: Path) -> None:
    os.utime(repository / "train.py", (1, 1))
    assert state(repository) == GitState(git(repository, "rev-parse", "HEAD"), False)


def test_packed_branches_worktrees_and_detached_heads_are_read(repository: Path, tmp_path: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    git(repository, "pack-refs", "--all")
    git(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "other"))
    assert state(repository) == state(tmp_path / "other") == GitState(commit, False)


def test_without_git_the_commit_is_known_all_the_same(repository: Path) -> None:
    assert state(repository, "/nowhere:.") == GitState(git(repository, "rev-parse", "HEAD"), None)


def test_a_project_in_a_repository_counts_for_itself(repository: Path) -> None:
    (repository / "sub").mkdir()
    (repository / "train.py").write_text("print(1)\n")
    assert state(repository / "sub") == GitState(git(repository, "rev-parse", "HEAD"), False)


def test_a_directory_without_a_repository_has_no_commit(tmp_path: Path) -> None:
    assert state(tmp_path) is None


@pytest.mark.parametrize("head", ["", "ref: refs/heads/../../../../etc/passwd", "ref: /etc/passwd", "x" * 40, "\xff"])
def test_a_strange_head_has_no_commit(repository: Path, head: str) -> None:
    (repository / ".git" / "HEAD").write_text(head, encoding="latin-1")
    assert state(repository) is None


def test_a_repository_runs_nothing(repository: Path, tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    program = tmp_path / "trap.sh"
    program.write_text(f"#!/bin/sh\ntouch {trap}\ncat\n")
    program.chmod(0o755)
    (repository / ".gitattributes").write_text("*.py filter=trap diff=trap\n")
    (repository / ".git" / "config").write_text(
        f"[core]\n\trepositoryformatversion = 0\n\tfsmonitor = {program}\n\thooksPath = {tmp_path}\n"
        f"\tsshCommand = {program}\n"
        f"\tpager = {program}\n"
        f'[filter "trap"]\n\tclean = {program}\n\tprocess = {program}\n\trequired = true\n'
        f'[diff "trap"]\n\ttextconv = {program}\n\tcommand = {program}\n[diff]\n\texternal = {program}\n'
        f"[include]\n\tpath = {tmp_path}/more\n"
    )
    (repository / "train.py").write_text("print(1)\n")
    (repository / "git").symlink_to(program)  # for a PATH with the current directory
    assert state(repository, f".::{os.environ['PATH']}") == GitState(git_head(repository), True)
    assert not trap.exists()


def git_head(repository: Path) -> str:
    return (repository / ".git" / "refs" / "heads" / "main").read_text().strip()
