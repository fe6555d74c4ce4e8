"""A user with a store and a service, for tests with crashes, faults and concurrent commands, and their invariants."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from tests.forkserver import ForkedProcess, ForkServer, Invocation
from tests.safety.pausing import Pausing
from tests.safety.services import GROUP, Service
from tests.safety.tracing import Point
from tests.standins.faults import Fault
from tests.standins.serving import StandIn

RESUBMIT = ("resubmit", *GROUP, "--yes")
STATUS = ("status", *GROUP)
RETRY_POLICY = {"read_timeout": 20, "max_delay": 0.5, "deadline": 60, "quota_deadline": 3600, "consistency_delay": 2}
"""Enough attempts for all faults of a test; delays pass at once (:class:`~tests.safety.tracing.VirtualClock`)."""

_NUMBERS = itertools.count()
_ZONES = itertools.cycle(["Pacific/Kiritimati", "Pacific/Niue"])
"""14 hours ahead of UTC, and 11 behind: each command is in another one than the previous."""


@dataclass(frozen=True)
class CommandResult:
    """The exit code and the output of a command."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"caliban {' '.join(self.arguments)}: {self.code}\n{self.out}{self.err}"


@dataclass(frozen=True)
class RunningCommand:
    """A command that was started, and the files for its output."""

    arguments: tuple[str, ...]
    process: ForkedProcess
    stdout: Path
    stderr: Path

    def wait(self) -> CommandResult:
        """Wait for the end of the command."""
        return CommandResult(self.arguments, self.process.wait(), self.stdout.read_text(), self.stderr.read_text())


@dataclass
class Sandbox:
    """A user's home directory, project and store, and the service that they use.

    Attributes:
        directory: contains the home directory and the project.
        service: the service.
        server: runs the commands.
        store_url: as in ``CALIBAN_DB_URL``.
        results: of all commands so far.
        retry_policy: of the commands; the fields of a RetryPolicy.
        clock_offset: seconds by which the clocks of the commands are ahead.
    """

    directory: Path
    service: Service
    server: ForkServer
    store_url: str
    environ: dict[str, str] = field(default_factory=dict)
    results: list[CommandResult] = field(default_factory=list)
    retry_policy: Mapping[str, float] = field(default_factory=lambda: RETRY_POLICY)
    clock_offset: float = 0

    def __post_init__(self) -> None:
        for name in ("home", "cpu"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.directory / "cpu" / "cpu.py").write_text("print('hello')\n")
        self.experiments(2)
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
        self.environ = {
            **kept,
            "HOME": str(self.directory / "home"),
            "CALIBAN_USER": "totoro",
            "CALIBAN_DB_URL": self.store_url,
            **self.service.environ(self.directory),
        }

    @property
    def stand_in(self) -> StandIn:
        """The stand-in of the service, for its faults and requests."""
        return self.service.stand_in

    def experiments(self, count: int) -> None:
        """Write an ``experiment.json`` with this number of experiments."""
        (self.directory / "cpu" / "experiment.json").write_text(json.dumps({"sleep": list(range(count))}))

    def caliban(self, *arguments: str, point: Point | None = None, recording: Path | None = None) -> CommandResult:
        """Run a command."""
        [result] = self.run_concurrently([arguments], point=point, recording=recording)
        return result

    def caliban_paused(self, *arguments: str, look: Callable[[Point], None]) -> CommandResult:
        """Run a command, and call ``look`` at each of its points, while the process and all of its threads stand."""
        with Pausing(self.directory) as pausing:
            [command] = self.start(arguments, pauses=pausing.paths)
            pausing.follow(command.process, look)
            return command.wait()

    def run_concurrently(
        self, commands: Sequence[Sequence[str]], *, point: Point | None = None, recording: Path | None = None
    ) -> list[CommandResult]:
        """Run commands concurrently, each in its own process."""
        results = [command.wait() for command in self.start(*commands, point=point, recording=recording)]
        self.results.extend(results)
        if any(result.code < 0 for result in results):
            # what a killed command had sent may still be on its way, and no further command waits for real time to pass
            self.stand_in.drain()
        return results

    def start(
        self,
        *commands: Sequence[str],
        point: Point | None = None,
        recording: Path | None = None,
        pauses: Sequence[str] | None = None,
        are_apart: bool = False,
    ) -> list[RunningCommand]:
        """Start commands concurrently, each in its own process and, if they are apart, as in a container of its own."""
        files = [self.directory / f"command-{next(_NUMBERS)}" for _ in commands]
        outputs = [(file.with_suffix(".out"), file.with_suffix(".err")) for file in files]
        options = {
            "retry_policy": self.retry_policy,
            "clock_offset": self.clock_offset,
            "point": astuple(point) if point else None,
            "recording": str(recording) if recording else None,
            "pauses": pauses,
        }
        invocations = [
            Invocation(
                arguments=tuple(arguments),
                environ={**self.environ, "TZ": next(_ZONES)},
                cwd=str(self.directory / "cpu"),
                stdin=os.devnull,
                stdout=str(stdout),
                stderr=str(stderr),
                setup="tests.safety.tracing:setup",
                options=options,
                is_apart=are_apart,
            )
            for arguments, (stdout, stderr) in zip(commands, outputs, strict=True)
        ]
        return [
            RunningCommand(tuple(arguments), process, *output)
            for arguments, process, output in zip(commands, self.server.start(*invocations), outputs, strict=True)
        ]

    def advance_clock(self, seconds: float = 2) -> None:
        """Let the clocks of later commands be ahead by so much more: names contain the second."""
        self.clock_offset += seconds

    def submit(self, *, point: Point | None = None, recording: Path | None = None) -> CommandResult:
        """Run the command that submits the group."""
        return self.caliban(*self.service.command(), point=point, recording=recording)

    def add_faults(self, *faults: Fault) -> None:
        """Add faults, whose methods are roles of :meth:`Service.method`."""
        for fault in faults:
            self.stand_in.faults.add(replace(fault, method=self.service.method(fault.method)))

    def end_jobs(self, state: str = "FAILED") -> None:
        """End all unfinished jobs at the service."""
        self.service.end_jobs(state)

    def reset_service(self, jobs: Sequence[Any]) -> None:
        """Replace the jobs at the service by a :meth:`Service.snapshot`, and forget requests and faults."""
        self.service.restore(jobs)
        self.stand_in.requests.clear()
        self.stand_in.faults.pending.clear()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Query the store."""
        with self._connection() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

    def experiment_count(self) -> int:
        """Return the number of experiments in the store."""
        return int(self.rows("SELECT count(*) FROM experiments")[0][0])

    def jobs_per_experiment(self) -> dict[str, int]:
        """Return the number of jobs at the service, by the arguments of their experiment."""
        return dict(Counter(job.arguments for job in self.service.jobs()))

    def inconsistencies(self) -> list[str]:
        """Return where jobs at the service and job rows in the store differ, by token; [] if they agree."""
        service_jobs = self.service.jobs()
        there = Counter(job.token for job in service_jobs)
        names = {job.token: job.name for job in service_jobs}
        with self._connection() as connection:
            settled = connection.execute(
                text(
                    "SELECT submissions.token, jobs.details, jobs.experiment_id = submissions.experiment_id "
                    "FROM submissions JOIN jobs ON jobs.id = submissions.job_id WHERE submissions.state = 'DONE'"
                )
            ).all()
            [(jobs,)] = connection.execute(text("SELECT count(*) FROM jobs"))
            [(made,)] = connection.execute(
                text("SELECT count(DISTINCT job_id) FROM submissions WHERE state IN ('DONE', 'FAILED')")
            )
            still_open = connection.execute(text("SELECT id FROM submissions WHERE state = 'OPEN'")).all()
        problems = [f"token {token} is at the service {count} times" for token, count in there.items() if count > 1]
        recorded = Counter(token for token, _, _ in settled)
        problems += [f"job {names[token]} is not recorded" for token in there if token not in recorded]
        problems += [f"job of token {token} is recorded, and not there" for token in recorded if token not in there]
        for token, details, is_of_experiment in settled:
            named = self.service.job_name(json.loads(details) if isinstance(details, str) else details)
            if token in names and (named != names[token] or not is_of_experiment):
                problems.append(f"job {names[token]} is recorded under another name or experiment: {named}")
        if jobs != made:
            problems.append(f"{jobs} jobs are recorded, and {made} submissions made one")
        return [*problems, *(f"submission {row[0]} is OPEN" for row in still_open)]

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        engine = create_engine(self.store_url)
        with engine.connect() as connection:
            yield connection
        engine.dispose()


@dataclass(frozen=True)
class State:
    """What a command starts with, or leaves behind: files of the store, jobs at the service, faults, and the clock."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    jobs: Sequence[Any] = ()
    faults: Sequence[Fault] = ()
    clock_offset: float = 0

    @property
    def is_in_transaction(self) -> bool:
        """Whether the next command has to roll a transaction back."""
        return any(name.endswith("-journal") for name in self.files)

    @classmethod
    def of(cls, sandbox: Sandbox) -> State:
        files = {file.name: file.read_bytes() for file in store_files(sandbox)}
        faults = [replace(fault) for fault in sandbox.stand_in.faults.pending]
        return cls(files, sandbox.service.snapshot(), faults, sandbox.clock_offset)

    def apply(self, sandbox: Sandbox) -> None:
        for file in store_files(sandbox):
            file.unlink()
        for name, content in self.files.items():
            (sandbox.directory / name).write_bytes(content)
        sandbox.clock_offset = self.clock_offset
        sandbox.results.clear()
        sandbox.reset_service(self.jobs)
        for fault in self.faults:
            sandbox.stand_in.faults.add(replace(fault))


def store_files(sandbox: Sandbox) -> Iterator[Path]:
    return sandbox.directory.glob("caliban.db*")
