"""Importing a command costs only what that command uses, as a new interpreter shows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

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

HELP = [(*command.split(), flag) for command in command_table.BUILT_IN for flag in ("--help", "--helpfull")]
HELP_OF_ONE = [("help", *command.split()) for command in ("resubmit", "cluster job ls")]

PROGRAM = """
import json, os, sys
from caliban.main import main
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        for descriptor in range(3):
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
        sys.argv = ["caliban", *json.loads(line)]
        try:
            main()
        finally:
            with open("modules", "w") as file:
                file.write("\\n".join(sys.modules))
        sys.exit()
    print(os.waitpid(pid, 0)[1], flush=True)
"""
Loaded = Callable[..., set[str]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    """Return the modules that a command imports: each runs in a fork of an interpreter that has imported ``main``."""
    directory = tmp_path_factory.mktemp("lazy")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=Caliban(directory, directory).environment(),
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as interpreter:
        stdin, stdout = interpreter.stdin, interpreter.stdout
        assert stdin is not None
        assert stdout is not None

        def modules(*arguments: str) -> set[str]:
            stdin.write(json.dumps(arguments) + "\n")
            stdin.flush()
            assert stdout.readline() == "0\n"
            return set((directory / "modules").read_text().splitlines())

        yield modules
        stdin.close()
    assert interpreter.returncode == 0


@pytest.mark.parametrize("arguments", LISTINGS)
def test_a_list_of_commands_imports_none_of_them(arguments: tuple[str, ...], loaded: Loaded) -> None:
    found = loaded(*arguments)
    own = {entry.location.partition(":")[0] for entry in command_table.BUILT_IN.values()}
    called = {f"caliban.commands.{argument}" for argument in arguments[:1]}
    assert found & (own - called) == set()
    assert {name for name in found if name.startswith(("caliban.platforms", "caliban.images"))} == set()
    assert found.intersection(HEAVY) == set()


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_the_help_of_a_command_imports_nothing_heavy(arguments: tuple[str, ...], loaded: Loaded) -> None:
    assert loaded(*arguments).intersection(HEAVY) == set()


def test_the_help_of_resubmit_does_not_look_for_packages(loaded: Loaded) -> None:
    assert loaded("resubmit", "--help").isdisjoint({"importlib.metadata", "email", "zipfile"})


@pytest.mark.parametrize("arguments", HELP_OF_ONE, ids=" ".join)
def test_help_imports_the_command_that_it_describes_and_no_other(arguments: tuple[str, ...], loaded: Loaded) -> None:
    found = loaded(*arguments)
    own = {entry.location.partition(":")[0]: name for name, entry in command_table.BUILT_IN.items()}
    assert {own[name] for name in found & set(own)} == {" ".join(arguments[1:]), "help"}
    assert found.intersection(HEAVY) == set()


def test_status_imports_the_store_and_neither_docker_nor_google_nor_alembic(loaded: Loaded) -> None:
    """That SQLAlchemy is found shows that the tests above would find it, too."""
    own = {name for name in HEAVY if name.startswith("caliban.")}
    found = loaded("status").intersection(HEAVY)
    assert (found - own, "sqlalchemy" in found) == ({"sqlalchemy"}, True)
