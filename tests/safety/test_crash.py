"""Wherever a command is killed, the next ones complete its work: no job is lost, none is submitted twice.

The commands are real processes, killed with SIGKILL at each point of the table that :mod:`tests.safety.crash` makes;
the services are stand-ins, in the test's own process. What follows after a kill depends only on what the killed command
left behind: in the store, at the service, and of the faults. Points that left the same are completed once.

A table is recorded once per test run and divided into slices, which are tests of their own, for all workers.
"""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import re
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.forkserver import ForkServer
from tests.safety.crash_points import Seen, crash_points, is_service_specific, read_recording
from tests.safety.sandbox import RESUBMIT, RETRY_POLICY, STATUS, Sandbox
from tests.safety.services import SERVICES, AiPlatform
from tests.safety.tracing import Event, Point
from tests.standins.faults import Fault

FOO = "--foo 3 --sleep"
SLICES = {"AI Platform": 4, "Vertex AI": 2, "Kubernetes": 1}
"""Into how many tests the table of each command is divided."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class InitialState:
    """What a command starts with: a store (None for none), the jobs at the service, faults there, and the clock."""

    store: bytes | None = None
    jobs: Sequence[Any] = ()
    faults: Sequence[Fault] = ()
    clock_offset: float = 0

    def apply(self, sandbox: Sandbox) -> None:
        sandbox.clock_offset = self.clock_offset
        for file in sandbox.directory.glob("caliban.db*"):
            file.unlink()
        if self.store is not None:
            store_file(sandbox).write_bytes(self.store)
        sandbox.results.clear()
        sandbox.reset_service(self.jobs)
        sandbox.add_faults(*self.faults)


@dataclass(frozen=True)
class Table:
    """Where a command is killed, what it starts with, and how many jobs each experiment has in the end."""

    before: InitialState
    arguments: Sequence[str]
    jobs_each: int
    points: Sequence[Point]


def store_file(sandbox: Sandbox) -> Path:
    return sandbox.directory / "caliban.db"


def store_of(sandbox: Sandbox) -> bytes:
    assert not list(sandbox.directory.glob("caliban.db-*")), "a store at rest is one file"
    return store_file(sandbox).read_bytes()


@pytest.fixture(scope="module")
def sandbox(service_name: str, tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer) -> Iterator[Sandbox]:
    directory = tmp_path_factory.mktemp("sandbox")
    with SERVICES[service_name]() as service:
        yield Sandbox(
            directory,
            service,
            fork_server,
            f"sqlite:///{directory / 'caliban.db'}",
            retry_policy={**RETRY_POLICY, "max_delay": 16},
        )


@pytest.fixture(scope="module")
def tables(service_name: str, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    """The tables of one service, by the names of their commands."""
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent  # that of all workers
    return made_once(directory / f"crash tables of {service_name}", lambda: make_tables(sandbox))


def made_once(path: Path, make: Callable[[], _T]) -> _T:
    """Return what the first of all test processes made, which the others wait for."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            path.write_bytes(pickle.dumps(make()))
        made: _T = pickle.loads(path.read_bytes())
        return made


def make_tables(sandbox: Sandbox) -> dict[str, Table]:
    """Record all commands; points of one table are not repeated in the next."""
    failed = failed_jobs(sandbox)
    interrupted = interrupted_rerun(sandbox, failed)
    lossy = InitialState(failed.store, failed.jobs, [Fault("create", "drop")], failed.clock_offset)
    seen: Seen = set()

    def table(before: InitialState, arguments: Sequence[str], jobs_each: int) -> Table:
        before.apply(sandbox)
        recording = sandbox.directory / "recording.json"
        result = sandbox.caliban(*arguments, recording=recording)
        assert result.code == 0, result
        wanted = (lambda event: True) if isinstance(sandbox.service, AiPlatform) else is_service_specific
        points = crash_points(read_recording(recording), seen, wanted)
        return Table(before, arguments, jobs_each, points)

    return {
        "status after an interrupted rerun": table(interrupted, STATUS, 2),
        "rerun after an interrupted one": table(interrupted, RESUBMIT, 2),
        "rerun with a lost response": table(lossy, RESUBMIT, 2),
        "submission": table(InitialState(), sandbox.service.command(), 1),
    }


def failed_jobs(sandbox: Sandbox) -> InitialState:
    """A group of two experiments whose jobs have failed, which the store does not know yet."""
    InitialState().apply(sandbox)
    result = sandbox.submit()
    assert result.code == 0, result
    sandbox.end_jobs("FAILED")
    sandbox.advance_clock()
    return InitialState(store_of(sandbox), sandbox.service.snapshot(), clock_offset=sandbox.clock_offset)


def interrupted_rerun(sandbox: Sandbox, failed: InitialState) -> InitialState:
    """The same group, after a rerun that ended when the service had one of its jobs, and never got the other."""
    failed.apply(sandbox)
    sandbox.caliban(*STATUS)
    sandbox.add_faults(Fault("create", "drop"), Fault("create", "refuse", times=10**6))
    sandbox.add_faults(Fault("look_up", "status", status=403, times=10**6))
    result = sandbox.caliban(*RESUBMIT)
    assert result.code == 1, result
    sandbox.advance_clock()
    return InitialState(store_of(sandbox), sandbox.service.snapshot(), clock_offset=sandbox.clock_offset)


def resubmit_until_done(sandbox: Sandbox) -> list[str]:
    """Do what a user does after a crash: ``resubmit`` until there is nothing to do. Return what went wrong."""
    for _ in range(6):
        result = sandbox.caliban(*RESUBMIT)
        has_none = "never submitted" in result.out or "[unknown-xgroup]" in result.err
        if has_none:
            result = sandbox.submit()
        if result.code != 0:
            return [f"the command after the crash failed: {result}"]
        if not has_none and "nothing to resubmit" in result.out:
            return []
    return ["there was always more to do"]


def left_behind(sandbox: Sandbox) -> str:
    """Return what further commands depend on, with placeholders for times, process ids and random names."""
    store = _contents(store_file(sandbox))
    jobs = [astuple(job) for job in sandbox.service.jobs()]
    faults = [(fault.method, fault.kind, fault.times) for fault in sandbox.stand_in.faults.pending]
    placeholders: dict[str, str] = {}

    def placeholder(match: re.Match[str]) -> str:
        return placeholders.setdefault(match[0], f"<{len(placeholders)}>")

    text = json.dumps([store, jobs, faults], default=str)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*", "<time>", text)
    text = re.sub(r"\d{8}_\d{6}", "<time>", text)
    return re.sub(r"[0-9a-f]{8,}", placeholder, text)


def _contents(store: Path) -> Any:
    """Return the rows of all tables, and whether a transaction was interrupted; does not touch the file."""
    if not store.exists():
        return None
    is_interrupted = store.with_name(f"{store.name}-journal").exists()
    copy = store.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in store.parent.glob(f"{store.name}*"):
        shutil.copy(file, copy)
    with closing(sqlite3.connect(copy / store.name)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [is_interrupted, {name: _rows(connection, name) for name in sorted(names)}]


def _rows(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    cursor = connection.execute(f"SELECT * FROM {table}")
    columns = [column[0] for column in cursor.description]
    rows = [dict(zip(columns, row, strict=True)) for row in cursor]
    return [{name: value for name, value in row.items() if name != "pid"} for row in rows]


@dataclass
class Completions:
    """What went wrong when the work of killed commands was completed, by what those had left behind."""

    known: dict[tuple[int, str], list[str]] = field(default_factory=dict)

    def complete(self, sandbox: Sandbox, jobs_each: int) -> list[str]:
        key = (jobs_each, left_behind(sandbox))
        if key not in self.known:
            problems = [*resubmit_until_done(sandbox), *sandbox.inconsistencies()]
            if sandbox.jobs_per_experiment() != {f"{FOO} {number}": jobs_each for number in range(2)}:
                problems.append(f"jobs of the service by experiment: {sandbox.jobs_per_experiment()}")
            self.known[key] = [*problems, *map(str, sandbox.results)] if problems else []
        return self.known[key]


@pytest.fixture(scope="module")
def completions(service_name: str) -> Completions:
    return Completions()


SERVICE_SLICES = [
    pytest.param(name, number, id=f"{name}, slice {number + 1} of {count}")
    for name, count in SLICES.items()
    for number in range(count)
]


@pytest.mark.parametrize(("service_name", "number"), SERVICE_SLICES, scope="module")
@pytest.mark.parametrize(
    "command",
    [
        "status after an interrupted rerun",
        "rerun after an interrupted one",
        "rerun with a lost response",
        "submission",
    ],
)
def test_a_command_killed_at_any_point_neither_loses_a_job_nor_runs_it_twice(
    service_name: str,
    command: str,
    number: int,
    sandbox: Sandbox,
    tables: dict[str, Table],
    completions: Completions,
) -> None:
    table, count = tables[command], SLICES[service_name]
    size = -(-len(table.points) // count)
    problems: list[str] = []
    for point in table.points[number * size : (number + 1) * size]:
        table.before.apply(sandbox)
        killed = sandbox.caliban(*table.arguments, point=point)
        if killed.code != -signal.SIGKILL:
            problems.append(f"{point} was not reached: {killed}")
        problems += [f"{point}: {problem}" for problem in completions.complete(sandbox, table.jobs_each)]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("service_name", SERVICES, scope="module")
@pytest.mark.parametrize("command", ["status after an interrupted rerun", "submission"])
def test_a_table_contains_every_effect(command: str, service_name: str, tables: dict[str, Table]) -> None:
    effects = {str(point).partition(" (")[0] for point in tables[command].points if not point.line}

    assert ({"before commit", "after commit"} < effects) == (service_name == "AI Platform")
    assert any("service" in effect for effect in effects)


def test_a_table_has_a_point_around_every_effect_and_in_every_function_between() -> None:
    executed = [
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

    assert [str(point) for point in crash_points(executed, set())] == [
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
    executed = [
        Event("", 0, "commit"),
        Event("submission/submit.py", 3, "submit"),
        Event("platforms/vertex.py", 5, "submit"),
        Event("", 0, "POST service"),
        Event("store/journal.py", 7, "settle"),
        Event("", 0, "commit"),
    ]

    assert [str(point) for point in crash_points(executed, set(), is_service_specific)] == [
        "platforms/vertex.py:5 submit (number 1)",
        "before POST service (number 2)",
        "after POST service (number 2)",
    ]
