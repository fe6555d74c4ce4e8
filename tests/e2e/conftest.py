"""A user with a project, the installed command and a real Docker Engine."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from caliban.images.docker.engine import Engine
from tests.e2e.clouds import CLOUDS, PROJECT, AiPlatform, Cloud, VertexAi
from tests.e2e.started import StartedCommand
from tests.forkserver import ForkServer
from tests.standins.runners import Docker

CloudT = TypeVar("CloudT", bound=Cloud)

SCRIPT = """
import argparse, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # the first process of a container ignores it else
parser = argparse.ArgumentParser()
parser.add_argument("--foo", type=int)
parser.add_argument("--sleep", type=float, default=0.0)
args = parser.parse_args()
print("running", args.foo, args.sleep, flush=True)
time.sleep(args.sleep / 10)
if args.sleep == 1:
    sys.exit("a coding error")
"""


@dataclass
class CommandResult:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass
class Researcher:
    """A user who runs caliban in a project directory, with their own home directory and store."""

    home: Path
    project: Path
    server: ForkServer
    environ: dict[str, str] = field(default_factory=dict)

    def caliban(self, *arguments: str, stdin: str = "", cwd: Path | None = None, **environ: str) -> CommandResult:
        done = self.server.call(arguments, environ={**self.environ, **environ}, cwd=cwd or self.project, stdin=stdin)
        return CommandResult(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> StartedCommand:
        """Start a command, and go on while it runs."""
        streams = Path(tempfile.mkdtemp(dir=self.home.parent))
        return StartedCommand(self.server, arguments, environ=self.environ, cwd=self.project, directory=streams)

    def write(self, name: str, text: str) -> Path:
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.project / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    @property
    def store(self) -> Path:
        return self.home / ".caliban" / "caliban.db"

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        with sqlite3.connect(f"file:{self.store}?mode=ro", uri=True) as connection:
            return connection.execute(statement).fetchall()

    def details(self, job: int) -> dict[str, object]:
        ((text,),) = self.rows(f"SELECT details FROM jobs WHERE id = {job}")
        loaded: dict[str, object] = json.loads(str(text))
        return loaded


def new_researcher(directory: Path, base_image: str, server: ForkServer) -> Researcher:
    """Return a user whose home and project are in a new directory."""
    environ = {
        name: value for name, value in os.environ.items() if name not in ("CALIBAN_DB_URL", "LOGNAME", "CALIBAN_USER")
    }
    user = Researcher(directory / "home", directory / "cpu", server)
    user.environ = {**environ, "HOME": str(user.home), "USER": "totoro"}
    user.home.mkdir()
    user.write("cpu.py", SCRIPT)
    user.write(".calibanconfig.json", json.dumps({"base_image": base_image}))
    user.write("experiment.json", '{"sleep": [2, 1]}  // 1 fails')
    return user


@pytest.fixture
def researcher(tmp_path: Path, base_image: str, fork_server: ForkServer) -> Researcher:
    return new_researcher(tmp_path, base_image, fork_server)


@pytest.fixture
def group_with_a_failure(researcher: Researcher) -> Researcher:
    """The group ``resubmit_test``: job 1 succeeded, job 2 failed."""
    result = researcher.caliban(*RUN)
    assert result.code == 1, result.err
    return researcher


RUN = (
    *("run", "--xgroup", "resubmit_test", "--nogpu", "--experiment_config", "experiment.json"),
    *("cpu.py", "--", "--foo", "3"),
)


@contextmanager
def running_service(cloud: CloudT, researcher: Researcher, registry: str) -> Iterator[CloudT]:
    """Start the service, and give the researcher a key file for it and a registry."""
    with cloud.service as service:
        key = service.write_key_file(researcher.home / "key.json")
        researcher.environ.update(cloud.environ(str(key)))
        config = json.loads((researcher.project / ".calibanconfig.json").read_text())
        researcher.write(".calibanconfig.json", json.dumps({**config, "registry": f"{registry}/{PROJECT}"}))
        yield cloud


@pytest.fixture(params=list(CLOUDS.values()), ids=list(CLOUDS))
def cloud(request: pytest.FixtureRequest, researcher: Researcher, registry: str) -> Iterator[Cloud]:
    """Each service that ``caliban cloud`` submits to; its jobs run on the Docker Engine."""
    with running_service(request.param(Docker(["docker"], os.environ)), researcher, registry) as running:
        yield running


@pytest.fixture
def ai_platform(researcher: Researcher, registry: str) -> Iterator[AiPlatform]:
    with running_service(AiPlatform(Docker(["docker"], os.environ)), researcher, registry) as running:
        yield running


@pytest.fixture
def vertex_ai(researcher: Researcher, registry: str) -> Iterator[VertexAi]:
    with running_service(VertexAi(Docker(["docker"], os.environ)), researcher, registry) as running:
        yield running


@pytest.fixture
def wait_for_jobs(researcher: Researcher) -> Callable[[], CommandResult]:
    """Wait until every job of the group has ended, and return the last listing."""

    def wait() -> CommandResult:
        results: list[CommandResult] = []

        def none_runs() -> bool:
            results.append(researcher.caliban("status", "--xgroup", "resubmit_test"))
            return not re.search(" (SUBMITTED|RUNNING) ", results[-1].out)

        wait_until(none_runs)
        return results[-1]

    return wait


@pytest.fixture
def processes() -> Iterator[list[StartedCommand]]:
    """Processes that are killed at the end of the test."""
    processes: list[StartedCommand] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


def running_jobs(researcher: Researcher) -> list[tuple[object, ...]]:
    try:
        return researcher.rows("SELECT id FROM jobs WHERE status = 'RUNNING'")
    except sqlite3.OperationalError:  # the store is being created
        return []


RunUntilRunning = Callable[[str], StartedCommand]


@pytest.fixture
def run_until_running(researcher: Researcher, processes: list[StartedCommand]) -> RunUntilRunning:
    """Starts a run of experiments, whose values of ``--sleep`` it is passed, and waits until a job runs."""

    def start(sleeps: str) -> StartedCommand:
        researcher.write("experiment.json", f'{{"sleep": {sleeps}}}')
        process = researcher.start(*RUN)
        processes.append(process)
        wait_until(lambda: researcher.store.exists() and bool(running_jobs(researcher)))
        return process

    return start


@pytest.fixture
def orphaned(researcher: Researcher, run_until_running: RunUntilRunning) -> Researcher:
    """A researcher whose job is running although its command was killed."""
    process = run_until_running("[6000]")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return researcher


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.05)


def container_names(engine: Engine, token_or_name: str) -> list[str]:
    found = engine.client.api.containers(all=True, filters={"name": token_or_name})
    return [name.lstrip("/") for entry in found for name in entry["Names"]]
