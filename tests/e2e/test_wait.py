"""``caliban wait`` for jobs that a real Docker Engine runs in the background."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import Researcher

SCRIPT = """
import sys, time
time.sleep(1)
print("ready", sys.argv[1:])
sys.exit(sys.argv[1:] == ["--x", "1"])
"""


@pytest.mark.slow
def test_detached_jobs_are_waited_for_and_their_output_is_kept(researcher: Researcher) -> None:
    researcher.write("experiment.json", '[{}, {"x": 1}]')
    researcher.write("cpu.py", SCRIPT)
    started = researcher.caliban(
        *("run", "--xgroup", "g", "--nogpu", "--docker_run_args", "-d --rm"),
        *("--experiment_config", "experiment.json", "cpu.py"),
    )
    assert started.code == 0, started.err

    waited = researcher.caliban("wait", "--xgroup", "g", "--json")

    assert waited.code == 1, waited.err
    document = json.loads(waited.out)
    assert [each["jobs"][0]["state"] for each in document["groups"][0]["experiments"]] == ["SUCCEEDED", "FAILED"]
    assert "job 2: RUNNING -> FAILED (exit code 1" in waited.err
    assert "ready ['--x', '1']" in researcher.caliban("logs", "--xgroup", "g", "--failed").out
    assert researcher.caliban("wait", "--xgroup", "g", "--match", "x=1").code == 1
    assert researcher.caliban("wait").code == 0


@pytest.mark.slow
def test_run_waits_for_jobs_in_the_background_where_that_is_wanted(researcher: Researcher) -> None:
    researcher.write("cpu.py", SCRIPT)
    words = ("run", "--xgroup", "g", "--nogpu", "--wait", "--docker_run_args", "-d", "cpu.py", "--")

    assert researcher.caliban(*words).code == 0
    failed = researcher.caliban(*words, "--x", "1")

    assert failed.code == 1
    assert "1 experiment: 1 failed" in failed.err
    assert failed.out == ""
