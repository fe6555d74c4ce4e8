"""Running the same code with other parameters, with the installed command and a real Docker Engine."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import Researcher

SEED = ("resubmit", "--xgroup", "resubmit_test", "--yes", "--", "--sleep", "3")


@pytest.mark.slow
def test_a_failed_experiment_is_run_with_another_parameter_and_then_once_more(
    group_with_a_failure: Researcher,
) -> None:
    user = group_with_a_failure
    changed = user.caliban(*SEED)
    assert changed.code == 0, changed.err
    assert changed.lines[1] == "cpu.py --foo 3 --sleep 3"
    assert changed.lines[2].startswith("  job 2        FAILED       LOCAL")
    assert changed.lines[3] == "    parameters: --sleep 1 -> 3 (recorded as a new experiment)"
    assert "running 3 3.0\n" in changed.err

    status = user.caliban("status", "--xgroup", "resubmit_test").out
    assert "  experiment id 2: cpu.py --foo 3 --sleep 1\n    job 2        FAILED" in status
    assert "  experiment id 3: cpu.py --foo 3 --sleep 3\n    job 3        SUCCEEDED" in status

    again = user.caliban(*SEED)
    assert again.code == 0, again.err
    assert again.lines[3] == ("    parameters: --sleep 1 -> 3 (experiment 3 of this group, again: its job 3 succeeded)")
    assert user.rows("SELECT experiment_id, status FROM jobs ORDER BY id") == [
        (1, "SUCCEEDED"),
        (2, "FAILED"),
        (3, "SUCCEEDED"),
        (3, "SUCCEEDED"),
    ]
    assert user.rows("SELECT experiment_id, origin_id FROM experiment_origins") == [(3, 2)]
    history = user.caliban("status", "--xgroup", "resubmit_test", "--history").lines
    assert "    parameters changed from experiment 2" in history


@pytest.mark.slow
def test_a_file_of_parameters_is_read_and_a_dry_run_writes_nothing(group_with_a_failure: Researcher) -> None:
    user = group_with_a_failure
    user.write("more.json", json.dumps({"sleep": [3, 4], "foo": 5}))
    before = user.store.read_bytes()

    plan = user.caliban("resubmit", "--xgroup", "resubmit_test", "--dry_run", "--experiment_config", "more.json")

    assert (plan.code, plan.lines[1:7:3]) == (0, ["cpu.py --foo 5 --sleep 3", "cpu.py --foo 5 --sleep 4"])
    assert "    parameters: --sleep 1 -> 4, --foo 3 -> 5 (recorded as a new experiment)" in plan.lines
    assert user.store.read_bytes() == before
