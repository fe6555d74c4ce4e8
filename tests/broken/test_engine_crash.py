"""The Docker Engine crashes during a build: other images are built, no submission is open, the exit code is 1."""

from __future__ import annotations

import shutil

import pytest

from tests.e2e.conftest import CommandResult, Researcher, researcher

from .engines import crashing_engine

__all__ = ["researcher"]

RESUBMIT = ("resubmit", "--xgroup", "g", "--yes")


@pytest.fixture
def group(researcher: Researcher) -> Researcher:
    """Two failed experiments whose images are built from two directories, with the code fixed."""
    directories = (researcher.project, researcher.project.parent / "other")
    researcher.write("cpu.py", "raise SystemExit('a coding error')\n")
    shutil.copytree(*directories)
    for directory in directories:
        result = researcher.caliban("run", "--xgroup", "g", "--nogpu", "cpu.py", cwd=directory)
        assert result.code == 1, result.err
        (directory / "cpu.py").write_text(f"print({directory.name!r})\n")
    assert states(researcher) == [(1, "FAILED"), (2, "FAILED")]
    return researcher


def states(researcher: Researcher) -> list[tuple[object, ...]]:
    """Return the experiment and the state of each job, in the order of the jobs."""
    return researcher.rows("SELECT experiment_id, status FROM jobs ORDER BY id")


def open_rows(researcher: Researcher) -> list[tuple[object, ...]]:
    return researcher.rows("SELECT id FROM submissions WHERE state = 'OPEN'")


def resubmit_with_crash(researcher: Researcher, crash_after: bytes, *, restarts: bool) -> CommandResult:
    with crashing_engine(crash_after, restarts=restarts) as proxy:
        result = researcher.caliban(*RESUBMIT, DOCKER_HOST=proxy.address)
        assert proxy.has_crashed.is_set(), "the engine did not crash"
    assert "Traceback" not in result.err
    return result


def test_an_engine_that_restarts_during_a_build_fails_only_that_image(group: Researcher) -> None:
    result = resubmit_with_crash(group, b"Step 4/", restarts=True)

    assert (result.code, result.err.count("[docker-unreachable]")) == (1, 1)
    assert states(group)[2:] == [(2, "SUCCEEDED")]
    assert open_rows(group) == []

    again = group.caliban(*RESUBMIT)

    assert again.code == 0, again.err
    assert states(group)[2:] == [(2, "SUCCEEDED"), (1, "SUCCEEDED")]


def test_an_engine_that_crashes_is_reported_and_nothing_is_left_open(group: Researcher) -> None:
    result = resubmit_with_crash(group, b"Step 4/", restarts=False)

    assert result.code == 1
    assert "[docker-unreachable]" in result.err
    assert (states(group)[2:], open_rows(group)) == ([], [])


def test_a_first_run_whose_engine_crashes_records_no_job(researcher: Researcher) -> None:
    with crashing_engine(b"Step 4/", restarts=True) as proxy:
        result = researcher.caliban("run", "--xgroup", "g", "--nogpu", "cpu.py", DOCKER_HOST=proxy.address)

    assert (result.code, "[docker-unreachable]" in result.err, "Traceback" in result.err) == (1, True, False)
    assert (states(researcher), open_rows(researcher)) == ([], [])
