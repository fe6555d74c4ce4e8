"""Whatever is raised, wherever: one error, a file with the traceback, and no traceback on a stream."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pytest

from caliban.cli.internal_error import internal_error, save_traceback
from caliban.errors import ExitCode
from caliban.records import JobStatus
from caliban.store.database import Store
from tests.builders import add_group
from tests.cli import failures
from tests.conftest import ForkedCaliban
from tests.forkserver import Invocation

VERSION = "caliban.commands.version:version"
PLACES = (
    VERSION,
    "caliban.cli.command_line:parse",
    "caliban.cli.context:Context.of_this_process",
    "caliban.cli.library_messages:silence_libraries",
    "absl.app:run",
)
FORESEEN = {"KeyboardInterrupt", "text"}


class Failed(Protocol):
    def __call__(
        self, setup: str, *words: str, env: Mapping[str, str] | None = None, **options: str
    ) -> tuple[int, str, str]: ...


@pytest.fixture
def run_failing(forked_caliban: ForkedCaliban, tmp_path: Path) -> Failed:
    """Runs a command in a process that fails, and returns exit code, standard output and standard error."""

    def run(setup: str, *words: str, env: Mapping[str, str] | None = None, **options: str) -> tuple[int, str, str]:
        streams = [tmp_path / name for name in ("stdin", "stdout", "stderr")]
        streams[0].touch()
        environ = forked_caliban.environment({"TMPDIR": str(tmp_path), **(env or {})})
        stdin, stdout, stderr = map(str, streams)
        invocation = Invocation(
            words,
            environ,
            str(forked_caliban.cwd),
            stdin,
            stdout,
            stderr,
            setup=f"tests.cli.failures:{setup}",
            options=options,
        )
        [code] = forked_caliban.server.run(invocation)
        return code, streams[1].read_text(), streams[2].read_text()

    return run


def traceback_file(reported: str) -> Path:
    found = re.search(r"traceback: (\S+)", reported)
    assert found is not None, reported
    return Path(found[1])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "error", [*(name for name in failures.ERRORS if name not in FORESEEN), "RecursionError", "UnicodeEncodeError"]
)
def test_an_unforeseen_error_is_reported_without_a_traceback(place: str, error: str, run_failing: Failed) -> None:
    code, out, err = run_failing("fail", "version", place=place, error=error)
    name = "ValueError" if error == "secret" else error
    assert (code, out, err.splitlines()[0]) == (ExitCode.NOT_DONE, "", f"error: unexpected {name} [internal-error]")
    assert not re.search(r"Traceback|File \"|hunter2|\x1b", err)
    file = traceback_file(err)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "Traceback (most recent call last):" in file.read_text()


@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_is_reported_wherever_it_comes(place: str, run_failing: Failed) -> None:
    code, _, err = run_failing("fail", "version", place=place, error="KeyboardInterrupt")
    assert (code, err) == (ExitCode.INTERRUPTED, "interrupted\n")


def test_a_text_as_exit_code_is_shown(run_failing: Failed) -> None:
    code, _, err = run_failing("fail", "version", place=VERSION, error="text")
    assert (code, err) == (ExitCode.NOT_DONE, "a text in place of a code\n")


def test_the_traceback_has_no_secrets(run_failing: Failed) -> None:
    env = {"LAB_TOKEN": "planted-secret"}
    _, _, err = run_failing("fail", "version", place=VERSION, error="secret", env=env)
    saved = traceback_file(err).read_text()
    assert ("planted-secret" in saved + err, "hunter2" in saved + err) == (False, False)
    assert "ValueError: tcp://lab, ***" in saved


def test_an_error_in_a_thread_is_reported_and_the_command_fails(run_failing: Failed) -> None:
    code, out, err = run_failing("fail_in_a_thread", "version", place=VERSION)
    assert (code, out.startswith("caliban "), err.splitlines()[0]) == (
        ExitCode.NOT_DONE,
        True,
        "error: unexpected ZeroDivisionError [internal-error]",
    )
    assert "ZeroDivisionError" in traceback_file(err).read_text()


def test_an_error_that_cannot_be_raised_is_a_warning(run_failing: Failed) -> None:
    code, _, err = run_failing("fail_to_delete", "version", place=VERSION)
    assert (code, err) == (
        ExitCode.DONE,
        "warning: ignored an error that could not be raised: ZeroDivisionError\n",
    )


def test_open_submissions_are_part_of_the_report(
    store: Store, run_failing: Failed, forked_caliban: ForkedCaliban
) -> None:
    """The service fails after the submission was journaled, in a way that the submission layer does not expect."""
    add_group(store, JobStatus.FAILED, container_spec={"image_id": "lab:1"})
    code, _, err = run_failing("fail_while_submitting", "resubmit", "--xgroup", "resubmit_test", "--yes")
    assert (code, "\nerror: unexpected GeneratorExit [internal-error]\n" in f"\n{err}") == (ExitCode.NOT_DONE, True), (
        err
    )
    assert re.search(r"\n    submission fake-\S+ \(TEST\) may be under way\n", err)
    assert "\n    look up its job: caliban status --xgroup resubmit_test\n" in err


def test_where_no_directory_can_be_written_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caliban.cli.internal_error._directories", lambda: ["/proc", "/no/such/directory"])
    error = internal_error(ZeroDivisionError("x"))
    assert (error.cause, error.hint) == (
        "ZeroDivisionError: x\nthe traceback could not be saved: no directory is writable",
        "set $TMPDIR to a writable directory, and try again",
    )


def test_a_full_directory_is_not_the_last_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("caliban.cli.internal_error._directories", lambda: ["/no/such/directory", str(tmp_path)])
    saved = save_traceback(ZeroDivisionError())
    assert saved is not None
    assert saved.parent == tmp_path
