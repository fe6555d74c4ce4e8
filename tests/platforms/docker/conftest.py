"""The Docker platform with a fake engine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from functools import cache
from pathlib import Path

import pytest

from caliban.attempts import Submission
from caliban.images.docker.engine import Engine
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import JobRecord, JobStatus, JsonObject, NewJob
from tests.builders import a_submission
from tests.fake_service import may_send
from tests.fakes import FakeClock

from .fake_docker import fake_docker
from .fake_engine import FakeDocker
from .helpers import OutputReporter

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def docker() -> Iterator[FakeDocker]:
    # The path of a Unix socket must be short (107 bytes); that of tmp_path may not be.
    with tempfile.TemporaryDirectory() as directory, fake_docker(Path(directory)) as fake:
        yield fake


@pytest.fixture
def reporter() -> OutputReporter:
    return OutputReporter()


@pytest.fixture
def environ(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    path = str(docker.socket.parent / "bin")
    monkeypatch.setenv("PATH", path)  # where subprocess looks for the program
    return {"DOCKER_HOST": f"unix://{docker.socket}", "PATH": path}


@pytest.fixture
def context(environ: dict[str, str], tmp_path: Path, reporter: OutputReporter) -> Iterator[PlatformContext]:
    connections = []

    @cache
    def connect() -> Engine:
        connections.append(Engine.connect(environ))
        return connections[-1]

    yield PlatformContext(environ, tmp_path, reporter, connect, clock=FakeClock())
    for connection in connections:
        with closing(connection):
            pass


@pytest.fixture
def platform(context: PlatformContext) -> DockerPlatform:
    return DockerPlatform(context)


@pytest.fixture
def submission() -> Submission:
    return a_submission(
        platform="LOCAL",
        token=TOKEN,
        name="caliban-20200529-105330-01234567",
        created=datetime(2020, 5, 29, 10, 53, 30),
        destination={"engine": "a1b2-engine", "engine_name": "catbus"},
        host="catbus",
    )


@pytest.fixture
def spec() -> JsonObject:
    command = ["docker", "run", "--ipc", "host", "-e", "PYTHONUNBUFFERED=1", "lab:1", "--foo", "3"]
    return {"command": command, "container": "lab:1"}


@pytest.fixture
def record(spec: JsonObject) -> Callable[[NewJob], JobRecord]:
    """Return the record of a job, as the store keeps it."""

    def record(job: NewJob, id: int = 68) -> JobRecord:
        details = DockerPlatform.parse_details(job.status, dict(job.details.raw))
        created = datetime(2020, 5, 29, 10, 53, 40)
        return JobRecord(id, "LOCAL", 68, spec, job.container, job.status, details, created)

    return record


@pytest.fixture
def running(
    platform: DockerPlatform, spec: JsonObject, submission: Submission, record: Callable[[NewJob], JobRecord]
) -> JobRecord:
    """A job that was just submitted."""
    job = record(platform.submit(spec, submission, may_send))
    assert job.status is JobStatus.RUNNING
    return job
