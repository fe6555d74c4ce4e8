"""Commands are killed at every crash point; the next commands finish their work, without lost or duplicate jobs.

The commands are real processes, killed with SIGKILL at each point of a table of :mod:`tests.safety.crash_points`; the
services are stand-ins in the process of the test. Two points at a time, each in its own sandbox.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from tests.safety.crash_points import Seen, crash_points, is_service_specific, read_recording
from tests.safety.nursery import Nursery
from tests.safety.sandbox import RESUBMIT, STATUS, Sandbox
from tests.safety.services import SERVICES, AiPlatform
from tests.safety.tracing import Event, Point
from tests.standins.faults import Fault

PARALLEL = 2
FOO = "--foo 3 --sleep"


@dataclass(frozen=True)
class InitialState:
    """What a command starts with: a store (None for none), the jobs at the service, and faults there."""

    store: bytes | None = None
    jobs: Sequence[Any] = ()
    faults: Sequence[Fault] = ()

    def apply(self, sandbox: Sandbox) -> None:
        """Set up a sandbox."""
        for file in sandbox.directory.glob("caliban.db*"):
            file.unlink()
        if self.store is not None:
            store_file(sandbox).write_bytes(self.store)
        sandbox.results.clear()
        sandbox.reset_service(self.jobs)
        sandbox.add_faults(*self.faults)


@dataclass
class SandboxPool:
    """Sandboxes, each used by one crash point at a time."""

    all: list[Sandbox]
    free: Queue[Sandbox] = field(default_factory=Queue)

    def __post_init__(self) -> None:
        for sandbox in self.all:
            self.free.put(sandbox)

    @property
    def is_complete(self) -> bool:
        """Whether the tables include the code that is common to all services: for the first service."""
        return isinstance(self.all[0].service, AiPlatform)

    @contextmanager
    def one(self) -> Iterator[Sandbox]:
        sandbox = self.free.get()
        try:
            yield sandbox
        finally:
            self.free.put(sandbox)


@pytest.fixture(scope="module", params=SERVICES)
def sandboxes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxPool]:
    with ExitStack() as stack:
        made = []
        for _ in range(PARALLEL):
            directory = tmp_path_factory.mktemp("sandbox")
            service = stack.enter_context(SERVICES[request.param]())
            nursery = stack.enter_context(Nursery())
            made.append(Sandbox(directory, service, nursery, f"sqlite:///{directory / 'caliban.db'}"))
        yield SandboxPool(made)


def store_file(sandbox: Sandbox) -> Path:
    return sandbox.directory / "caliban.db"


def store_of(sandbox: Sandbox) -> bytes:
    assert not list(sandbox.directory.glob("caliban.db-*")), "a store at rest is one file"
    return store_file(sandbox).read_bytes()


@pytest.fixture(scope="module")
def failed(sandboxes: SandboxPool) -> InitialState:
    """A group of two experiments whose jobs failed, which the store has not recorded yet."""
    with sandboxes.one() as sandbox:
        InitialState().apply(sandbox)
        result = sandbox.submit()
        assert result.code == 0, result
        sandbox.end_jobs("FAILED")
        time.sleep(1.1)  # names contain the second, and the next jobs need new ones
        return InitialState(store_of(sandbox), sandbox.service.snapshot())


@pytest.fixture(scope="module")
def interrupted(sandboxes: SandboxPool, failed: InitialState) -> InitialState:
    """The same group after an interrupted rerun, of which the service received one of two jobs."""
    with sandboxes.one() as sandbox:
        failed.apply(sandbox)
        sandbox.caliban(*STATUS)
        sandbox.add_faults(Fault("create", "drop"), Fault("create", "refuse", times=10**6))
        sandbox.add_faults(Fault("look_up", "status", status=403, times=10**6))
        result = sandbox.caliban(*RESUBMIT)
        assert result.code == 1, result
        return InitialState(store_of(sandbox), sandbox.service.snapshot())


@dataclass(frozen=True)
class Table:
    """Where a command is killed, its initial state, and the expected number of jobs of each experiment."""

    before: InitialState
    arguments: Sequence[str]
    jobs_each: int
    points: Sequence[Point]


@pytest.fixture(scope="module")
def tables(sandboxes: SandboxPool, failed: InitialState, interrupted: InitialState) -> dict[str, Table]:
    """The tables of one service; no point is in two of them."""
    lossy = InitialState(failed.store, failed.jobs, [Fault("create", "drop")])
    seen: Seen = set()

    def made(before: InitialState, arguments: Sequence[str], jobs_each: int) -> Table:
        with sandboxes.one() as sandbox:
            before.apply(sandbox)
            recording = sandbox.directory / "recording.json"
            result = sandbox.caliban(*arguments, recording=recording)
            assert result.code == 0, result
            is_selected = (lambda event: True) if sandboxes.is_complete else is_service_specific
            points = crash_points(read_recording(recording), seen, is_selected)
            return Table(before, arguments, jobs_each, points)

    return {
        "status after an interrupted rerun": made(interrupted, STATUS, 2),
        "a rerun after an interrupted one": made(interrupted, RESUBMIT, 2),
        "a rerun with a lost response": made(lossy, RESUBMIT, 2),
        "a submission": made(InitialState(), sandboxes.all[0].service.command(), 1),
    }


def resubmit_until_done(sandbox: Sandbox) -> list[str]:
    """Run ``resubmit`` until there is nothing to do, as a user does after a crash, and return problems."""
    for _ in range(6):
        result = sandbox.caliban(*RESUBMIT)
        is_never_submitted = "never submitted" in result.out or "[unknown-xgroup]" in result.err
        if is_never_submitted:
            result = sandbox.submit()
        if result.code != 0:
            return [f"the command after the crash failed: {result}"]
        if not is_never_submitted and "nothing to resubmit" in result.out:
            return []
    return ["there was always something to resubmit"]


def crash_and_recover(sandbox: Sandbox, table: Table, point: Point) -> list[str]:
    """Return problems after the command was killed at a point, and the next commands finished its work."""
    table.before.apply(sandbox)
    sandbox.caliban(*table.arguments, point=point)
    problems = [*resubmit_until_done(sandbox), *sandbox.inconsistencies()]
    expected = {f"{FOO} {number}": table.jobs_each for number in range(2)}
    if sandbox.jobs_per_experiment() != expected:
        problems.append(f"jobs at the service, by experiment: {sandbox.jobs_per_experiment()}")
    return [f"{point}:", *problems, *map(str, sandbox.results)] if problems else []


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "command",
    [
        "status after an interrupted rerun",
        "a rerun after an interrupted one",
        "a rerun with a lost response",
        "a submission",
    ],
)
def test_a_command_killed_at_any_point_neither_loses_a_job_nor_runs_it_twice(
    command: str, sandboxes: SandboxPool, tables: dict[str, Table]
) -> None:
    table = tables[command]
    missed: list[Point] = []

    def check(point: Point) -> list[str]:
        with sandboxes.one() as sandbox:
            problems = crash_and_recover(sandbox, table, point)
            if sandbox.results[0].code != -signal.SIGKILL:
                missed.append(point)
            return problems

    with ThreadPoolExecutor(PARALLEL) as pool:
        problems = [problem for found in pool.map(check, table.points) for problem in found]
    assert problems == []
    # The order of threads, and how often a list is requested again, differ from run to run, so that a few points are
    # not reached.
    allowed = len(table.points) // (20 if sandboxes.is_complete else 8)
    assert len(missed) <= allowed, f"these of {len(table.points)} points were not reached: {missed}"


@pytest.mark.parametrize("command", ["status after an interrupted rerun", "a submission"])
def test_a_table_contains_every_effect(command: str, sandboxes: SandboxPool, tables: dict[str, Table]) -> None:
    effects = {str(point).partition(" (")[0] for point in tables[command].points if not point.line}

    assert ({"before commit", "after commit"} < effects) == sandboxes.is_complete
    assert any("service" in effect for effect in effects)


def test_a_table_has_a_point_around_every_effect_and_in_every_function_between() -> None:
    passed = [
        Event("", 0, "POST token"),
        Event("a.py", 1, "early"),
        Event("", 0, "commit"),
        Event("a.py", 5, "one"),
        Event("a.py", 6, "one"),
        Event("", 0, "POST service"),
        Event("a.py", 5, "one"),
        Event("", 0, "commit"),
        Event("a.py", 9, "late"),
    ]

    assert [str(point) for point in crash_points(passed, set())] == [
        "before commit (number 2)",
        "after commit (number 2)",
        "a.py:5 one (number 1)",
        "before POST service (number 3)",
        "after POST service (number 3)",
        "a.py:5 one (number 2)",
        "before commit (number 4)",
        "after commit (number 4)",
    ]


def test_the_tables_of_other_services_contain_platform_code_and_requests() -> None:
    passed = [
        Event("", 0, "commit"),
        Event("submission/submit.py", 3, "submit"),
        Event("platforms/vertex.py", 5, "submit"),
        Event("", 0, "POST service"),
        Event("store/journal.py", 7, "settle"),
        Event("", 0, "commit"),
    ]

    assert [str(point) for point in crash_points(passed, set(), is_service_specific)] == [
        "platforms/vertex.py:5 submit (number 1)",
        "before POST service (number 2)",
        "after POST service (number 2)",
    ]
