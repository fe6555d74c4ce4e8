"""caliban 0.4.2 and this version share a store, and rerun each other's jobs."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.e2e.conftest import Researcher

NOT_ROOT = ("unshare", "--user", "--map-user=1234", "--map-group=1234")
"""caliban 0.4.2 cannot build an image as root, so root runs it with another user id."""


def peer(researcher: Researcher, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    path = os.environ.get("CALIBAN_TEST_PEER")
    if not path:
        pytest.fail("CALIBAN_TEST_PEER is not set: run `make test`, which installs caliban 0.4.2")
    done = subprocess.run(
        [*(NOT_ROOT if os.geteuid() == 0 else ()), path, *arguments],
        cwd=researcher.project,
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

    ours, peers = researcher.rows("SELECT experiment_id, status, container FROM jobs ORDER BY id")
    assert peers[:2] == ours[:2] == (1, "FAILED")
    assert peers[2] != ours[2], "the peer built an image of its own"
    assert "job 2        FAILED       LOCAL" in researcher.caliban("status", "--xgroup", "g").out


def test_this_version_reruns_a_job_of_caliban_0_4_2(researcher: Researcher) -> None:
    peer(researcher, "run", "--xgroup", "g", "--nogpu", "cpu.py", "--", "--sleep", "1", "--foo", "7")
    assert researcher.rows("SELECT status FROM jobs") == [("FAILED",)]
    researcher.replace("cpu.py", "args.sleep == 1", "args.sleep == -1")

    result = researcher.caliban("resubmit", "--xgroup", "g", "--yes")

    assert result.code == 0, result.err
    assert "running 7 1.0" in result.err.splitlines()
    assert "job 2        SUCCEEDED    LOCAL" in result.out
