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
        ("resubmit", "--help"),
        ("resubmit", "--helpfull"),
        ("run", "--help"),
        ("cluster", "--help"),
        ("cluster", "ls", "--help"),
        ("cluster", "job", "ls", "--help"),
        ("cluster", "job", "submit", "--help"),
    ],
)
def test_help_loads_nothing_heavy(words: tuple[str, ...], run_caliban: Caliban) -> None:
    assert loaded(run_caliban, *words).intersection(HEAVY) == set()


def test_status_loads_the_store_and_neither_docker_nor_google_nor_alembic(run_caliban: Caliban) -> None:
    """That SQLAlchemy is seen shows that the tests above would see it, too."""
    elsewhere = {"caliban.store", "caliban.images", "caliban.platforms", "sqlalchemy"}
    found = loaded(run_caliban, "status").intersection(HEAVY)
    assert (found - elsewhere, "sqlalchemy" in found) == (set(), True)
