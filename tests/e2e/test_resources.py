"""A job that ran out of memory is run again with more, with the installed command and a real Docker Engine."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import Researcher

GROUP = ("--xgroup", "resubmit_test")
SCRIPT = """
data = bytearray(48 * 2**20)
for start in range(0, len(data), 4096):
    data[start] = 1
print("enough", flush=True)
"""


@pytest.mark.slow
def test_a_job_that_ran_out_of_memory_gets_more_and_keeps_it(researcher: Researcher) -> None:
    researcher.write("big.py", SCRIPT)
    limits = ("--docker_run_args", "--memory 24m --memory-swap 24m")
    assert researcher.caliban("run", *GROUP, "--nogpu", *limits, "big.py").code == 1

    plan = researcher.caliban("resubmit", *GROUP, "--dry_run", "--json", "--cause", "oom", "--more_memory", "4")
    [planned] = json.loads(plan.out)["jobs"]
    assert planned["resources"] == [
        {"setting": "memory", "before": "24m", "after": "96m"},
        {"setting": "memory_swap", "before": "24m", "after": "96m"},
    ]
    wrong = researcher.caliban("resubmit", *GROUP, "--yes", "--cause", "oom", "--machine_type", "n1-standard-8")
    assert (wrong.code, "job 1 runs on LOCAL" in wrong.err) == (2, True)

    changed = researcher.caliban("resubmit", *GROUP, "--yes", "--cause", "oom", "--more_memory", "4")
    assert changed.code == 0, changed.err
    assert "    resources: memory 24m -> 96m, memory_swap 24m -> 96m" in changed.lines
    again = researcher.caliban("resubmit", *GROUP, "--yes", "--all_jobs", "--timeout", "1h")
    assert again.code == 0, again.err
    assert "    resources: timeout none -> 3600s" in again.lines
    assert researcher.rows("SELECT count(DISTINCT experiment_id), count(*) FROM jobs") == [(1, 3)]

    history = researcher.caliban("status", *GROUP, "--history").out
    assert "resources: memory 24m -> 96m, memory_swap 24m -> 96m" in history
    assert "resources: timeout none -> 3600s" in history
