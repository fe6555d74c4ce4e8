"""``resubmit --canary`` with the installed command and a real Docker Engine."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Researcher

RESUBMIT = ("resubmit", "--xgroup", "g", "--yes", "--canary")


@pytest.mark.slow
def test_the_others_run_when_the_job_that_goes_first_succeeds(researcher: Researcher) -> None:
    researcher.write("experiment.json", '{"x": [1, 2, 3]}')
    researcher.write("cpu.py", "raise ValueError('loss is nan')")
    run = ("run", "--xgroup", "g", "--nogpu", "--experiment_config", "experiment.json", "cpu.py")
    assert researcher.caliban(*run).code == 1

    again = researcher.caliban(*RESUBMIT)
    assert (again.code, len(researcher.rows("SELECT id FROM jobs"))) == (1, 4)
    assert "job 4 went first and did not succeed: 2 other jobs like it are not submitted" in again.err

    researcher.write("cpu.py", "print('fixed')")
    fixed = researcher.caliban(*RESUBMIT, "--wait")
    assert fixed.code == 0, fixed.err
    assert "first: cpu.py --x 1; then 2 other jobs" in fixed.lines
    assert researcher.rows("SELECT id, status FROM jobs WHERE id > 4") == [(n, "SUCCEEDED") for n in (5, 6, 7)]
