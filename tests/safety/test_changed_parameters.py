"""Re-runs with changed parameters that are killed, or typed in two terminals: each new experiment gets one job."""

from __future__ import annotations

import re

import pytest

from tests.safety.sandbox import RESUBMIT, Sandbox
from tests.safety.tracing import Point
from tests.standins.faults import Fault, Hold

CHANGED = (*RESUBMIT, "--", "--seed", "11")
OTHER = (*RESUBMIT, "--", "--seed", "12")
CREATE = "POST service"
pytestmark = pytest.mark.slow


def with_failures(sandbox: Sandbox) -> None:
    sandbox.submit()
    sandbox.end_jobs("FAILED")
    sandbox.advance_clock()


def each(*seeds: int, jobs: int = 1) -> dict[str, int]:
    """The jobs at the service: one of each experiment, and one of each that was made from it."""
    changed = {f"--foo 3 --seed {seed} --sleep {number}": jobs for seed in seeds for number in range(2)}
    return {**{f"--foo 3 --sleep {number}": 1 for number in range(2)}, **changed}


def problems_and_counts(sandbox: Sandbox) -> tuple[list[str], dict[str, int]]:
    problems = sandbox.inconsistencies()
    unlinked = sandbox.rows(
        "SELECT id FROM experiments WHERE id > 2 AND id NOT IN (SELECT experiment_id FROM experiment_origins)"
    )
    if unlinked:
        problems.append(f"experiments without an origin: {unlinked}")
    if sandbox.experiment_count() != len(sandbox.jobs_per_experiment()):
        problems.append(f"{sandbox.experiment_count()} experiments")
    return problems, sandbox.jobs_per_experiment()


@pytest.mark.parametrize(
    ("where", "what", "number", "state"),
    [
        ("before", "commit", 1, None),
        *(("after", "commit", number, None) for number in range(1, 8)),  # after the eighth, the command is complete
        *(
            (where, CREATE, number, state)
            for where in ("before", "after")
            for number in (1, 2)
            for state in ("FAILED", "SUCCEEDED")
        ),
    ],
)
def test_a_changed_rerun_that_is_killed_is_completed_when_it_is_typed_again(
    sqlite_sandbox: Sandbox, where: str, what: str, number: int, state: str | None
) -> None:
    sandbox = sqlite_sandbox
    with_failures(sandbox)
    killed = sandbox.caliban(*CHANGED, point=Point(where, 0, what, number))
    if state is not None:
        sandbox.end_jobs(state)

    again = sandbox.caliban(*CHANGED)

    assert killed.code < 0, killed
    assert again.code == 0, again
    problems, counts = problems_and_counts(sandbox)
    assert problems == [], (killed, again)
    if state == "FAILED":  # what failed meanwhile is run again, as by any re-run
        assert counts.keys() == each(11).keys()
    else:
        assert counts == each(11), (killed, again)


def test_a_changed_rerun_whose_jobs_have_succeeded_says_that_it_is_continued(sandbox: Sandbox) -> None:
    with_failures(sandbox)
    killed = sandbox.caliban(*CHANGED, point=Point("after", 0, CREATE, 1))  # the other one may have arrived, too
    assert killed.code < 0, killed
    sandbox.end_jobs("SUCCEEDED")

    again = sandbox.caliban(*CHANGED)

    assert re.search(r"continuing the submission interrupted at .*: [12] of 2 jobs were already submitted", again.err)
    assert problems_and_counts(sandbox) == ([], each(11))


@pytest.mark.parametrize("are_apart", [False, True])
def test_the_same_changes_in_several_terminals_make_one_experiment_and_one_job(
    sandbox: Sandbox, are_apart: bool
) -> None:
    with_failures(sandbox)
    hold = Hold()
    sandbox.add_faults(Fault("create", "hold", times=100, hold=hold))
    try:
        commands = sandbox.start(*[CHANGED] * 4, are_apart=are_apart)
        hold.wait_for(1)
    finally:
        hold.released.set()
    results = [command.wait() for command in commands]

    assert problems_and_counts(sandbox) == ([], each(11)), results
    assert {result.code for result in results} <= {0, 1}
    assert not [result for result in results if "locked" in result.err or "Traceback" in result.err]


def test_different_changes_in_two_terminals_are_both_submitted(sandbox: Sandbox) -> None:
    with_failures(sandbox)

    results = sandbox.run_concurrently([CHANGED, OTHER])

    assert [result.code for result in results] == [0, 0], results
    assert problems_and_counts(sandbox) == ([], each(11, 12))


def test_after_a_completed_change_the_same_one_runs_its_experiments_again(sandbox: Sandbox) -> None:
    with_failures(sandbox)
    for _ in range(2):
        assert sandbox.caliban(*CHANGED).code == 0
        sandbox.end_jobs("SUCCEEDED")
        sandbox.advance_clock()

    assert problems_and_counts(sandbox) == ([], each(11, jobs=2))


ODD = ("--a", "two  words", "--b=\"'", "--c", "ä☃龍", "--d", "", "--e", "$HOME;`x`\n\t\\", "--f", "-1")


@pytest.mark.parametrize("service_name", ["Vertex AI", "Kubernetes"])
def test_changed_arguments_arrive_at_other_services_byte_for_byte(sqlite_sandbox: Sandbox) -> None:
    with_failures(sqlite_sandbox)

    result = sqlite_sandbox.caliban(*RESUBMIT, "--limit", "1", "--", *ODD)

    assert result.code == 0, result
    [changed] = [job for job in sqlite_sandbox.service.jobs() if "--a" in job.arguments]
    assert changed.arguments == " ".join(("--foo", "3", *ODD, "--sleep", "0"))
