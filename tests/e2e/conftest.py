"""A researcher with a project, the installed command and a real Docker Engine."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from caliban.images.docker.engine import Engine
from tests.e2e.clouds import CLOUDS, PROJECT, AiPlatform, Cloud, VertexAi
from tests.forkserver import ForkServer
from tests.standins.runners import Docker

AnyCloud = TypeVar("AnyCloud", bound=Cloud)

SCRIPT = """
import argparse, sys, time
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
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass
class Researcher:
    """Calls caliban in the project's folder, with a home folder and a store of their own."""

    home: Path
    folder: Path
    server: ForkServer
    environ: dict[str, str] = field(default_factory=dict)

    def caliban(self, *words: str, stdin: str = "", folder: Path | None = None, **environ: str) -> Answer:
        done = self.server.call(words, environ={**self.environ, **environ}, cwd=folder or self.folder, stdin=stdin)
        return Answer(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "caliban", *words],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
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


@pytest.fixture
def researcher(tmp_path: Path, base_image: str, fork_server: ForkServer) -> Researcher:
    environ = {
        name: value for name, value in os.environ.items() if name not in ("CALIBAN_DB_URL", "LOGNAME", "CALIBAN_USER")
    }
    person = Researcher(tmp_path / "home", tmp_path / "cpu", fork_server)
    person.environ = {**environ, "HOME": str(person.home), "USER": "totoro"}
    person.home.mkdir()
    person.write("cpu.py", SCRIPT)
    person.write(".calibanconfig.json", json.dumps({"base_image": base_image}))
    person.write("experiment.json", '{"sleep": [2, 1]}  // 1 fails')
    return person


@pytest.fixture
def group_with_a_failure(researcher: Researcher) -> Researcher:
    """The group ``resubmit_test``: job 1 succeeded, job 2 failed."""
    answer = researcher.caliban(*RUN)
    assert answer.code == 1, answer.err
    return researcher


RUN = (
    *("run", "--xgroup", "resubmit_test", "--nogpu", "--experiment_config", "experiment.json"),
    *("cpu.py", "--", "--foo", "3"),
)


@contextmanager
def reached(cloud: AnyCloud, researcher: Researcher, registry: str) -> Iterator[AnyCloud]:
    """A service that runs, and the researcher with a key to it and a registry to push to."""
    with cloud.service as service:
        key = service.write_key_file(researcher.home / "key.json")
        researcher.environ.update(cloud.environ(str(key)))
        config = json.loads((researcher.folder / ".calibanconfig.json").read_text())
        researcher.write(".calibanconfig.json", json.dumps({**config, "registry": f"{registry}/{PROJECT}"}))
        yield cloud


@pytest.fixture(params=list(CLOUDS.values()), ids=list(CLOUDS))
def cloud(request: pytest.FixtureRequest, researcher: Researcher, registry: str) -> Iterator[Cloud]:
    """Each of the services that ``caliban cloud`` submits to; its jobs run on the Docker Engine."""
    with reached(request.param(Docker(["docker"], os.environ)), researcher, registry) as running:
        yield running


@pytest.fixture
def ai_platform(researcher: Researcher, registry: str) -> Iterator[AiPlatform]:
    with reached(AiPlatform(Docker(["docker"], os.environ)), researcher, registry) as running:
        yield running


@pytest.fixture
def vertex_ai(researcher: Researcher, registry: str) -> Iterator[VertexAi]:
    with reached(VertexAi(Docker(["docker"], os.environ)), researcher, registry) as running:
        yield running


@pytest.fixture
def finished(researcher: Researcher) -> Callable[[], Answer]:
    """Wait until no job of the group is under way any more, and give the last listing."""

    def wait() -> Answer:
        answers: list[Answer] = []

        def none_runs() -> bool:
            answers.append(researcher.caliban("status", "--xgroup", "resubmit_test"))
            return not re.search(" (SUBMITTED|RUNNING) ", answers[-1].out)

        wait_until(none_runs)
        return answers[-1]

    return wait


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that must not outlive the test."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def containers_of(engine: Engine, token_or_name: str) -> list[str]:
    found = engine.client.api.containers(all=True, filters={"name": token_or_name})
    return [name.lstrip("/") for entry in found for name in entry["Names"]]
