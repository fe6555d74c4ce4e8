"""Commands of other packages, called in a process of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Caliban

from .plugins import HELLO, add_package, python_path, wheel_of


@pytest.fixture
def site(tmp_path: Path) -> Path:
    directory = tmp_path / "site"
    directory.mkdir()
    return directory


def seeing(site: Path) -> dict[str, str]:
    return python_path(site)


def test_a_package_installed_by_pip_adds_its_command(site: Path, tmp_path: Path, run_caliban: Caliban) -> None:
    source = tmp_path / "source"
    add_package(source, "caliban-hello", {"hello": "hello_plugin"}, {"hello_plugin": HELLO})
    wheel = wheel_of(source, tmp_path)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True, capture_output=True, cwd=tmp_path)
    done = run_caliban("hello", "--name", "mei", env=seeing(site))
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello mei, says totoro\n", "")


@pytest.fixture
def hello(site: Path) -> dict[str, str]:
    add_package(site, "caliban-hello", {"hello": "hello_plugin"}, {"hello_plugin": HELLO})
    return seeing(site)


@pytest.fixture
def broken(site: Path, hello: dict[str, str]) -> dict[str, str]:
    """A working package, and one whose command creates a file and fails when it is imported."""
    source = "import pathlib; pathlib.Path(__file__).with_suffix('.seen').touch(); 1 / 0"
    add_package(site, "caliban-broken", {"broken": "broken_plugin"}, {"broken_plugin": source})
    return hello


def test_a_plugin_is_listed_with_its_package(hello: dict[str, str], forked_caliban: Caliban) -> None:
    assert re.search(r"\n  hello +\(from the package caliban-hello\)\n", forked_caliban("--help", env=hello).stdout)


def test_a_plugin_has_help(hello: dict[str, str], forked_caliban: Caliban) -> None:
    assert forked_caliban("hello", "--help", env=hello).stdout.startswith(
        "usage: caliban hello [-h] [--helpfull] [--name NAME]\n\nGreet somebody.\n"
    )


def test_help_takes_the_name_of_a_plugin(hello: dict[str, str], forked_caliban: Caliban) -> None:
    done = forked_caliban("help", "hello", env=hello)
    assert (done.returncode, done.stdout) == (0, forked_caliban("hello", "--help", env=hello).stdout)


def test_wrong_usage_of_a_plugin_is_reported_like_any_other(hello: dict[str, str], forked_caliban: Caliban) -> None:
    done = forked_caliban("hello", "--nmae=mei", env=hello)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        'error: unknown flag "--nmae" [unknown-flag]\n  hint: did you mean --name?\n',
    )


def test_a_mistyped_plugin_is_suggested(hello: dict[str, str], forked_caliban: Caliban) -> None:
    assert 'hint: did you mean "caliban hello"?' in forked_caliban("helo", env=hello).stderr


def test_a_broken_plugin_causes_a_warning(broken: dict[str, str], forked_caliban: Caliban) -> None:
    done = forked_caliban("--help", env=broken)
    assert (done.returncode, done.stderr) == (
        0,
        "warning: cannot use the command broken of the package caliban-broken: ZeroDivisionError: division by zero\n",
    )


def test_a_broken_plugin_is_an_error_of_its_own_command(broken: dict[str, str], forked_caliban: Caliban) -> None:
    done = forked_caliban("broken", env=broken)
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "error: cannot use the command broken of the package caliban-broken [broken-plugin]\n"
        "  cause: ZeroDivisionError: division by zero\n"
        "  hint: update or remove the package caliban-broken; all other commands work\n",
    )


@pytest.mark.parametrize("arguments", [("resubmit", "--help"), ("hello",), ("status",)])
def test_a_broken_plugin_is_not_imported_by_other_commands(
    arguments: tuple[str, ...], broken: dict[str, str], site: Path, forked_caliban: Caliban
) -> None:
    done = forked_caliban(*arguments, env=broken)
    assert (done.returncode, "broken" in done.stderr, (site / "broken_plugin.seen").exists()) == (0, False, False)


def test_a_plugin_with_a_built_in_name_is_never_run(site: Path, forked_caliban: Caliban) -> None:
    add_package(site, "caliban-evil", {"status": "evil_plugin"}, {"evil_plugin": "1 / 0"})
    done = forked_caliban("status", env=seeing(site))
    assert (done.returncode, done.stdout) == (0, "most recent 8 jobs for user totoro:\n")
