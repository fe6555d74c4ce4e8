"""Stand-ins for the world outside: a terminal, a clock, a place where jobs run, a Docker Engine that builds.

Each is as strict as the real thing, and stricter in one way: it does only what it was told to expect.
"""

from __future__ import annotations

import io
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

from caliban.errors import CalibanError, ImageError, PlatformError
from caliban.images.dockerfile import BuildUser
from caliban.images.spec import BuildSpec
from caliban.config import ProjectConfig
from caliban.images.registry.push import Registry
from caliban.platforms.base import ForegroundPlatform, Platform, RefusedError, RemotePlatform
from caliban.platforms.context import PlatformContext
from caliban.records import (
    Destination,
    ImageRef,
    JobDetails,
    JobExit,
    JobRecord,
    JobStatus,
    JobUpdate,
    JsonObject,
    NewJob,
    PlatformId,
    StatusUnavailable,
    Submission,
)
from caliban.reporter import Progress, Reporter


class FakeStream(io.TextIOWrapper):
    """A standard stream in memory, with bytes below the text as real ones have."""

    def __init__(self, content: bytes = b"", *, is_terminal: bool = False) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8", newline="")
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def written(self) -> bytes:
        self.flush()
        memory = self.buffer
        assert isinstance(memory, io.BytesIO)
        return memory.getvalue()

    @property
    def text(self) -> str:
        return self.written.decode()


class FakeClock:
    """A clock whose time passes when the test says so, or at once when somebody waits."""

    def __init__(self, start: datetime = datetime(2020, 5, 29, 10, 53, 30)) -> None:
        self._start = start
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Let the time pass, unless the event is set."""
        if not event.is_set():
            self.seconds += seconds
        return event.is_set()


class HeardReporter:
    """A reporter that keeps what it was told, in order."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.notes: list[str] = []
        self.advanced = 0

    def info(self, line: str) -> None:
        self.said.append(line)

    def warn(self, line: str) -> None:
        self.warned.append(line)

    def job_output(self, data: bytes, *, is_stderr: bool) -> None:
        raise AssertionError("the fake platform's jobs write nothing")

    @contextmanager
    def progress(self, title: str, *, total: int | None, unit: str) -> Iterator[Progress]:
        yield self

    def advance(self, amount: int = 1) -> None:
        self.advanced += amount

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class FakeService:
    """What stands behind the fake platform: it knows its jobs by token and name, and answers as it was told to.

    Attributes:
        calls: what was asked of it, in order: the method's name and its argument.
        jobs: the jobs that it took on, by token.
        watch: called with each submission as it arrives, before it is answered.
        connections: how often somebody asked whether it can be reached.
        out_of_reach: why it cannot be reached, or None.
        registries: which were asked whether they accept images, each with the place where those run.
        closed_registry: why they take none, or None.
        stopping: of the platform_context of the platform before it.
    """

    calls: list[tuple[str, object]] = field(default_factory=list)
    jobs: dict[str, NewJob] = field(default_factory=dict)
    watch: Callable[[Submission], None] | None = None
    connections: int = 0
    out_of_reach: CalibanError | None = None
    registries: list[tuple[str | None, object]] = field(default_factory=list)
    closed_registry: CalibanError | None = None
    stopping: threading.Event | None = None
    _names: dict[str, str] = field(default_factory=dict)
    _expected: dict[str, deque[Callable[..., object]]] = field(default_factory=dict)

    def expect(self, method: str, *answers: Callable[..., object]) -> None:
        """The next calls of ``method`` are answered by ``answers``, one after the other."""
        self._expected.setdefault(method, deque()).extend(answers)

    def answer(self, method: str, *arguments: object) -> object:
        self.calls.append((method, arguments[0]))
        waiting = self._expected.get(method)
        if not waiting:
            raise AssertionError(f"{method} was not expected: {arguments}")
        return waiting.popleft()(*arguments)

    def verify(self) -> None:
        """Every call that was expected came."""
        left = {method: len(waiting) for method, waiting in self._expected.items() if waiting}
        assert not left, f"expected and never asked for: {left}"

    def asked(self, method: str) -> list[object]:
        return [argument for name, argument in self.calls if name == method]

    def take(self, spec: JsonObject, submission: Submission) -> NewJob:
        """Take a job on; the same token is the same job, and no two jobs have one name."""
        assert len(submission.token) >= 16, "a token that could be guessed or met twice"
        if submission.token in self.jobs:
            return self.jobs[submission.token]
        assert submission.name not in self._names, f"the name {submission.name} is taken"
        self._names[submission.name] = submission.token
        job = NewJob(str(spec["image"]), JobStatus.SUBMITTED, fake_details(JobStatus.SUBMITTED, {"name": submission.name}))
        self.jobs[submission.token] = job
        return job

    def press(self, number: signal.Signals = signal.SIGINT) -> None:
        """A person presses Ctrl-C, and it is heard, while the platform is being asked."""
        os.kill(os.getpid(), number)
        if threading.current_thread() is not threading.main_thread():
            assert self.stopping is not None
            assert self.stopping.wait(10), "nobody heard it"

    # What `expect("submit", ...)` takes:

    def accept(self, spec: JsonObject, submission: Submission) -> NewJob:
        return self.take(spec, submission)

    def lose_answer(self, spec: JsonObject, submission: Submission) -> NewJob:
        self.take(spec, submission)
        raise PlatformError("fake-timeout", "the answer of the fake platform was lost", cause="timed out")

    @staticmethod
    def refuse(spec: JsonObject, submission: Submission) -> NewJob:
        raise RefusedError(
            "fake-quota", "the fake platform has no room", cause="0 left", hint="wait", details={"error": "0 left"}
        )

    @staticmethod
    def be_unreachable(*arguments: object) -> NewJob:
        raise PlatformError("fake-unreachable", "the fake platform cannot be reached", cause="no route")

    # What `expect("find", ...)` takes:

    def look_up(self, submission: Submission) -> NewJob | None:
        return self.jobs.get(submission.token)


@dataclass(frozen=True)
class FakeDestination(Destination):
    """A place of the fake platform."""

    place: str = "here"

    def to_json(self) -> JsonObject:
        return {"place": self.place}


def fake_details(status: JobStatus, raw: JsonObject) -> JobDetails:
    """The details of a job of the fake platform: ``name``, ``place``, ``reason``, ``ret_code``, ``error``."""
    code, reason = raw.get("ret_code"), raw.get("reason") or raw.get("error")
    name, place = raw.get("name"), raw.get("place")
    return JobDetails(
        raw,
        id=str(name) if name else None,
        display_name=str(name) if name else None,
        destination=FakeDestination(str(place)) if place else None,
        exit=JobExit(code if isinstance(code, int) else None, None, str(reason) if reason else None),
    )


@dataclass(frozen=True)
class Pushed:
    """An image that was pushed to the registry of the fake platform."""

    image: ImageRef
    registry: str | None
    place: str

    def accept(self) -> ImageRef:
        """For ``expect("push", ...)``: the registry takes it."""
        return f"{self.registry or 'registry.example.com'}/{self.place}/{self.image[7:19]}:latest"

    def refuse(self) -> ImageRef:
        """For ``expect("push", ...)``: it does not."""
        raise ImageError("fake-registry-full", "the fake registry is full")


@dataclass(frozen=True)
class FakeRegistry(Registry):
    """The registry of the fake platform; every place has one of its own."""

    place: str = field(kw_only=True)
    configured: str | None = field(kw_only=True)
    service: FakeService = field(kw_only=True, compare=False, repr=False)

    def check(self) -> None:
        self.service.registries.append((self.configured, self.place))
        if self.service.closed_registry:
            raise self.service.closed_registry

    def push(self, engine: object, image: ImageRef) -> ImageRef:
        assert image.startswith("sha256:"), "only an image that was built here can be pushed"
        answer = self.service.answer("push", Pushed(image, self.configured, self.place))
        assert isinstance(answer, str)
        return answer


class FakePlatform(Platform):
    """Jobs that run by themselves. A job spec is ``{"image": ..., "words": [...]}``.

    A job runs in the place that is in its details, else ``here``.
    """

    id: ClassVar[PlatformId] = "TEST"
    service: ClassVar[FakeService]

    def __init__(self, context: PlatformContext) -> None:
        super().__init__(context)
        self.service.stopping = context.stopping

    @classmethod
    def parse_details(cls, status: JobStatus, raw: JsonObject) -> JobDetails:
        return fake_details(status, raw)

    def image_registry(self, config: ProjectConfig, destination: Destination | None) -> Registry | None:
        return None

    def connect(self, destination: Destination) -> None:
        assert isinstance(destination, FakeDestination)
        self.service.connections += 1
        if self.service.out_of_reach:
            raise self.service.out_of_reach

    def statuses(self, jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        answer = self.service.answer("statuses", tuple(jobs))
        assert isinstance(answer, dict)
        return answer

    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        _check(spec)
        return {**spec, "image": image}

    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        _check(spec)
        return {"image": image, "words": list(arguments)}

    def destination(self, latest: JobRecord | None) -> FakeDestination:
        recorded = latest.details.destination if latest else None
        return recorded if isinstance(recorded, FakeDestination) else FakeDestination()

    def job_name(self, spec: JsonObject, token: str) -> str:
        _check(spec)
        return f"fake-{token}"

    def submit(self, spec: JsonObject, submission: Submission) -> NewJob:
        _check(spec)
        assert submission.platform == "TEST"
        if self.service.watch:
            self.service.watch(submission)
        answer = self.service.answer("submit", spec, submission)
        assert isinstance(answer, NewJob)
        return answer

    def find(self, submission: Submission) -> NewJob | None:
        answer = self.service.answer("find", submission)
        assert answer is None or isinstance(answer, NewJob)
        return answer

    def stop(self, job: JobRecord) -> JobUpdate:
        answer = self.service.answer("stop", job)
        assert isinstance(answer, JobUpdate)
        return answer


class FakeForegroundPlatform(FakePlatform, ForegroundPlatform):
    """Jobs that run while the command waits."""

    def follow(self, job: JobRecord) -> JobUpdate:
        answer = self.service.answer("follow", job)
        assert isinstance(answer, JobUpdate)
        return answer


class FakeRemotePlatform(FakePlatform, RemotePlatform):
    """Jobs that run elsewhere, by images that are pushed there."""

    def image_registry(self, config: ProjectConfig, destination: Destination | None) -> Registry | None:
        if destination is None:
            return None
        assert isinstance(destination, FakeDestination)
        return FakeRegistry(
            config.registry or "registry.example.com",
            self.context.reporter,
            place=destination.place,
            configured=config.registry,
            service=self.service,
        )

    def links(self, job: JobRecord) -> Sequence[str]:
        assert not job.status.is_final, "a job that ended has no links"
        return (f"https://jobs.example.com/{job.id}", f"fake logs {job.id}")


def end(status: JobStatus, **details: object) -> Callable[[JobRecord], JobUpdate]:
    """For ``expect("follow", ...)`` and ``expect("stop", ...)``: the job ends in that state."""
    return lambda job: JobUpdate(status, fake_details(status, {**job.details.raw, **details}) if details else None)


def polls(**by_status: Sequence[int]) -> Callable[[Sequence[JobRecord]], Mapping[int, JobUpdate | StatusUnavailable]]:
    """For ``expect("statuses", ...)``: ``polls(FAILED=[1, 2], unreachable=[3])``."""

    def answer(jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        found: dict[int, JobUpdate | StatusUnavailable] = {}
        for status, ids in by_status.items():
            for job_id in ids:
                found[job_id] = (
                    StatusUnavailable("no route") if status == "unreachable" else JobUpdate(JobStatus(status))
                )
        assert set(found) == {job.id for job in jobs}, "asked about other jobs than was expected"
        return found

    return answer


def _check(spec: JsonObject) -> None:
    words = spec.get("words")
    if set(spec) != {"image", "words"} or not isinstance(spec["image"], str) or not isinstance(words, list):
        raise PlatformError("malformed-job-spec", "the recorded job cannot be run again", cause=f"found {dict(spec)}")


class FakeEngine:
    """A Docker Engine that builds what it was told to expect, and nothing else."""

    def __init__(self) -> None:
        self.built: list[BuildSpec] = []
        self.no_cache: list[bool] = []
        self._images: deque[ImageRef | CalibanError] = deque()

    def expect(self, *images: ImageRef | CalibanError) -> None:
        self._images.extend(images)

    def build(self, spec: BuildSpec, user: BuildUser, reporter: Reporter, *, no_cache: bool = False) -> ImageRef:
        assert user.uid >= 0
        self.built.append(spec)
        self.no_cache.append(no_cache)
        assert self._images, f"no build was expected: {spec}"
        image = self._images.popleft()
        if isinstance(image, CalibanError):
            raise image
        return image

    def verify(self) -> None:
        assert not self._images, f"never built: {list(self._images)}"
