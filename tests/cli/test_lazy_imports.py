"""Importing a command costs only what that command uses, as a new interpreter shows."""

from __future__ import annotations

import subprocess
import sys

import pytest

from caliban.cli import command_table
from tests.conftest import Caliban

HEAVY = (
    "sqlalchemy",
    "alembic",
    "googleapiclient",
    "google.auth",
    "docker",
    "requests",
    "urllib3",
    "tqdm",
    "yaml",
    "caliban.store",
    "caliban.images",
    "caliban.submission",
)

LISTINGS = (("--help",), ("--version",), ("help",), ("version",), ("cluster", "--help"), ("help", "cluster"))

PROGRAM = """
import sys
from caliban.main import main
sys.argv = ["caliban", *sys.argv[1:]]
try:
    main()
finally:
    with open("loaded", "w") as file:
        file.write("\\n".join(sys.modules))
"""


def loaded(caliban: Caliban, *arguments: str) -> set[str]:
    subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=caliban.environment(),
        cwd=caliban.cwd,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return set((caliban.cwd / "loaded").read_text().splitlines())


@pytest.mark.parametrize("arguments", LISTINGS)
def test_a_list_of_commands_imports_none_of_them(arguments: tuple[str, ...], run_caliban: Caliban) -> None:
    found = loaded(run_caliban, *arguments)
    own = {entry.location.partition(":")[0] for entry in command_table.BUILT_IN.values()}
    called = {f"caliban.commands.{argument}" for argument in arguments[:1]}
    assert found & (own - called) == set()
    assert {name for name in found if name.startswith(("caliban.platforms", "caliban.images"))} == set()
    assert found.intersection(HEAVY) == set()


@pytest.mark.parametrize("flag", ["--help", "--helpfull"])
@pytest.mark.parametrize("command", command_table.BUILT_IN)
def test_the_help_of_a_command_imports_nothing_heavy(command: str, flag: str, run_caliban: Caliban) -> None:
    assert loaded(run_caliban, *command.split(), flag).intersection(HEAVY) == set()


@pytest.mark.parametrize("command", ["resubmit", "cluster job ls"])
def test_help_imports_the_command_that_it_describes_and_no_other(command: str, run_caliban: Caliban) -> None:
    found = loaded(run_caliban, "help", *command.split())
    own = {entry.location.partition(":")[0]: name for name, entry in command_table.BUILT_IN.items()}
    assert {own[name] for name in found & set(own)} == {command, "help"}
    assert found.intersection(HEAVY) == set()


def test_status_imports_the_store_and_neither_docker_nor_google_nor_alembic(run_caliban: Caliban) -> None:
    """That SQLAlchemy is found shows that the tests above would find it, too."""
    own = {name for name in HEAVY if name.startswith("caliban.")}
    found = loaded(run_caliban, "status").intersection(HEAVY)
    assert (found - own, "sqlalchemy" in found) == ({"sqlalchemy"}, True)
