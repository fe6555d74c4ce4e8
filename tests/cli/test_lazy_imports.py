"""Importing a command costs what that command uses: asked of a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import Caliban

HEAVY = (
    "sqlalchemy",
    "alembic",
    "googleapiclient",
    "google.auth",
    "docker",
    "requests",
    "kubernetes",
    "tqdm",
    "caliban.store",
    "caliban.images",
    "caliban.platforms",
)

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


def loaded(caliban: Caliban, *words: str) -> set[str]:
    subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env=caliban.environment(),
        cwd=caliban.cwd,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return set((caliban.cwd / "loaded").read_text().splitlines())


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        (),
        ("--version",),
        ("resubmit", "--help"),
        ("resubmit", "--helpfull"),
        ("run", "--help"),
        ("status", "--help"),
        ("build", "--help"),
    ],
)
def test_help_loads_nothing_heavy(words: tuple[str, ...], run_caliban: Caliban) -> None:
    assert loaded(run_caliban, *words).intersection(HEAVY) == set()


def test_the_check_would_see_what_is_loaded(run_caliban: Caliban) -> None:
    assert "sqlalchemy" in loaded(run_caliban, "status")


def test_status_loads_neither_docker_nor_google_nor_alembic(run_caliban: Caliban) -> None:
    unwanted = {"docker", "googleapiclient", "google.auth", "kubernetes", "tqdm", "alembic", "caliban.images.engine"}
    assert loaded(run_caliban, "status").intersection(unwanted) == set()
