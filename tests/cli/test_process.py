"""How the process begins and ends: exit codes, signals, closed pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from caliban.errors import ExitCode
from tests.conftest import Caliban

from .plugins import add_package

WAITS = """
    DESCRIPTION = "Wait for somebody to end the input."

    def add_arguments(parser):
        pass

    def run(args, context):
        context.console.print("ready")
        context.console.read_input()
        return 0
"""

PRINTS_MUCH = """
    DESCRIPTION = "Print more than a pipe holds."

    def add_arguments(parser):
        pass

    def run(args, context):
        for number in range(100_000):
            context.console.print(f"line {number}")
        return 0
"""


@pytest.fixture
def plugged_in(tmp_path: Path) -> dict[str, str]:
    site = tmp_path / "site"
    add_package(site, "caliban-waits", {"wait": "wait_plugin"}, {"wait_plugin": WAITS})
    add_package(site, "caliban-prints", {"print-much": "print_plugin"}, {"print_plugin": PRINTS_MUCH})
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))}


def test_exit_codes_are_what_scripts_know() -> None:
    assert {code.name: int(code) for code in ExitCode} == {"DONE": 0, "NOT_DONE": 1, "USAGE": 2, "INTERRUPTED": 130}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--version",), 0),
        (("status",), 0),
        (("status", "--xgroup", "nobody_made_it"), 1),
        (("resubmit",), 2),
        (("run", "--experiment_config", "no_such.json", "no_such.py"), 2),
    ],
)
def test_a_command_ends_with_its_exit_code(words: tuple[str, ...], code: int, run_caliban: Caliban) -> None:
    assert run_caliban(*words).returncode == code


def test_a_store_that_cannot_be_opened_is_not_done(run_caliban: Caliban) -> None:
    done = run_caliban("status", env={"CALIBAN_DB_URL": "mysql://lab/caliban"})
    assert (done.returncode, done.stdout, "[store-dialect-unknown]" in done.stderr) == (1, "", True)


def test_an_error_is_told_without_a_traceback_or_a_prefix(run_caliban: Caliban) -> None:
    done = run_caliban("staus")
    assert (done.returncode, done.stderr) == (
        2,
        "error: staus is not a command of caliban [unknown-command]\n  hint: did you mean status?\n"
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_ends_with_130(
    number: signal.Signals, plugged_in: dict[str, str], run_caliban: Caliban
) -> None:
    with run_caliban.start("wait", env=plugged_in) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (130, "interrupted\n")


def test_a_reader_who_has_enough_ends_the_command_quietly(plugged_in: dict[str, str], run_caliban: Caliban) -> None:
    with run_caliban.start("print-much", env=plugged_in) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (1, "")


@pytest.mark.parametrize(("word", "code"), [("status", 1), ("--help", 0)])
def test_a_listing_into_a_closed_pipe_ends_quietly(word: str, code: int, run_caliban: Caliban) -> None:
    readable, writable = os.pipe()
    os.close(readable)
    done = subprocess.run(
        [sys.executable, "-m", "caliban", word],
        stdout=writable,
        stderr=subprocess.PIPE,
        env=run_caliban.environment(),
        cwd=run_caliban.cwd,
        check=False,
    )
    os.close(writable)
    assert (done.returncode, done.stderr) == (code, b"")


def test_the_user_comes_from_the_login_where_nothing_else_is_said(run_caliban: Caliban) -> None:
    done = run_caliban("status", env={"CALIBAN_USER": "", "LOGNAME": "", "USER": "mei"})
    assert done.stdout == "most recent 8 jobs for user mei:\n"


def test_nothing_is_written_where_nothing_was_asked_for(run_caliban: Caliban) -> None:
    run_caliban("status")
    run_caliban("resubmit", "--xgroup", "nobody_made_it")
    assert list(run_caliban.home.iterdir()) == []
