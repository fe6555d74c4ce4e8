"""What the tests in this directory need to know about a platform: one :class:`ContractCase` for each.

``docs/add-a-platform.md`` shows how to run the tests for a platform of another package.
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, ClassVar

import pytest

from caliban.attempts import Submission
from caliban.clock import Clock
from caliban.commands.submit import SubmitCommand
from caliban.errors import ImageError
from caliban.platforms.base import Platform
from caliban.platforms.context import PlatformContext
from caliban.platforms.launch import Launch, LaunchContext, Launcher
from caliban.records import JobRecord, JobUpdate, JsonObject, NewJob
from tests.fake_service import may_send
from tests.fakes import FakeClock, RecordingReporter

if TYPE_CHECKING:
    from caliban.images.docker.engine import Engine

ENDED_PID = 2**22 + 1
"""No process has an id as high (https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html, pid_max)."""


class ContractCase(ABC):
    """A platform, and a stand-in for the service behind it, for one test.

    Attributes:
        platform_class: the platform.
        launcher: makes its job specs.
        flags: of the command line, for the launcher and the platform.
        images: two images that job specs can name: the one that jobs run, and another.
        clock_type: the platform's clock; by the default one, nobody waits.
        directory: for files of the test; it holds the project, in ``project``.
        environ: the environment variables.
        stopping: of the platform's context.
        platform: the platform, connected; :meth:`new_platform` returns one for another process.
        patch: for what the platform does not get from its context.
    """

    platform_class: ClassVar[type[Platform]]
    launcher: ClassVar[Launcher]
    flags: Sequence[str] = ()
    images: tuple[str, str]
    clock_type: ClassVar[type[Clock]] = FakeClock

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.directory, self.patch = directory, patch
        self.project = directory / "project"
        self.project.mkdir()
        (self.project / "train.sh").write_text(self.script())
        self.environ: dict[str, str] = {}
        self.clock = self.clock_type()
        self.stopping = Event()
        self._ids = iter(range(1, 1_000_000))

    @contextmanager
    def running(self) -> Iterator[ContractCase]:
        """Run the stand-in of the service, connect the platform to it, and yield the case."""
        with self.service():
            self.platform = self.new_platform()
            self.destination = self.launch().destination(self.platform)
            self.platform.connect(self.destination)
            yield self

    # What each platform implements:

    @abstractmethod
    def service(self) -> AbstractContextManager[object]:
        """Run the stand-in of the service; set ``environ``, so that the platform finds it."""

    @abstractmethod
    def started(self) -> int:
        """Return how many jobs the service ever started."""

    @abstractmethod
    def requests(self) -> int:
        """Return how many requests the service got; 0 for a platform without a service."""

    @abstractmethod
    def lose_answer(self) -> None:
        """Let the service start the next job, and its answer be lost."""

    @abstractmethod
    def refuse(self) -> None:
        """Let the service refuse all jobs from now on."""

    @abstractmethod
    def disconnect(self) -> None:
        """Break every connection from now on, so that nobody knows whether a request arrived."""

    @abstractmethod
    def end(self, job: JobRecord, *, succeeded: bool) -> None:
        """Let the program of a job end, with an exit code that is 0 or not."""

    @abstractmethod
    def remove(self, job: JobRecord) -> None:
        """Let a job vanish: nobody will know how it ended."""

    def script(self) -> str:
        """Return the program of the jobs, where they are really run."""
        return ""

    def throttle(self) -> None:  # noqa: B027 - optional: some services never do
        """Let the service limit requests (HTTP 429) from now on, if it ever does."""

    def finish_stopping(self) -> None:  # noqa: B027 - optional: some platforms wait for that
        """Let the jobs that are being stopped end."""

    def write(self, job: JobRecord, data: bytes) -> None:
        """Let the program of a running job write whole lines. For platforms with the capability ``LogSource``."""
        raise NotImplementedError

    def forget_output(self, job: JobRecord) -> None:
        """Let the service lose the output of an ended job, as it does after some time. Likewise."""
        raise NotImplementedError

    def engine(self) -> Engine:
        """Connect to the Docker Engine, for a platform that uses it."""
        raise ImageError("docker-unreachable", "this platform does not need the Docker Engine")

    # What the tests use:

    def context(self) -> PlatformContext:
        """Return the context of one more process."""
        return PlatformContext(
            self.environ,
            self.directory,
            RecordingReporter(),
            cache(self.engine),
            vars(self._args()),
            self.clock,
            self.stopping,
        )

    def new_platform(self) -> Platform:
        """Return the platform in one more process."""
        return self.platform_class(self.context())

    def _args(self) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        SubmitCommand("", lambda: {"": self.launcher}).add_arguments(parser)
        return parser.parse_args([*self.flags, "train.sh"])

    def launch(self, user: str = "totoro") -> Launch:
        """Return what the command of the platform launches."""
        now = datetime(2020, 5, 29, 10, 53, 40)
        context = LaunchContext(user, self.project, self.directory, self.environ, now, wants_gpu=False)
        return self.launcher.prepare(self._args(), context)

    def spec(self, user: str = "totoro", arguments: Sequence[str] = ("--foo", "3")) -> JsonObject:
        """Return the spec of a job that runs the first of ``images``."""
        return self.launch(user).job_spec(1, arguments, self.images[0])

    def submission(self, spec: JsonObject, *, group: str = "resubmit_test") -> Submission:
        """Return a new submission to ``destination``, of a process that has ended."""
        number, token = next(self._ids), secrets.token_hex(8)
        return Submission(
            id=number,
            token=token,
            experiment_id=number,
            group=group,
            job_spec_id=number,
            resubmits=None,
            platform=self.platform_class.id,
            destination=self.destination.to_json(),
            name=self.platform.job_name(spec, token),
            user="totoro",
            host=socket.gethostname(),
            pid=ENDED_PID,
            created=self.clock.utc_now(),
        )

    def submit(self) -> JobRecord:
        """Submit a job, and return it as it is recorded."""
        spec = self.spec()
        return self.record(self.platform.submit(spec, self.submission(spec), may_send), spec)

    def record(self, job: NewJob, spec: JsonObject) -> JobRecord:
        """Return a job as it is read from the store."""
        number = next(self._ids)
        details = self.platform_class.parse_details(job.status, json.loads(json.dumps(job.details.raw)))
        return JobRecord(
            number, self.platform_class.id, number, spec, job.container, job.status, details, self.clock.now()
        )

    def status(self, job: JobRecord) -> JobUpdate:
        """Return the state that another process reports."""
        answer = self.new_platform().statuses([job])[job.id]
        assert isinstance(answer, JobUpdate), answer
        return answer

    def stop(self, job: JobRecord) -> JobRecord:
        """Stop a job, and return it in its final state."""
        stopping = job.updated(self.platform.stop(job))
        self.finish_stopping()
        return stopping if stopping.status.is_final else self.updated(stopping)

    def updated(self, job: JobRecord) -> JobRecord:
        """Return the job with its current state, as it is read from the store."""
        updated = job.updated(self.status(job))
        details = self.platform_class.parse_details(updated.status, json.loads(json.dumps(updated.details.raw)))
        return replace(updated, details=details)
