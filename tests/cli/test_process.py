"""The process: exit codes, signals, closed pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from caliban.errors import ExitCode
from tests.conftest import Caliban

from .plugins import add_package, python_path

WAITS = """
    DESCRIPTION = "Wait for the end of the input."

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
    add_package(site, "caliban-waits", {"linger": "wait_plugin"}, {"wait_plugin": WAITS})
    add_package(site, "caliban-prints", {"print-much": "print_plugin"}, {"print_plugin": PRINTS_MUCH})
    return python_path(site)


def test_exit_codes_do_not_change() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "NOT_DONE": 1,
        "USAGE": 2,
        "TIMED_OUT": 3,
        "HUNG_UP": 129,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--version",), 0),
        (("version",), 0),
        (("help",), 0),
        (("help", "status"), 0),
        (("help", "nothing"), 2),
        (("status", "--help"), 0),
        (("status", "--nothing"), 2),
        (("status", "--max_jobs", "x"), 2),
        (("run",), 2),
        (("status",), 0),
        (("status", "--xgroup", "nobody_made_it"), 1),
        (("resubmit",), 2),
        (("run", "--experiment_config", "no_such.json", "no_such.py"), 2),
    ],
)
def test_a_command_ends_with_its_exit_code(arguments: tuple[str, ...], code: int, forked_caliban: Caliban) -> None:
    assert forked_caliban(*arguments).returncode == code


def test_a_store_that_cannot_be_opened_is_an_error(run_caliban: Caliban) -> None:
    done = run_caliban("status", env={"CALIBAN_DB_URL": "mysql://lab/caliban"})
    assert (done.returncode, done.stdout, "[store-dialect-unknown]" in done.stderr) == (1, "", True)


@pytest.mark.parametrize("arguments", [("run",), ("status", "--max_jobs", "x"), ("staus",), ("resubmit", "night")])
def test_wrong_usage_is_reported_without_the_usage_text(arguments: tuple[str, ...], forked_caliban: Caliban) -> None:
    done = forked_caliban(*arguments)
    error, hint = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert (error.startswith("error: "), error.endswith("]"), hint.startswith("  hint: ")) == (True, True, True)


def test_an_error_has_an_id_and_a_hint_and_no_traceback(run_caliban: Caliban) -> None:
    done = run_caliban("staus")
    assert (done.returncode, done.stderr) == (
        2,
        'error: unknown command "staus" [unknown-command]\n  hint: did you mean "caliban status"?\n'
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_command_ends_with_the_code_of_the_signal(
    number: signal.Signals, plugged_in: dict[str, str], run_caliban: Caliban
) -> None:
    with run_caliban.start("linger", env=plugged_in) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, reported = process.communicate(timeout=30)
    assert (process.returncode, reported) == (128 + number, "interrupted\n")


@pytest.mark.slow
def test_a_pipe_that_is_closed_early_ends_the_command_quietly(plugged_in: dict[str, str], run_caliban: Caliban) -> None:
    with run_caliban.start("print-much", env=plugged_in) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        reported = process.stderr.read()
    assert (process.returncode, reported) == (0, "")


@pytest.mark.parametrize("argument", ["version", "help", "--help", "--version"])
def test_a_listing_into_a_closed_pipe_ends_quietly(argument: str, run_caliban: Caliban) -> None:
    readable, writable = os.pipe()
    os.close(readable)
    done = subprocess.run(
        [sys.executable, "-m", "caliban", argument],
        stdout=writable,
        stderr=subprocess.PIPE,
        env=run_caliban.environment(),
        cwd=run_caliban.cwd,
        check=False,
    )
    os.close(writable)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_user_is_the_login_name_by_default(run_caliban: Caliban) -> None:
    done = run_caliban("status", env={"CALIBAN_USER": "", "LOGNAME": "", "USER": "mei"})
    assert done.stdout == "most recent 8 jobs for user mei:\n"


def test_reading_commands_write_nothing(forked_caliban: Caliban) -> None:
    forked_caliban("status")
    forked_caliban("resubmit", "--xgroup", "nobody_made_it")
    assert list(forked_caliban.home.iterdir()) == []
