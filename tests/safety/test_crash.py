"""Wherever a command is killed, the next ones complete its work: no job is lost, none is submitted twice.

The commands are real processes, the services stand-ins in the test's own process. A command is stopped at every point
(:mod:`tests.safety.tracing`), with all of its threads, and what a kill would leave behind there is copied: the files of
the store, the jobs at the service, and the faults to come. What follows after a kill depends on that only. So points
that leave the same rows are one case, for which the command is killed with SIGKILL at one of them, and its work is
completed twice: after the kill, and from the copy. A line may be reached less often the next time, as a busy machine
lets threads run in another order: then the command ends by itself, and only the copy is that of a kill.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.forkserver import ForkServer
from tests.safety.sandbox import RESUBMIT, RETRY_POLICY, STATUS, Sandbox, State
from tests.safety.services import SERVICES
from tests.safety.tracing import Point
from tests.sampling import sample
from tests.standins.faults import Fault

FOO = "--foo 3 --sleep"

_MAX_COMMANDS = 6
"""After which there is always more to do."""


@dataclass(frozen=True)
class Case:
    """A command to kill, what it starts with, and how many jobs each experiment has in the end."""

    before: State
    arguments: Sequence[str]
    jobs_each: int


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


def failed_jobs(sandbox: Sandbox) -> State:
    """A group of two experiments whose jobs have failed, which the store does not know yet."""
    State().apply(sandbox)
    result = sandbox.submit()
    assert result.code == 0, result
    sandbox.end_jobs("FAILED")
    sandbox.advance_clock()
    return State.of(sandbox)


def failed_jobs_and_a_lost_response(sandbox: Sandbox) -> State:
    """The same group; the response to the next submission gets lost."""
    failed_jobs(sandbox)
    sandbox.add_faults(Fault("create", "drop"))
    return State.of(sandbox)


def interrupted_rerun(sandbox: Sandbox) -> State:
    """The same group, after a rerun that ended when the service had one of its jobs, and never got the other."""
    failed_jobs(sandbox)
    sandbox.caliban(*STATUS)
    sandbox.add_faults(Fault("create", "drop"), Fault("create", "refuse", times=10**6))
    sandbox.add_faults(Fault("look_up", "status", status=403, times=10**6))
    result = sandbox.caliban(*RESUBMIT)
    assert result.code == 1, result
    sandbox.stand_in.faults.pending.clear()
    sandbox.advance_clock()
    return State.of(sandbox)


RETRYING = (*RESUBMIT, "--wait", "--retries", "1", "--retry_on", "code_error,infrastructure,unknown")


def rerun_that_fails(sandbox: Sandbox) -> State:
    """The same group, at a service where the second job of an experiment fails at once, and the third succeeds."""
    sandbox.service.ends = {}
    state = failed_jobs(sandbox)
    sandbox.service.ends = {2: "FAILED", 3: "SUCCEEDED"}
    return state


def one_at_a_time(sandbox: Sandbox) -> Case:
    """A submission of one job at a time, at a service where each succeeds at once."""
    name, *rest = sandbox.service.command()
    split = rest.index("--xgroup")
    sandbox.service.ends = {1: "SUCCEEDED"}
    return Case(State(), (name, *rest[:split], "--wait", "--max_parallel", "1", *rest[split:]), 1)


def canary(sandbox: Sandbox) -> Case:
    """A rerun of which one job goes first, at a service where each second job succeeds at once."""
    return Case(rerun_that_ends_well(sandbox), (*RESUBMIT, "--canary"), 2)


def rerun_that_ends_well(sandbox: Sandbox) -> State:
    sandbox.service.ends = {}
    state = failed_jobs(sandbox)
    sandbox.service.ends = {2: "SUCCEEDED"}
    return state


CASES: Mapping[str, Callable[[Sandbox], Case]] = {
    "status after an interrupted rerun": lambda sandbox: Case(interrupted_rerun(sandbox), STATUS, 2),
    "rerun after an interrupted one": lambda sandbox: Case(interrupted_rerun(sandbox), RESUBMIT, 2),
    "rerun with a lost response": lambda sandbox: Case(failed_jobs_and_a_lost_response(sandbox), RESUBMIT, 2),
    "submission": lambda sandbox: Case(State(), sandbox.service.command(), 1),
    "rerun that retries": lambda sandbox: Case(rerun_that_fails(sandbox), RETRYING, 3),
    "submission of one job at a time": one_at_a_time,
    "rerun of which one job goes first": canary,
}


ONCE = dict.fromkeys(
    ("rerun that retries", "submission of one job at a time", "rerun of which one job goes first"), "Vertex AI"
)
"""What is new in these cases depends on no service."""

PAIRS = [(service, name) for service in SERVICES for name in CASES if ONCE.get(name, service) == service]


@dataclass
class Points:
    """The points of a case, and what a kill leaves behind at each.

    Attributes:
        all: in the order in which they were reached.
        distinct: one of those that leave the same, in a transaction if there is one, with that, by :func:`left_behind`.
    """

    all: list[Point] = field(default_factory=list)
    distinct: dict[str, tuple[Point, State]] = field(default_factory=dict)


def points_of(case: Case, sandbox: Sandbox) -> Points:
    """Run the command of a case, and look at it at every point."""
    points = Points()
    known: set[str] = set()

    def look(point: Point) -> None:
        points.all.append(point)
        state = State.of(sandbox)
        content = repr((state.files, state.jobs, state.faults))
        if content not in known:  # reading the store takes longer than comparing its files
            known.add(content)
            key = left_behind(sandbox)
            # what a kill in a transaction leaves is rolled back by the next command: the harder way to the same rows
            if key not in points.distinct or state.is_in_transaction > points.distinct[key][1].is_in_transaction:
                points.distinct[key] = (point, state)

    case.before.apply(sandbox)
    result = sandbox.caliban_paused(*case.arguments, look=look)
    assert result.code == 0, result
    check_coverage(points)
    return points


def check_coverage(points: Points) -> None:
    """Check that the points are around every effect, and in functions between them."""
    effects = Counter(f"{point.location} {point.function}" for point in points.all if not point.line)
    functions = Counter((point.location, point.function) for point in points.all if point.line)

    assert min(effects[f"{where} commit"] for where in ("before", "after")) >= 2
    assert any(effect.startswith("before") and effect.endswith("service") for effect in effects)
    assert all(effects[effect.replace("before", "after", 1)] == count for effect, count in effects.items())
    assert functions["submission/reconcile.py", "reconcile"] + functions["submission/submit.py", "_start"] >= 2
    assert any(file.startswith("platforms/") for file, _ in functions)
    assert 2 < len(points.distinct) < len(points.all)


def left_behind(sandbox: Sandbox) -> str:
    """Return what further commands depend on, with placeholders for times, process ids and random names."""
    store = _contents(sandbox.directory / "caliban.db")
    jobs = sorted((astuple(job) for job in sandbox.service.jobs()), key=lambda job: job[2:])  # not by a random name
    faults = [(fault.method, fault.kind, fault.times) for fault in sandbox.stand_in.faults.pending]
    placeholders: dict[str, str] = {}

    def placeholder(match: re.Match[str]) -> str:
        return placeholders.setdefault(match[0], f"<{len(placeholders)}>")

    text = json.dumps([store, jobs, faults], default=str)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*", "<time>", text)
    text = re.sub(r"\d{8}_\d{6}", "<time>", text)
    return re.sub(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8,}", placeholder, text)


def _contents(store: Path) -> Any:
    """Return the rows of all tables without those of an open transaction; does not touch the file."""
    if not store.exists():
        return None
    copy = store.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in store.parent.glob(f"{store.name}*"):
        shutil.copy(file, copy)
    with closing(sqlite3.connect(copy / store.name)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: _rows(connection, name) for name in sorted(names)}


def _rows(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    cursor = connection.execute(f"SELECT * FROM {table}")
    columns = [column[0] for column in cursor.description]
    rows = [dict(zip(columns, row, strict=True)) for row in cursor]
    return [{name: value for name, value in row.items() if name not in ("pid", "owner")} for row in rows]


@dataclass
class Completions:
    """What went wrong when the work of killed commands was completed: ``resubmit`` until there is nothing to do.

    Attributes:
        known: by how jobs are to end, and by what a command leaves behind, on which the next ones depend.
        ended: the :func:`outcome` of each group for which a ``resubmit`` had nothing to do.
    """

    known: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def complete(self, sandbox: Sandbox, jobs_each: int) -> list[str]:
        """Complete the work of a killed command, as a user does, and return what went wrong."""
        passed: list[tuple[str, str]] = []
        ends = repr((jobs_each, sandbox.service.ends))
        problems = ["there was always more to do"]
        while len(passed) < _MAX_COMMANDS:
            key = (ends, left_behind(sandbox))
            if key in self.known:
                problems = self.known[key]
                break
            passed.append(key)
            is_over, problems = self._step(sandbox, jobs_each)
            if is_over:
                break
        self.known |= dict.fromkeys(passed, problems)
        return problems

    def _step(self, sandbox: Sandbox, jobs_each: int) -> tuple[bool, list[str]]:
        """Run the next command; return whether it was the last one that does something, and what is wrong then."""
        result = sandbox.caliban(*RESUBMIT)
        has_none = "never submitted" in result.out or "[unknown-xgroup]" in result.err
        if has_none:
            result = sandbox.submit()
        if result.code != 0:
            return True, [f"the command after the crash failed: {result}"]
        problems = wrong(sandbox, jobs_each)
        if "nothing to resubmit" in result.out and not has_none:
            self.ended.add(outcome(sandbox))
            return True, [*problems, *map(str, sandbox.results)] if problems else []
        return not problems and outcome(sandbox) in self.ended, []


def wrong(sandbox: Sandbox, jobs_each: int) -> list[str]:
    """Return in what the store and the service disagree, or the jobs are not as many as they should be."""
    problems = sandbox.inconsistencies()
    if sandbox.jobs_per_experiment() != {f"{FOO} {number}": jobs_each for number in range(2)}:
        problems.append(f"jobs of the service by experiment: {sandbox.jobs_per_experiment()}")
    return problems


def outcome(sandbox: Sandbox) -> str:
    """Return the jobs of each experiment, in order: their states in the journal, in the store, and at the service."""
    rows = sandbox.rows(
        "SELECT submissions.experiment_id, submissions.state, jobs.status FROM submissions "
        "LEFT JOIN jobs ON jobs.id = submissions.job_id ORDER BY submissions.experiment_id, submissions.id"
    )
    return repr((rows, sorted((job.arguments, job.state) for job in sandbox.service.jobs())))


@pytest.fixture(scope="module")
def completions(sandbox: Sandbox) -> Completions:
    """Those of all cases of a service."""
    return Completions()


@pytest.mark.slow
@pytest.mark.parametrize(("service_name", "name"), PAIRS, scope="module")
def test_a_command_killed_at_any_point_neither_loses_a_job_nor_runs_it_twice(
    name: str, sandbox: Sandbox, completions: Completions
) -> None:
    sandbox.service.ends = {}
    case = CASES[name](sandbox)
    problems: list[str] = []
    for point, state in sample(list(points_of(case, sandbox).distinct.values())):
        case.before.apply(sandbox)
        killed = sandbox.caliban(*case.arguments, point=point)
        if killed.code != -signal.SIGKILL and (killed.code != 0 or not point.line):
            problems.append(f"{point} was not reached: {killed}")
        problems += [f"{point}: {problem}" for problem in completions.complete(sandbox, case.jobs_each)]
        state.apply(sandbox)
        problems += [f"{point}, copied: {problem}" for problem in completions.complete(sandbox, case.jobs_each)]
    assert not problems, "\n".join(problems)
