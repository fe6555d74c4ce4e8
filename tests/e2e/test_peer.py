"""caliban 0.4.2 and this caliban on one store: either re-runs what the other ran."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.e2e.conftest import Researcher

NOT_ROOT = ("unshare", "--user", "--map-user=1234", "--map-group=1234")
"""For root, caliban 0.4.2 cannot build an image; so root calls it by another number."""


def peer(researcher: Researcher, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    path = os.environ.get("CALIBAN_TEST_PEER")
    if not path:
        pytest.fail("CALIBAN_TEST_PEER is not set: run `make test`, which installs caliban 0.4.2")
    done = subprocess.run(
        [*(NOT_ROOT if os.geteuid() == 0 else ()), path, *words],
        cwd=researcher.folder,
        env=researcher.environ,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr.split("Restoring pure python logging")[0], done.stderr
    return done


def test_caliban_0_4_2_reruns_a_job_of_this_version(researcher: Researcher) -> None:
    researcher.caliban("run", "--xgroup", "g", "--nogpu", "cpu.py", "--", "--sleep", "1")

    peer(researcher, "resubmit", "--xgroup", "g", stdin="y\n")

    ran_here, ran_there = researcher.rows("SELECT experiment_id, status, container FROM jobs ORDER BY id")
    assert ran_there[:2] == ran_here[:2] == (1, "FAILED")
    assert ran_there[2] != ran_here[2], "the peer built an image of its own"
    assert "job 2        FAILED       LOCAL" in researcher.caliban("status", "--xgroup", "g").out


def test_this_version_reruns_a_job_of_caliban_0_4_2(researcher: Researcher) -> None:
    peer(researcher, "run", "--xgroup", "g", "--nogpu", "cpu.py", "--", "--sleep", "1", "--foo", "7")
    assert researcher.rows("SELECT status FROM jobs") == [("FAILED",)]
    researcher.replace("cpu.py", "args.sleep == 1", "args.sleep == -1")

    answer = researcher.caliban("resubmit", "--xgroup", "g", "--yes")

    assert answer.code == 0, answer.err
    assert "running 7 1.0" in answer.lines
    assert "job 2        SUCCEEDED    LOCAL" in answer.out
