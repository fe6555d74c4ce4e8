"""Wherever a command is killed, the next ones finish its work: nothing is lost, nothing is done twice.

The commands are real processes, killed with SIGKILL at each point of the table that :mod:`tests.safety.crash` makes;
the services are stand-ins, in the test's own process. Two at a time, each in a world of its own.
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

from tests.safety.crash import Seen, crash_points, is_about_the_service, read_recording
from tests.safety.nursery import Nursery
from tests.safety.places import PLACES, AiPlatform
from tests.safety.traced import Event, Point
from tests.safety.worlds import RESUBMIT, STATUS, World
from tests.standins.faults import Fault

AT_ONCE = 2
FOO = "--foo 3 --sleep"


@dataclass(frozen=True)
class Before:
    """What a command meets: a store (None for none), the jobs at the service, and what goes wrong there."""

    store: bytes | None = None
    jobs: Sequence[Any] = ()
    faults: Sequence[Fault] = ()

    def put(self, world: World) -> None:
        """Let the world be like this."""
        for file in world.folder.glob("caliban.db*"):
            file.unlink()
        if self.store is not None:
            store_file(world).write_bytes(self.store)
        world.answers.clear()
        world.let_service_have(self.jobs)
        world.plant(*self.faults)


@dataclass
class Worlds:
    """A few worlds, of which each is lent to one case at a time."""

    all: list[World]
    free: Queue[World] = field(default_factory=Queue)

    def __post_init__(self) -> None:
        for world in self.all:
            self.free.put(world)

    @property
    def is_whole_table(self) -> bool:
        """Whether what is the same for all services is looked at, too: for the first of them."""
        return isinstance(self.all[0].place, AiPlatform)

    @contextmanager
    def one(self) -> Iterator[World]:
        world = self.free.get()
        try:
            yield world
        finally:
            self.free.put(world)


@pytest.fixture(scope="module", params=PLACES)
def worlds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    with ExitStack() as stack:
        made = []
        for _ in range(AT_ONCE):
            folder = tmp_path_factory.mktemp("world")
            place = stack.enter_context(PLACES[request.param]())
            nursery = stack.enter_context(Nursery())
            made.append(World(folder, place, nursery, f"sqlite:///{folder / 'caliban.db'}"))
        yield Worlds(made)


def store_file(world: World) -> Path:
    return world.folder / "caliban.db"


def store_of(world: World) -> bytes:
    assert not list(world.folder.glob("caliban.db-*")), "a store at rest is one file"
    return store_file(world).read_bytes()


@pytest.fixture(scope="module")
def failed(worlds: Worlds) -> Before:
    """A group of two experiments, whose jobs failed; the store does not know yet."""
    with worlds.one() as world:
        Before().put(world)
        answer = world.submit()
        assert answer.code == 0, answer
        world.end_jobs("FAILED")
        time.sleep(1.1)  # names hold the second, and those of the next jobs are to be free
        return Before(store_of(world), world.place.snapshot())


@pytest.fixture(scope="module")
def interrupted(worlds: Worlds, failed: Before) -> Before:
    """The same group, after a re-run that died when the service had one of its jobs, and never got the other."""
    with worlds.one() as world:
        failed.put(world)
        world.caliban(*STATUS)
        world.plant(Fault("create", "drop"), Fault("create", "refuse", times=10**6))
        world.plant(Fault("look_up", "status", status=403, times=10**6))
        answer = world.caliban(*RESUBMIT)
        assert answer.code == 1, answer
        return Before(store_of(world), world.place.snapshot())


@dataclass(frozen=True)
class Table:
    """Where a command is killed, in which circumstances, and how many jobs each experiment has in the end."""

    before: Before
    words: Sequence[str]
    jobs_each: int
    points: Sequence[Point]


@pytest.fixture(scope="module")
def tables(worlds: Worlds, failed: Before, interrupted: Before) -> dict[str, Table]:
    """All of one service; what one holds is not repeated in the next."""
    lossy = Before(failed.store, failed.jobs, [Fault("create", "drop")])
    seen: Seen = set()

    def made(before: Before, words: Sequence[str], jobs_each: int) -> Table:
        with worlds.one() as world:
            before.put(world)
            recording = world.folder / "recording.json"
            answer = world.caliban(*words, recording=recording)
            assert answer.code == 0, answer
            wanted = (lambda event: True) if worlds.is_whole_table else is_about_the_service
            points = crash_points(read_recording(recording), seen, wanted)
            return Table(before, words, jobs_each, points)

    return {
        "a listing after an interrupted re-run": made(interrupted, STATUS, 2),
        "a re-run after an interrupted one": made(interrupted, RESUBMIT, 2),
        "a re-run with a lost answer": made(lossy, RESUBMIT, 2),
        "a submission": made(Before(), worlds.all[0].place.command(), 1),
    }


def until_quiet(world: World) -> list[str]:
    """Do what a person does after a crash: ``resubmit`` until there is nothing to do. Gives what they had to hear."""
    for _ in range(6):
        answer = world.caliban(*RESUBMIT)
        nobody_began = "never submitted" in answer.out or "[unknown-xgroup]" in answer.err
        if nobody_began:
            answer = world.submit()
        if answer.code != 0:
            return [f"the command after the crash failed: {answer}"]
        if not nobody_began and "nothing to resubmit" in answer.out:
            return []
    return ["it never came to rest"]


def crash_and_go_on(world: World, table: Table, point: Point) -> list[str]:
    """What does not hold after the command was killed at a point, and others finished its work."""
    table.before.put(world)
    world.caliban(*table.words, point=point)
    problems = [*until_quiet(world), *world.lost_or_twice()]
    expected = {f"{FOO} {number}": table.jobs_each for number in range(2)}
    if world.jobs_per_experiment() != expected:
        problems.append(f"jobs at the service, by experiment: {world.jobs_per_experiment()}")
    return [f"{point}:", *problems, *map(str, world.answers)] if problems else []


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "command",
    [
        "a listing after an interrupted re-run",
        "a re-run after an interrupted one",
        "a re-run with a lost answer",
        "a submission",
    ],
)
def test_a_command_killed_at_any_point_neither_loses_a_job_nor_runs_it_twice(
    command: str, worlds: Worlds, tables: dict[str, Table]
) -> None:
    table = tables[command]
    alive: list[Point] = []

    def row(point: Point) -> list[str]:
        with worlds.one() as world:
            problems = crash_and_go_on(world, table, point)
            if world.answers[0].code != -signal.SIGKILL:
                alive.append(point)
            return problems

    with ThreadPoolExecutor(AT_ONCE) as pool:
        problems = [problem for found in pool.map(row, table.points) for problem in found]
    assert problems == []
    # Threads do not meet in the same order each time, and how often a list is looked at again depends on the machine:
    # a point may be passed by; few are.
    few = len(table.points) // (20 if worlds.is_whole_table else 8)
    assert len(alive) <= few, f"these of {len(table.points)} points were not reached: {alive}"


@pytest.mark.parametrize("command", ["a listing after an interrupted re-run", "a submission"])
def test_a_table_contains_every_effect(command: str, worlds: Worlds, tables: dict[str, Table]) -> None:
    effects = {str(point).partition(" (")[0] for point in tables[command].points if not point.line}

    assert ({"before commit", "after commit"} < effects) == worlds.is_whole_table
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

    assert [str(point) for point in crash_points(passed, set(), is_about_the_service)] == [
        "platforms/vertex.py:5 submit (number 1)",
        "before POST service (number 2)",
        "after POST service (number 2)",
    ]
