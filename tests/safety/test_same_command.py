"""A submitting command that was killed, typed again: every experiment gets exactly one job."""

from __future__ import annotations

import re
import socket

import pytest

from tests.safety.sandbox import Sandbox
from tests.safety.tracing import Point
from tests.standins.faults import Fault, Hold

EXPERIMENTS = 6
CREATE = "POST service"


def each(jobs: int) -> dict[str, int]:
    return {f"--foo 3 --sleep {number}": jobs for number in range(EXPERIMENTS)}


@pytest.mark.parametrize("number", [1, 2, 4, EXPERIMENTS])
@pytest.mark.parametrize("where", ["before", "after"])
def test_a_command_killed_around_a_request_is_completed_when_it_is_typed_again(
    sandbox: Sandbox, where: str, number: int
) -> None:
    sandbox.experiments(EXPERIMENTS)
    killed = sandbox.submit(point=Point(where, 0, CREATE, number))
    assert killed.code < 0, killed

    again = sandbox.submit()

    assert again.code == 0, again
    assert re.search(
        r"continuing the submission interrupted at \d\d:\d\d: \d of 6 jobs were already submitted", again.err
    )
    assert (sandbox.inconsistencies(), sandbox.jobs_per_experiment()) == ([], each(1))


def test_a_second_terminal_with_the_same_command_starts_nothing_and_says_who_is_submitting(sandbox: Sandbox) -> None:
    sandbox.experiments(EXPERIMENTS)
    hold = Hold()
    sandbox.add_faults(Fault("create", "hold", times=EXPERIMENTS, hold=hold))
    try:
        [first] = sandbox.start(sandbox.service.command())
        hold.wait_for(1)
        second = sandbox.submit()
    finally:
        hold.released.set()
    result = first.wait()

    assert f"already being submitted by totoro on {socket.gethostname()} (process {first.process.pid})" in second.err
    assert (result.code, second.code) == (0, 1), (result, second)
    assert (sandbox.inconsistencies(), sandbox.jobs_per_experiment()) == ([], each(1))


def test_after_a_completed_command_the_same_one_announces_further_attempts(sandbox: Sandbox) -> None:
    sandbox.experiments(EXPERIMENTS)
    sandbox.submit()
    sandbox.advance_clock()

    again = sandbox.submit()

    assert "6 experiments already have jobs; this adds an attempt to each\n" in again.err
    assert (sandbox.inconsistencies(), sandbox.jobs_per_experiment()) == ([], each(2))
