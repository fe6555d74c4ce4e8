"""The Docker Engine dies in the middle of a build: other images are built, the journal is clean, the code is 1."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import Answer, Researcher, researcher

from .engines import dying_engine

__all__ = ["researcher"]

RESUBMIT = ("resubmit", "--xgroup", "g", "--yes")


@pytest.fixture
def group(researcher: Researcher) -> Researcher:
    """Two experiments whose images are built from two folders; both have failed, and the code is mended."""
    folders = (researcher.folder, researcher.folder.parent / "other")
    researcher.write("cpu.py", "raise SystemExit('a coding error')\n")
    shutil.copytree(*folders)
    for folder in folders:
        answer = researcher.caliban("run", "--xgroup", "g", "--nogpu", "cpu.py", folder=folder)
        assert answer.code == 1, answer.err
        (folder / "cpu.py").write_text(f"print({folder.name!r})\n")
    assert states(researcher) == [(1, "FAILED"), (2, "FAILED")]
    return researcher


def states(researcher: Researcher) -> list[tuple[object, ...]]:
    """The experiment and state of each job, in the order of the jobs."""
    return researcher.rows("SELECT experiment_id, status FROM jobs ORDER BY id")


def open_rows(researcher: Researcher) -> list[tuple[object, ...]]:
    return researcher.rows("SELECT id FROM submissions WHERE state = 'OPEN'")


def resubmitted(researcher: Researcher, folder: Path, last_words: bytes, *, comes_back: bool) -> Answer:
    with dying_engine(folder, last_words, comes_back=comes_back) as dying:
        answer = researcher.caliban(*RESUBMIT, DOCKER_HOST=dying.address)
        assert dying.has_died.is_set(), "the engine never said its last words"
    assert "Traceback" not in answer.err
    return answer


def test_an_engine_that_restarts_during_a_build_fails_only_that_image(group: Researcher, tmp_path: Path) -> None:
    answer = resubmitted(group, tmp_path, b"Step 4/", comes_back=True)

    assert (answer.code, answer.err.count("[docker-unreachable]")) == (1, 1)
    assert states(group)[2:] == [(2, "SUCCEEDED")]
    assert open_rows(group) == []

    again = group.caliban(*RESUBMIT)

    assert again.code == 0, again.err
    assert states(group)[2:] == [(2, "SUCCEEDED"), (1, "SUCCEEDED")]


def test_an_engine_that_crashes_is_reported_and_nothing_is_left_open(group: Researcher, tmp_path: Path) -> None:
    answer = resubmitted(group, tmp_path, b"Step 4/", comes_back=False)

    assert answer.code == 1
    assert "[docker-unreachable]" in answer.err
    assert (states(group)[2:], open_rows(group)) == ([], [])


def test_a_first_run_whose_engine_crashes_records_no_job(researcher: Researcher, tmp_path: Path) -> None:
    with dying_engine(tmp_path, b"Step 4/", comes_back=True) as dying:
        answer = researcher.caliban("run", "--xgroup", "g", "--nogpu", "cpu.py", DOCKER_HOST=dying.address)

    assert (answer.code, "[docker-unreachable]" in answer.err, "Traceback" in answer.err) == (1, True, False)
    assert (states(researcher), open_rows(researcher)) == ([], [])
