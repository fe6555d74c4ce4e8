"""A person with a store, and a service: where crashes, storms and races are let loose, and what must hold after."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from tests.safety.nursery import LaunchOptions, Nursery
from tests.safety.places import GROUP, Place
from tests.safety.traced import Point
from tests.standins.faults import Fault
from tests.standins.serving import StandIn

RESUBMIT = ("resubmit", *GROUP, "--yes")
STATUS = ("status", *GROUP)
QUICK = {
    "connect_timeout": 5,
    "read_timeout": 20,
    "initial_delay": 0.01,
    "max_delay": 0.05,
    "deadline": 10,
    "consistency_delay": 0.2,
}
"""Enough for any number of faults that a test plants, and no time lost on each."""

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"caliban {' '.join(self.words)}: {self.code}\n{self.out}{self.err}"


@dataclass
class World:
    """One person's home, project folder and store, and the service that they use.

    Attributes:
        folder: holds the home and the project.
        place: the service.
        nursery: runs the commands.
        store_url: as in ``CALIBAN_DB_URL``.
        answers: of every command so far.
        retry_policy: of the commands.
    """

    folder: Path
    place: Place
    nursery: Nursery
    store_url: str
    environ: dict[str, str] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    retry_policy: Mapping[str, float] = field(default_factory=lambda: QUICK)

    def __post_init__(self) -> None:
        for name in ("home", "cpu"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "cpu" / "cpu.py").write_text("print('hello')\n")
        self.experiments(2)
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
        self.environ = {
            **kept,
            "HOME": str(self.folder / "home"),
            "CALIBAN_USER": "totoro",
            "CALIBAN_DB_URL": self.store_url,
            **self.place.environ(self.folder),
        }

    @property
    def service(self) -> StandIn:
        """For its faults and requests."""
        return self.place.service

    def experiments(self, count: int) -> None:
        """Let ``experiment.json`` span so many."""
        (self.folder / "cpu" / "experiment.json").write_text(json.dumps({"sleep": list(range(count))}))

    def caliban(self, *words: str, point: Point | None = None, recording: Path | None = None) -> Answer:
        """Run a command."""
        [answer] = self.at_once([words], point=point, recording=recording)
        return answer

    def at_once(
        self, commands: Sequence[Sequence[str]], *, point: Point | None = None, recording: Path | None = None
    ) -> list[Answer]:
        """Run commands at the same time, each in a process of its own."""
        files = [str(self.folder / f"command-{next(_NUMBERS)}") for _ in commands]
        orders = [
            LaunchOptions(
                words=tuple(words),
                environ=self.environ,
                cwd=str(self.folder / "cpu"),
                out=f"{file}.out",
                err=f"{file}.err",
                point=(point.place, point.line, point.function, point.nth) if point else None,
                recording=str(recording) if recording else None,
                retry_policy=self.retry_policy,
            )
            for words, file in zip(commands, files, strict=True)
        ]
        codes = self.nursery.run(orders)
        answers = [
            Answer(tuple(words), code, Path(f"{file}.out").read_text(), Path(f"{file}.err").read_text())
            for words, code, file in zip(commands, codes, files, strict=True)
        ]
        self.answers.extend(answers)
        return answers

    def submit(self, *, point: Point | None = None, recording: Path | None = None) -> Answer:
        """Run the command that submits the group."""
        return self.caliban(*self.place.command(), point=point, recording=recording)

    def plant(self, *faults: Fault) -> None:
        """Let faults happen from now on; their methods are named by :meth:`Place.method`'s roles."""
        for fault in faults:
            self.service.faults.add(replace(fault, method=self.place.method(fault.method)))

    def end_jobs(self, state: str = "FAILED") -> None:
        """Let every job at the service end, those that have not."""
        self.place.end_jobs(state)

    def let_service_have(self, jobs: Sequence[Any]) -> None:
        """Let the service know these jobs (:meth:`Place.snapshot`) and no others, and forget what was asked of it."""
        self.place.restore(jobs)
        self.service.requests.clear()
        self.service.faults.pending.clear()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What the store says."""
        with self._connection() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

    def experiment_count(self) -> int:
        """How many there are in the store."""
        return int(self.rows("SELECT count(*) FROM experiments")[0][0])

    def jobs_per_experiment(self) -> dict[str, int]:
        """How many jobs the service has of each experiment, by the experiment's arguments."""
        return dict(Counter(job.arguments for job in self.place.jobs()))

    def lost_or_twice(self) -> list[str]:
        """What does not hold: jobs at the service = job rows in the store, token by token; [] when all is well."""
        jobs_there = self.place.jobs()
        there = Counter(job.token for job in jobs_there)
        names = {job.token: job.name for job in jobs_there}
        settled = self.rows(
            "SELECT submissions.token, jobs.details, jobs.experiment_id = submissions.experiment_id FROM submissions "
            "JOIN jobs ON jobs.id = submissions.job_id WHERE submissions.state = 'DONE'"
        )
        problems = [f"token {token} is at the service {count} times" for token, count in there.items() if count > 1]
        recorded = Counter(token for token, _, _ in settled)
        problems += [f"job {names[token]} is not recorded" for token in there if token not in recorded]
        problems += [f"job of token {token} is recorded, and not there" for token in recorded if token not in there]
        for token, details, is_of_experiment in settled:
            named = self.place.name_in(json.loads(details) if isinstance(details, str) else details)
            if token in names and (named != names[token] or not is_of_experiment):
                problems.append(f"job {names[token]} is recorded under another name or experiment: {named}")
        [(jobs,)] = self.rows("SELECT count(*) FROM jobs")
        [(made,)] = self.rows("SELECT count(DISTINCT job_id) FROM submissions WHERE state IN ('DONE', 'FAILED')")
        if jobs != made:
            problems.append(f"{jobs} jobs are recorded, and {made} submissions made one")
        problems += [
            f"submission {row[0]} is OPEN" for row in self.rows("SELECT id FROM submissions WHERE state='OPEN'")
        ]
        return problems

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        engine = create_engine(self.store_url)
        with engine.connect() as connection:
            yield connection
        engine.dispose()
