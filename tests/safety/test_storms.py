"""With lost responses, failing services and concurrent commands, each experiment is rerun once."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
from _pytest.mark import ParameterSet

from tests.safety.sandbox import RESUBMIT, RETRY_POLICY, STATUS, CommandResult, Sandbox, State
from tests.safety.services import SERVICES, Service
from tests.safety.tracing import Point
from tests.standins.faults import Fault, Hold, Kind

pytestmark = pytest.mark.slow

EXPERIMENTS = 6
CREATE, GET, LIST, TOKEN, LOOK_UP = "create", "get", "list", "token", "look_up"
FOREVER = 10**6
KINDS: tuple[Kind, ...] = ("drop", "refuse", "garbage")


@pytest.fixture
def failed(sqlite_sandbox: Sandbox) -> Sandbox:
    """A group of failed jobs, which the store has not recorded yet."""
    return with_failures(sqlite_sandbox)


_FAILURES: dict[type[Service], State] = {}


def with_failures(sandbox: Sandbox) -> Sandbox:
    """Give the sandbox the group; for stores in files, it is submitted once to each service."""
    sandbox.experiments(EXPERIMENTS)
    service = type(sandbox.service)
    in_file = sandbox.store_url.startswith("sqlite")
    if in_file and service in _FAILURES:
        _FAILURES[service].apply(sandbox)
        return sandbox
    result = sandbox.submit()
    assert result.code == 0, result
    sandbox.end_jobs("FAILED")
    sandbox.advance_clock()
    if in_file:
        _FAILURES[service] = State.of(sandbox)
    return sandbox


def each(jobs: int) -> dict[str, int]:
    return {f"--foo 3 --sleep {number}": jobs for number in range(EXPERIMENTS)}


def problems_and_counts(sandbox: Sandbox) -> tuple[list[str], dict[str, int]]:
    """Return inconsistencies, and the number of jobs of each experiment."""
    return sandbox.inconsistencies(), sandbox.jobs_per_experiment()


TEMPORARY = {
    "each response lost": [Fault(CREATE, "drop", times=EXPERIMENTS)],
    "one response of each kind lost": [Fault(one, "drop") for one in (CREATE, GET, LIST, TOKEN)],
    "many lost responses": [Fault("*", "drop", times=15)],
    "an HTML page for each response": [Fault(CREATE, "garbage", times=EXPERIMENTS)],
    "429": [Fault(CREATE, "status", status=429, times=30)],
    "429 with Retry-After": [Fault(CREATE, "status", status=429, retry_after="1", times=EXPERIMENTS)],
    "503": [Fault(one, "status", status=503, times=times) for one, times in ((CREATE, 20), (LIST, 5), (TOKEN, 1))],
    "503 with Retry-After": [Fault(CREATE, "status", status=503, retry_after="1", times=EXPERIMENTS)],
    "broken connections": [Fault("*", "refuse", times=15)],
    "everything": [
        *(Fault(CREATE, kind, times=2) for kind in KINDS),
        *(Fault(CREATE, "status", status=status, times=3) for status in (429, 500, 502, 503, 504)),
    ],
}
LASTING = {
    "every response lost": Fault(CREATE, "drop", times=FOREVER),
    "broken connections": Fault(CREATE, "refuse", times=FOREVER),
    "429": Fault(CREATE, "status", status=429, times=FOREVER),
    "503": Fault(CREATE, "status", status=503, times=FOREVER),
    "403": Fault(CREATE, "status", status=403, times=FOREVER),
}
OTHER_SERVICES = [name for name in SERVICES if name != "AI Platform"]
ON_OTHER_SERVICES = ("each response lost", "many lost responses", "429", "503", "everything", "every response lost")
"""The faults that are tested with the other services, too. The rest tests how responses are read, which is the same
code for both Google services, and how waiting is counted, which is the same for all."""


def cases(kinds: Mapping[str, object]) -> list[ParameterSet]:
    """Return all faults with AI Platform, and some with the other services."""
    chosen = [("AI Platform", kind) for kind in kinds]
    chosen += [(service, kind) for service in OTHER_SERVICES for kind in kinds if kind in ON_OTHER_SERVICES]
    return [pytest.param(service, kinds[kind], id=f"{kind} on {service}") for service, kind in chosen]


@pytest.mark.parametrize(("service_name", "faults"), cases(TEMPORARY))
def test_temporary_failures_are_retried_until_they_end(failed: Sandbox, faults: Sequence[Fault]) -> None:
    failed.add_faults(*faults)

    result = failed.caliban(*RESUBMIT)

    assert result.code == 0, result
    assert problems_and_counts(failed) == ([], each(2))


@pytest.mark.parametrize(("service_name", "fault"), cases(LASTING))
def test_after_lasting_failures_the_next_rerun_submits_what_is_missing(failed: Sandbox, fault: Fault) -> None:
    failed.retry_policy = {**RETRY_POLICY, "deadline": 2, "quota_deadline": 2}
    failed.caliban(*STATUS)
    failed.add_faults(fault)
    failed.add_faults(Fault(LOOK_UP, "refuse", times=FOREVER))
    during = failed.caliban(*RESUBMIT)
    failed.stand_in.faults.pending.clear()

    afterwards = [failed.caliban(*RESUBMIT) for _ in range(2)]

    assert (during.code, [result.code for result in afterwards]) == (1, [0, 0]), failed.results
    assert "nothing to resubmit" in afterwards[-1].out
    assert problems_and_counts(failed) == ([], each(2))


@contextmanager
def holding_submissions(sandbox: Sandbox) -> Iterator[Hold]:
    """Let the service hold every request to create a job until the end of the block."""
    hold = Hold()
    sandbox.add_faults(Fault(CREATE, "hold", times=FOREVER, hold=hold))
    try:
        yield hold
    finally:
        hold.released.set()


def rerun_concurrently(sandbox: Sandbox, processes: int) -> list[CommandResult]:
    """Rerun the group by commands that do not see each other, all started before the first submission completes."""
    with holding_submissions(sandbox) as hold:
        commands = sandbox.start(*[RESUBMIT] * processes, are_apart=True)
        hold.wait_for(1)
    return [command.wait() for command in commands]


@pytest.mark.parametrize("processes", [2, 8])
def test_concurrent_reruns_of_a_group_run_each_experiment_once(sandbox: Sandbox, processes: int) -> None:
    with_failures(sandbox)

    results = rerun_concurrently(sandbox, processes)

    owners = {owner for (owner,) in sandbox.rows("SELECT owner FROM batches WHERE id > 1")}
    assert {json.loads(owner)["pid"] for owner in owners} == {1}, "the commands saw each other"
    assert problems_and_counts(sandbox) == ([], each(2))
    assert {result.code for result in results} <= {0, 1}
    assert not [result for result in results if "locked" in result.err or "Traceback" in result.err]


def test_the_second_of_two_reruns_reports_who_is_submitting(sandbox: Sandbox) -> None:
    with_failures(sandbox)
    with holding_submissions(sandbox) as hold:
        [first] = sandbox.start(RESUBMIT)
        hold.wait_for(EXPERIMENTS)  # else the second one submits what the first has not journaled yet
        second = sandbox.caliban(*RESUBMIT)
    result = first.wait()

    who = rf"totoro .*{re.escape(socket.gethostname())} \(process {first.process.pid}\)"
    assert re.search(who, second.out + second.err), second
    assert (result.code, problems_and_counts(sandbox)) == (0, ([], each(2))), result


@pytest.mark.parametrize("processes", [2, 8])
def test_concurrent_commands_settle_an_interrupted_rerun_once(sandbox: Sandbox, processes: int) -> None:
    with_failures(sandbox)
    sandbox.caliban(*STATUS)
    sandbox.add_faults(Fault(CREATE, "drop", times=FOREVER))
    sandbox.add_faults(Fault(LOOK_UP, "status", status=403, times=FOREVER))
    sandbox.caliban(*RESUBMIT)
    sandbox.stand_in.faults.pending.clear()

    results = sandbox.run_concurrently([RESUBMIT] * processes)

    assert [result.code for result in results] == [0] * processes, results
    assert problems_and_counts(sandbox) == ([], each(2))


def test_eight_concurrent_first_commands_create_one_store(sandbox: Sandbox) -> None:
    sandbox.experiments(EXPERIMENTS)

    results = [command.wait() for command in sandbox.start(*[sandbox.service.command()] * 8, are_apart=True)]

    assert not [result for result in results if "Traceback" in result.err or "[store-" in result.err]
    assert sandbox.inconsistencies() == []
    assert sandbox.experiment_count() == EXPERIMENTS


def test_eight_concurrent_commands_can_use_the_store_after_a_crash_inside_a_transaction(
    failed: Sandbox,
) -> None:
    failed.caliban(*RESUBMIT)
    failed.end_jobs("FAILED")
    failed.caliban(*RESUBMIT, point=Point("before", 0, "commit", 1))
    assert list(failed.directory.glob("caliban.db-journal")), "the crash left no open transaction"

    results = failed.run_concurrently([RESUBMIT] * 8)

    assert [result for result in results if result.code != 0 and "[already-" not in result.err] == []
    assert not [result for result in results if "[store-" in result.err]
    assert problems_and_counts(failed) == ([], each(3))


def test_concurrent_reruns_submit_an_experiment_without_a_job_once(sandbox: Sandbox) -> None:
    sandbox.experiments(1)
    sandbox.submit()
    sandbox.experiments(EXPERIMENTS)
    sandbox.submit(point=Point("after", 0, "commit", 1))
    assert sandbox.experiment_count() == EXPERIMENTS
    sandbox.end_jobs("FAILED")
    rerun_concurrently(sandbox, 8)
    assert sandbox.inconsistencies() == []
    assert sandbox.jobs_per_experiment() == {**each(1), "--foo 3 --sleep 0": 2}


@pytest.mark.parametrize("service_name", OTHER_SERVICES)
def test_eight_concurrent_reruns_on_other_services_run_each_experiment_once(sqlite_sandbox: Sandbox) -> None:
    with_failures(sqlite_sandbox)

    results = rerun_concurrently(sqlite_sandbox, 8)

    assert problems_and_counts(sqlite_sandbox) == ([], each(2))
    assert {result.code for result in results} <= {0, 1}
    assert not [result for result in results if "locked" in result.err or "Traceback" in result.err]


@pytest.mark.parametrize("service_name", OTHER_SERVICES)
def test_eight_concurrent_commands_on_other_services_settle_an_interrupted_rerun_once(sqlite_sandbox: Sandbox) -> None:
    with_failures(sqlite_sandbox)
    sqlite_sandbox.caliban(*STATUS)
    sqlite_sandbox.add_faults(Fault(CREATE, "drop", times=FOREVER), Fault(LOOK_UP, "status", status=403, times=FOREVER))
    sqlite_sandbox.caliban(*RESUBMIT)
    sqlite_sandbox.stand_in.faults.pending.clear()

    results = sqlite_sandbox.run_concurrently([RESUBMIT] * 8)

    assert [result.code for result in results] == [0] * 8, results
    assert problems_and_counts(sqlite_sandbox) == ([], each(2))
