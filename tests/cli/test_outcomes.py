from __future__ import annotations

import pytest

from caliban.cli.outcomes import report_outcomes
from caliban.errors import CalibanError, ExitCode
from caliban.records import JobStatus, Outcome
from tests.builders import SHORT_IMAGE, a_job, an_experiment
from tests.conftest import Screen

GOOD = Outcome(an_experiment(1), a_job(1, JobStatus.SUCCEEDED))
SUBMITTED = Outcome(an_experiment(2), a_job(2, JobStatus.SUBMITTED))
FAILED = Outcome(an_experiment(3), a_job(3, JobStatus.FAILED))
STOPPED = Outcome(an_experiment(4), a_job(4, JobStatus.STOPPED))
REFUSED = Outcome(an_experiment(5), a_job(5, JobStatus.FAILED), CalibanError("no-room", "no room"))
LOST = Outcome(an_experiment(6), a_job(6, JobStatus.RUNNING), CalibanError("lost", "lost"))
NEVER = Outcome(an_experiment(7), None, CalibanError("timeout", "timed out"))


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], ExitCode.DONE),
        ([GOOD], ExitCode.DONE),
        ([GOOD, SUBMITTED], ExitCode.DONE),
        ([GOOD, FAILED], ExitCode.NOT_DONE),
        ([STOPPED, GOOD], ExitCode.NOT_DONE),
        ([REFUSED], ExitCode.NOT_DONE),
        ([LOST], ExitCode.NOT_DONE),
        ([NEVER], ExitCode.NOT_DONE),
    ],
)
def test_the_exit_code_is_1_unless_every_job_was_submitted_and_none_failed(
    outcomes: list[Outcome], code: ExitCode, screen: Screen
) -> None:
    assert report_outcomes(screen.console, outcomes, "night") == code


def test_jobs_that_were_not_started_are_not_done(screen: Screen) -> None:
    assert report_outcomes(screen.console, [GOOD], "night", not_started=1) == ExitCode.NOT_DONE


def test_jobs_are_listed_on_standard_output(screen: Screen) -> None:
    report_outcomes(screen.console, [REFUSED], "night")
    assert screen.stdout.text == (
        "cpu.py --foo 3 --sleep 1\n"
        f"  job 5        FAILED        TEST 2020-05-29 10:53:40 container: {SHORT_IMAGE}\n"
    )  # fmt: skip


def test_errors_and_the_count_go_to_standard_error(screen: Screen) -> None:
    report_outcomes(screen.console, [REFUSED], "night")
    assert screen.stderr.text == (
        "error: no room [no-room]\n"
        "  in: cpu.py --foo 3 --sleep 1\n"
        "1 experiment: 1 failed\n"
        "  1 unknown         no reason recorded\n"
        "output:  caliban logs --xgroup night --failed\n"
        "re-run:  caliban resubmit --xgroup night\n"
    )  # fmt: skip
