"""``caliban wait`` as a process, on the services' stand-ins: its exit codes, and what it asks them meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.safety.sandbox import RunningCommand, Sandbox
from tests.safety.services import GROUP
from tests.safety.tracing import Point
from tests.standins.faults import Fault, Hold

WAIT = ("wait", *GROUP)
FOREVER = 1_000_000
CAUSES = "code_error,infrastructure,unknown"
"""Services report a job that a test lets fail in different words."""

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("service_name", ["Kubernetes", "Vertex AI"])]


def until(is_true: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_waiting(command: RunningCommand) -> bool:
    """Return whether a command says that it waits for jobs."""
    return command.stderr.exists() and "waiting for" in command.stderr.read_text()


def waiting(sandbox: Sandbox) -> RunningCommand:
    """Return a command that has looked several times. Its pauses take no time."""
    before = len(sandbox.stand_in.requests)
    [command] = sandbox.start(WAIT)
    until(lambda: len(sandbox.stand_in.requests) > before + 12)
    return command


def submission(sandbox: Sandbox, *flags: str) -> list[str]:
    """Return the command that submits the group, with more flags."""
    words = list(sandbox.service.command())
    words[words.index("--xgroup") : words.index("--xgroup")] = flags
    return words


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("STOPPED", 1)])
def test_the_exit_code_says_how_the_jobs_ended(sqlite_sandbox: Sandbox, state: str, code: int) -> None:
    sandbox = sqlite_sandbox
    sandbox.submit()
    first, second = sandbox.service.jobs()
    command = waiting(sandbox)
    sandbox.service.set_state(first.name, "SUCCEEDED")
    sandbox.service.set_state(second.name, state)
    result = command.wait()
    assert result.code == code, result


def test_after_the_timeout_it_is_3_and_the_jobs_run_on(sqlite_sandbox: Sandbox) -> None:
    sqlite_sandbox.submit()
    result = sqlite_sandbox.caliban(*WAIT, "--timeout", "2h")
    assert result.code == 3, result
    assert {job.state for job in sqlite_sandbox.service.jobs()} == {"SUBMITTED"}


def test_after_ctrl_c_it_is_130_and_the_jobs_run_on(sqlite_sandbox: Sandbox) -> None:
    sqlite_sandbox.submit()
    command = waiting(sqlite_sandbox)
    os.kill(command.process.pid, signal.SIGINT)
    result = command.wait()
    assert result.code == 130, result
    assert "2 jobs not ended, and still running or queued" in result.err
    assert "to go on waiting, run: caliban wait --xgroup resubmit_test\n" in result.err
    assert {job.state for job in sqlite_sandbox.service.jobs()} == {"SUBMITTED"}


def test_while_the_service_cannot_be_reached_it_waits_and_says_so_once(sqlite_sandbox: Sandbox) -> None:
    sandbox = sqlite_sandbox
    sandbox.submit()
    fault = Fault("*", "refuse", FOREVER)
    command = waiting(sandbox)
    sandbox.stand_in.faults.add(fault)
    until(lambda: fault.times < FOREVER - 1000)
    sandbox.end_jobs("SUCCEEDED")
    fault.times = 0
    result = command.wait()
    assert result.code == 0, result
    assert len(result.err.splitlines()) == 3, result.err


def test_a_service_that_denies_permission_ends_it_with_1(sqlite_sandbox: Sandbox) -> None:
    sandbox = sqlite_sandbox
    sandbox.submit()
    for role in ("get", "list"):
        sandbox.add_faults(Fault(role, "status", FOREVER, status=403, message="not yours"))
    result = sandbox.caliban(*WAIT)
    assert result.code == 1, result
    assert "state unknown: cannot" in result.err
    assert "permission denied" in result.err


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("FAILED", 1)])
def test_a_submitting_command_waits_for_its_jobs(sqlite_sandbox: Sandbox, state: str, code: int) -> None:
    sandbox = sqlite_sandbox
    [command] = sandbox.start(submission(sandbox, "--wait"))
    until(lambda: len(sandbox.service.jobs()) == 2)
    sandbox.end_jobs(state)
    result = command.wait()
    assert result.code == code, result
    assert sandbox.inconsistencies() == []


def test_a_submitting_command_that_was_killed_waits_for_all_jobs_when_it_is_typed_again(
    sqlite_sandbox: Sandbox,
) -> None:
    sandbox = sqlite_sandbox
    sandbox.submit(point=Point("after", 0, "POST service", 2))
    [command] = sandbox.start(submission(sandbox, "--wait"))
    until(lambda: len(sandbox.service.jobs()) == 2 and len(sandbox.rows("SELECT id FROM jobs")) == 2)
    sandbox.end_jobs("SUCCEEDED")
    result = command.wait()
    assert result.code == 0, result
    assert "2 experiments: 2 succeeded" in result.err
    assert sandbox.inconsistencies() == []


def test_two_terminals_that_wait_with_retries_make_one_retry(sqlite_sandbox: Sandbox) -> None:
    sandbox = sqlite_sandbox
    sandbox.service.ends = dict.fromkeys(range(1, 10), "FAILED")
    sandbox.submit()
    sandbox.advance_clock()
    words = ("resubmit", *GROUP, "--yes", "--wait", "--retries", "1", "--retry_on", CAUSES)
    hold = Hold()
    sandbox.add_faults(Fault("create", "hold", times=2, hold=hold))
    try:
        commands = sandbox.start(words, words)
        hold.wait_for(1)
        until(lambda: any(map(is_waiting, commands)))
    finally:
        hold.released.set()
    results = [command.wait() for command in commands]
    assert [result.code for result in results] == [1, 1], results
    assert sandbox.jobs_per_experiment() == {"--foo 3 --sleep 0": 3, "--foo 3 --sleep 1": 3}, results
    assert sandbox.inconsistencies() == []


@pytest.mark.parametrize("limit", [1, 2])
def test_a_submission_with_a_limit_that_is_killed_is_completed_when_it_is_typed_again(
    sqlite_sandbox: Sandbox, limit: int
) -> None:
    sandbox = sqlite_sandbox
    sandbox.experiments(5)
    sandbox.service.ends = {1: "SUCCEEDED"}
    words = submission(sandbox, "--wait", "--max_parallel", str(limit))
    killed = sandbox.caliban(*words, point=Point("after", 0, "POST service", 3))
    assert killed.code < 0, killed
    again = sandbox.caliban(*words)
    assert again.code == 0, again
    assert "continuing the submission interrupted at" in again.err
    assert set(sandbox.jobs_per_experiment().values()) == {1}
    assert len(sandbox.service.jobs()) == 5
    assert sandbox.inconsistencies() == []


def test_while_a_submission_with_a_limit_waits_the_same_command_starts_nothing(sqlite_sandbox: Sandbox) -> None:
    sandbox = sqlite_sandbox
    sandbox.experiments(3)
    words = submission(sandbox, "--wait", "--max_parallel", "1")
    [first] = sandbox.start(words)
    until(lambda: is_waiting(first))
    second = sandbox.caliban(*words)
    assert second.code == 1, second
    assert "already being submitted" in second.err
    sandbox.service.ends = {1: "SUCCEEDED"}
    sandbox.end_jobs("SUCCEEDED")
    result = first.wait()
    assert result.code == 0, result
    assert set(sandbox.jobs_per_experiment().values()) == {1}
