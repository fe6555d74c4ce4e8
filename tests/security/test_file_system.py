"""Whatever a file system answers is an error of ours, or leaves a file out; never an unforeseen error.

Errors are injected into each call that asks the operating system about a file of the project, and a user without the
right to read some files runs the real command.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import CalibanError
from caliban.images.context import collect
from caliban.images.context_warnings import context_warnings
from tests.calls import call
from tests.conftest import ScreenContext

from .test_project_files import failure, spec_of

ERRORS = [
    *(errno.EACCES, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EIO, errno.ESTALE),
    *(errno.EINVAL, errno.EOPNOTSUPP, errno.EMFILE),
]
CALLS = ("stat", "lstat", "scandir", "open", "readlink", "listdir")


class Entry:
    """An entry of a directory whose kind the file system does not say, so that each question may fail."""

    def __init__(self, entry: os.DirEntry[str], may_fail: Callable[[str], None]) -> None:
        self.name, self.path = entry.name, entry.path
        self._entry, self._may_fail = entry, may_fail

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(**how: bool) -> Any:
            self._may_fail(self.path)
            return getattr(self._entry, name)(**how)

        return ask

    def __fspath__(self) -> str:
        return self.path


class FailingFileSystem:
    """Counts the questions about a directory, and fails the one with a number."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.failing: tuple[int, int] | None = None
        self._directory = str(directory)
        for name in CALLS:
            patch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            if isinstance(path, str | os.PathLike):
                self._may_fail(os.fspath(path))
            found = function(path, *arguments, **options)
            return self._entries(found) if name == "scandir" else found

        return call

    @contextmanager
    def _entries(self, found: Any) -> Iterator[Iterator[Entry]]:
        with found as entries:
            yield (Entry(entry, self._may_fail) for entry in entries)

    def _may_fail(self, path: str) -> None:
        if not path.startswith(self._directory):
            return
        self.count += 1
        if self.failing is not None and self.count == self.failing[0]:
            raise OSError(self.failing[1], os.strerror(self.failing[1]), path)


@pytest.fixture
def project(cwd: Path) -> Path:
    (cwd / "trainer" / "data").mkdir(parents=True)
    for name in ("trainer/train.py", "trainer/__init__.py", "trainer/data/x.json", "requirements.txt", "setup.py"):
        (cwd / name).write_text("{}")
    (cwd / ".dockerignore").write_text("*.log\n")
    (cwd / "trainer" / "link").symlink_to("data/x.json")
    return cwd


def build(project: Path) -> None:
    context = collect(spec_of(project, "trainer.train", ("trainer/data",)), "FROM x\n", {})
    for _ in context.stream(lambda _: None):
        pass


ACTIONS: dict[str, Callable[[Path], object]] = {
    "build": build,
    "a dry run's warnings": lambda project: context_warnings(spec_of(project, "trainer.train")),
    "a missing script": lambda project: failure(project, "nofile.py"),
    "a missing module": lambda project: failure(project, "trainer.nothing"),
}


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
def test_an_error_of_any_question_is_an_error_of_ours_or_leaves_a_file_out(
    project: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    with monkeypatch.context() as patch:
        files = FailingFileSystem(project, patch)
        ACTIONS[action](project)
        total = files.count
        assert total > 5
        for number in range(1, total + 1):
            for code in ERRORS:
                files.count, files.failing = 0, (number, code)
                try:
                    ACTIONS[action](project)
                except CalibanError as error:
                    assert error.hint or error.cause or error.id == "module-not-found", (number, code, error)  # noqa: PT017


@pytest.mark.parametrize("code", ERRORS)
def test_a_dry_run_reports_any_error(
    project: Path, context: ScreenContext, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with monkeypatch.context() as patch:
        files = FailingFileSystem(project, patch)
        for number in range(1, 60, 2):
            files.count, files.failing = 0, (number, code)
            try:
                call(context, "run", "--nogpu", "--dry_run", "trainer.train")
            except CalibanError as error:
                assert error.id != "internal-error"  # noqa: PT017 - success is correct, too


def test_an_excluded_directory_that_nobody_may_read_is_left_out(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "trainer" / "private").mkdir()
    (project / ".dockerignore").write_text("trainer/private\n!**/*.md\n")
    spec = spec_of(project, "trainer.train")
    with monkeypatch.context() as patch:
        files = FailingFileSystem(project / "trainer" / "private", patch)
        for number in range(1, 6):
            files.count, files.failing = 0, (number, errno.EACCES)
            assert "trainer/private" not in {file.source for file in collect(spec, "", {}).files}


def drop_rights() -> None:
    """Give up root's right to read everything, in this process and those that it starts."""
    drop_from_bounding_set = 24  # linux/prctl.h
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0)


def without_rights(directory: Path, home: Path, *arguments: str) -> tuple[str, str]:
    """Run the command as a user who may not read everything; return the id of its error and its output."""
    done = subprocess.run(
        [sys.executable, "-m", "caliban", *arguments],
        cwd=directory,
        env={**os.environ, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])},
        preexec_fn=drop_rights,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    output = done.stdout + done.stderr
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    return (errors[0].rpartition("[")[2].rstrip("]") if errors else ""), output


@pytest.mark.parametrize("directory", ["/", "/proc", "/proc/self", "/sys/kernel", "/dev"])
def test_a_script_is_looked_for_in_any_directory(directory: str, home: Path) -> None:
    if directory == "/":  # a module that no directory has: nothing is copied
        assert (
            without_rights(Path(directory), home, "run", "--nogpu", "--dry_run", "no/such.py")[0] == "module-not-found"
        )
    assert without_rights(Path(directory), home, "run", "--nogpu", "--dry_run", "nofile.py")[0] == "module-not-found"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["closed/x.py"], "module-not-found"),
        (["closed.x"], "module-not-found"),
        (["closed"], "module-not-found"),
        (["--experiment_config", "closed/e.json", "cpu.py"], "no-experiment-config"),
        (["--cloud_key", "closed/key.json", "cpu.py"], "key-not-readable"),
        (["--flagfile", "closed/flags", "cpu.py"], "invalid-value"),
        (["-d", "closed/x", "cpu.py"], "extra-dir-not-found"),
        (["cpu.py"], ""),
    ],
)
def test_what_may_not_be_read_is_reported(cwd: Path, home: Path, arguments: list[str], expected: str) -> None:
    (cwd / "cpu.py").write_text("")
    (cwd / "closed").mkdir(mode=0)
    try:
        found, output = without_rights(cwd, home, "run", "--nogpu", "--dry_run", *arguments)
    finally:
        (cwd / "closed").chmod(0o700)
    assert found == expected, output
    if not expected:
        assert "warning: cannot read a file of the build context: " in output


def test_a_current_directory_that_was_removed_is_reported(tmp_path: Path, home: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    done = subprocess.run(
        [sys.executable, "-c", code, "-m", "caliban", "run", "--nogpu", "--dry_run", "cpu.py"],
        cwd=gone,
        env={**os.environ, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "[no-folder]" in done.stderr
