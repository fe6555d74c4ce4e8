"""``--json`` of a process: one document on standard output, whatever happens, and nothing else there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from caliban.records import JobStatus
from caliban.store.database import Store
from tests.builders import add_group
from tests.cli.plugins import add_package, python_path
from tests.cli.test_internal_error import Failed, run_failing
from tests.conftest import Caliban, Finished, ForkedCaliban
from tests.json_documents import checked

__all__ = ["run_failing"]

NOISY = """
    import os, sys
    print("imported")

    DESCRIPTION = "Print everywhere."

    def add_arguments(parser):
        parser.add_argument("--json", dest="as_json", action="store_true")

    def run(args, context):
        import logging, subprocess, threading, warnings
        print("printed")
        print("printed", file=sys.__stdout__)
        os.write(1, b"written\\n")
        subprocess.run([sys.executable, "-c", "print('by a child')"])
        subprocess.run("echo from a shell > /dev/stdout", shell=True)
        warnings.warn("a warning")
        logging.getLogger("library").error("an error")
        logging.getLogger("library").addHandler(logging.StreamHandler(sys.stdout))
        logging.getLogger("library").error("another")
        thread = threading.Thread(target=lambda: print("by a thread"))
        thread.start(); thread.join()
        context.console.print("a line of a listing")
        context.console.info("a message")
        context.console.job_output(b"output of a job\\n", is_stderr=False)
        with context.console.progress("work", total=3, unit="B") as progress:
            progress.advance(3)
        context.console.document({"schema": "caliban.version/1", "exit_code": 0, "error": None, "version": "9"})
        return 0
"""

WAITS = """
    DESCRIPTION = "Wait for the end of the input."

    def add_arguments(parser):
        parser.add_argument("--json", dest="as_json", action="store_true")

    def run(args, context):
        context.console.info("ready")
        context.console.read_input()
        return 0
"""


@pytest.fixture
def plugged_in(tmp_path: Path) -> dict[str, str]:
    site = tmp_path / "site"
    add_package(site, "caliban-noisy", {"noisy": "noisy_plugin"}, {"noisy_plugin": NOISY})
    add_package(site, "caliban-waits", {"linger": "wait_plugin"}, {"wait_plugin": WAITS})
    return python_path(site)


def error(finished: Finished) -> tuple[str, int]:
    """The id of the error that was the result, and its exit code; both are those of the process."""
    found = checked(finished.stdout)
    assert (found["schema"], found["exit_code"]) == ("caliban.error/1", finished.returncode)
    return found["id"], finished.returncode


def test_what_libraries_and_programs_print_is_not_part_of_the_document(
    plugged_in: dict[str, str], run_caliban: Caliban
) -> None:
    done = run_caliban("noisy", "--json", env=plugged_in)
    assert (done.returncode, checked(done.stdout)["version"]) == (0, "9")
    for text in ("imported", "written", "by a child", "from a shell", "by a thread", "output of a job", "a message"):
        assert f"{text}\n" in done.stderr
    assert done.stderr.count("printed\n") == 2


def test_without_json_only_the_import_of_a_package_is_silent(plugged_in: dict[str, str], run_caliban: Caliban) -> None:
    done = run_caliban("noisy", env=plugged_in)
    assert done.stdout.startswith("printed\n")
    assert "imported\n" in done.stderr


def test_both_streams_in_one_file_have_the_document_as_a_line(plugged_in: dict[str, str], run_caliban: Caliban) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "caliban", "noisy", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=run_caliban.environment(plugged_in),
        cwd=run_caliban.cwd,
        text=True,
        check=True,
    )
    *_, last = done.stdout.splitlines(keepends=True)
    assert checked(last)["version"] == "9"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_an_error_document(
    number: signal.Signals, plugged_in: dict[str, str], run_caliban: Caliban
) -> None:
    with run_caliban.start("linger", "--json", env=plugged_in) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert error(Finished([], process.returncode, out, err)) == ("interrupted", 128 + number)


@pytest.mark.parametrize(
    "place",
    [
        "caliban.commands.version:version",
        "caliban.cli.command_line:parse",
        "caliban.cli.context:Context.of_this_process",
        "caliban.cli.library_messages:silence_libraries",
        "caliban.cli.documents:document",
    ],
)
@pytest.mark.parametrize("raised", ["ZeroDivisionError", "MemoryError", "UnspeakableError", "BrokenPipeError"])
def test_an_unforeseen_error_is_a_document(place: str, raised: str, run_failing: Failed) -> None:
    if place.endswith(":document"):
        place = "caliban.commands.version:document"
    code, out, err = run_failing("fail", "version", "--json", place=place, error=raised)
    assert error(Finished([], code, out, err)) == ("internal-error", 1)


def test_a_document_that_cannot_be_made_is_an_error_document(run_failing: Failed) -> None:
    place = "caliban.cli.documents:encoded_parts"
    code, out, err = run_failing("fail_once", "version", "--json", place=place, error="ZeroDivisionError")
    assert error(Finished([], code, out, err)) == ("internal-error", 1)


def test_an_error_in_a_thread_is_part_of_the_document(run_failing: Failed) -> None:
    code, out, _ = run_failing("fail_in_a_thread", "version", "--json", place="caliban.commands.version:version")
    found = checked(out)
    assert (code, found["exit_code"], found["error"]["id"]) == (1, 1, "internal-error")


def test_jobs_that_were_submitted_before_an_unforeseen_error_are_in_the_document(
    store: Store, run_failing: Failed
) -> None:
    failed = JobStatus.FAILED
    add_group(store, failed, failed, failed, container_spec={"image_id": "lab:1"})
    words = ("resubmit", "--xgroup", "resubmit_test", "--yes", "--json")
    code, out, err = run_failing("fail_at_the_second_submission", *words)
    found = checked(out)
    assert (code, found["exit_code"], found["error"]["id"]) == (1, 1, "internal-error"), err
    assert [(each["resubmits"], each["job"]["state"]) for each in found["jobs"]] == [(1, "SUBMITTED")]
    assert found["summary"]["not_started"] == 2
    assert "may be under way" in found["error"]["cause"]


@pytest.mark.parametrize(
    ("words", "env", "id"),
    [
        (("status", "--json"), {"CALIBAN_DB_URL": "mysql://lab/caliban"}, "store-dialect-unknown"),
        (("groups", "--json"), {"CALIBAN_DB_URL": "sqlite:////etc/passwd"}, None),
        (("logs", "--json"), {"CALIBAN_DB_URL": "sqlite:////dev"}, None),
        (("status", "--json"), {"CALIBAN_DB_URL": "\x1b"}, None),
        (("status", "--json", "--watch"), {}, "conflicting-flags"),
        (("logs", "--json", "--follow"), {}, "conflicting-flags"),
        (("logs", "--json", "--path"), {}, "conflicting-flags"),
        (("logs", "--json", "--grep", "("), {}, "invalid-value"),
        (("status", "--json", "--since", "never"), {}, "invalid-value"),
        (("status", "--json", "--xgroup", "nosuch"), {}, "unknown-xgroup"),
        (("cluster", "--json"), {}, "unknown-flag"),
        (("cluster", "job", "--json"), {}, "unknown-flag"),
        (("cluster", "lst", "--json"), {}, "unknown-command"),
        (("cluster", "job", "ls", "--json"), {"KUBECONFIG": "/nowhere"}, None),
        (("cluster", "job", "submit", "--json", "cpu.py"), {"KUBECONFIG": "/nowhere"}, None),
        (("cloud", "--json", "cpu.py"), {}, None),
        (("build", "--json", "cpu.py"), {}, None),
        (("abandon", "--json"), {}, "no-xgroup"),
        (("stop", "--json", "--flagfile", "/nowhere"), {}, "invalid-value"),
        (("stop", "--flagfile", "/nowhere", "--json"), {}, "invalid-value"),
        (("stop", "--json", "--json", "nosuch"), {}, "unexpected-argument"),
        (("run", "--json", "\udcff"), {}, "argument-not-text"),
        (("status", "--json", "--verbosity=x"), {}, "invalid-value"),
    ],
    ids=lambda each: " ".join(each).encode("ascii", "replace").decode() if isinstance(each, tuple) else None,
)
def test_an_error_is_a_document_with_the_exit_code_of_the_process(
    words: Sequence[str], env: dict[str, str], id: str | None, forked_caliban: ForkedCaliban
) -> None:
    done = forked_caliban(*words, env={"DOCKER_HOST": "unix:///nowhere", **env})
    found, code = error(done)
    assert found == (id or found)
    assert code in (1, 2)
    assert f"[{found}]" in done.stderr


@pytest.mark.parametrize(
    "words", [("status", "--no-json"), ("status", "--js"), ("status", "-json"), ("nosuch", "--", "--json")]
)
def test_what_only_resembles_the_flag_is_not_it(words: Sequence[str], forked_caliban: ForkedCaliban) -> None:
    done = forked_caliban(*words)
    assert (done.returncode, done.stdout) == (2, "")


def test_the_flag_can_be_given_twice_and_in_a_file(forked_caliban: ForkedCaliban, cwd: Path) -> None:
    (cwd / "flags").write_text("# flags\n--json\n")
    for words in (("--json", "--json"), ("--flagfile", "flags"), ("--flagfile=flags", "--json")):
        assert checked(forked_caliban("version", *words).stdout)["schema"] == "caliban.version/1"


def test_an_error_after_a_flag_file_with_the_flag_is_a_document(forked_caliban: ForkedCaliban, cwd: Path) -> None:
    (cwd / "flags").write_text("--json\n--nosuch\n")
    assert error(forked_caliban("status", "--flagfile", "flags")) == ("unknown-flag", 2)


def test_a_directory_that_was_removed_is_an_error_document(run_caliban: Caliban, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    restart = "os.execv(sys.executable, [sys.executable, '-m', 'caliban', *sys.argv[1:]])"
    program = f"import os, sys; os.rmdir(os.getcwd()); {restart}"
    for words in (("run", "--nogpu", "cpu.py", "--json"), ("build", "cpu.py", "--json")):
        gone.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=gone,
            env={**run_caliban.environment(), "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert error(done)[1] in (1, 2)


def test_a_question_without_a_terminal_is_an_error_document(store: Store, forked_caliban: ForkedCaliban) -> None:
    add_group(store, JobStatus.RUNNING, platform="MAINFRAME")
    for answer in ("", "y\n"):
        done = forked_caliban("abandon", "--xgroup", "resubmit_test", "--json", stdin=answer)
        assert error(done) == ("confirmation-needed", 1)


def many_groups(store: Store) -> None:
    for number in range(40):
        add_group(store, JobStatus.FAILED, JobStatus.FAILED, name=f"group {number} {'x' * 500}")


def shell(command: str, run_caliban: Caliban) -> Finished:
    """Run a command of a shell in which ``$C`` is caliban."""
    environ = run_caliban.environment({"C": f"{sys.executable} -m caliban"})
    return subprocess.run(
        ["bash", "-c", command], env=environ, cwd=run_caliban.cwd, capture_output=True, text=True, check=False
    )


def test_a_reader_that_leaves_within_the_document_ends_the_command_quietly(store: Store, run_caliban: Caliban) -> None:
    many_groups(store)
    done = shell('$C status --max_jobs 0 --json | head -c 10; exit "${PIPESTATUS[0]}"', run_caliban)
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"schema":', "")


def test_a_document_that_cannot_be_written_is_an_error(store: Store, run_caliban: Caliban) -> None:
    done = shell("$C status --json > /dev/full", run_caliban)
    assert (done.returncode, done.stderr.count("[output-failed]")) == (1, 1)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- 2>&-"])
def test_closed_streams_change_nothing_but_what_is_read(closed: str, store: Store, run_caliban: Caliban) -> None:
    done = shell(f"$C groups --json {closed}", run_caliban)
    assert done.returncode == 0
    assert done.stdout == "" if closed == ">&-" else checked(done.stdout)["groups"] == []


def test_a_closed_error_stream_leaves_the_error_document(run_caliban: Caliban) -> None:
    assert error(shell("$C status --json --nosuch 2>&-", run_caliban)) == ("unknown-flag", 2)


def test_the_document_goes_where_it_was_sent_though_the_output_is_moved(run_caliban: Caliban, cwd: Path) -> None:
    shell("$C version --json > file; cat file", run_caliban)
    assert checked((cwd / "file").read_text())["schema"] == "caliban.version/1"


def test_help_is_shown_in_place_of_a_document(forked_caliban: ForkedCaliban) -> None:
    for words in (("status", "--json", "--help"), ("--json", "--help"), ("version", "--helpfull", "--json")):
        done = forked_caliban(*words)
        assert (done.returncode, done.stdout.startswith("usage: ")) == (0, True)


def lines(finished: Finished) -> list[dict[str, Any]]:
    return [json.loads(line) for line in finished.stdout.splitlines()]


@pytest.mark.slow
def test_many_commands_write_a_line_each(run_caliban: Caliban) -> None:
    done = shell("for n in 1 2; do $C version --json; $C groups --json; done", run_caliban)
    assert [each["schema"] for each in lines(done)] == ["caliban.version/1", "caliban.groups/1"] * 2
