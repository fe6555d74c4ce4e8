"""Fakes of what is outside the process: a terminal, a clock, a platform with its registry, a Docker Engine.

They are strict: a call that the test did not expect fails the test.
"""

from __future__ import annotations

import io
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import ClassVar

from caliban.attempts import Submission
from caliban.config import ProjectConfig
from caliban.errors import CalibanError, ImageError, PlatformError
from caliban.images.context import collect
from caliban.images.context_stream import Observer
from caliban.images.docker.identity import EngineIdentity
from caliban.images.dockerfile import BuildUser
from caliban.images.registry.push import Registry
from caliban.images.spec import BuildSpec
from caliban.input_files import is_dir
from caliban.platforms.base import (
    ForegroundPlatform,
    KillsJobs,
    LogRequest,
    LogSource,
    MaySend,
    NotSentError,
    Platform,
    RefusedError,
    RemotePlatform,
    RemovesJobs,
)
from caliban.platforms.context import PlatformContext
from caliban.platforms.resources import ChangedResources, ChangesResources, ResourceRequest, Settings
from caliban.platforms.stored_json import REMOVE_KEY, timestamp
from caliban.records import (
    Destination,
    FailureCause,
    ImageRef,
    JobDetails,
    JobExit,
    JobRecord,
    JobStatus,
    JobUpdate,
    JsonObject,
    NewJob,
    OutputLine,
    PlatformId,
    StatusUnavailable,
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
    """A clock that advances when a test sets it, and at once when somebody waits."""

    def __init__(self, start: datetime = datetime(2020, 5, 29, 10, 53, 30)) -> None:
        self._start = start
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.seconds)

    def utc_now(self) -> datetime:
        return self.now().astimezone(timezone.utc)

    def wait_in_background(self, event: threading.Event, seconds: float) -> bool:
        return event.wait()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Advance, unless the event is set."""
        if not event.is_set():
            self.seconds += seconds
        return event.is_set()


class RecordingReporter:
    """A reporter that keeps what is reported, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.advanced = 0

    def info(self, *lines: str) -> None:
        self.lines.extend(lines)

    def warn(self, line: str) -> None:
        self.warnings.append(line)

    def job_output(self, data: bytes, *, is_stderr: bool) -> None:
        raise AssertionError("jobs of the fake platform write nothing")

    @contextmanager
    def progress(self, title: str, *, total: int | None, unit: str) -> Iterator[Progress]:
        yield self

    def advance(self, amount: int = 1) -> None:
        self.advanced += amount

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class FakeService:
    """The service behind the fake platform. It knows its jobs by token and name, and answers as expected by the test.

    Attributes:
        calls: every call, in order: the method's name and its first argument.
        jobs: the jobs that it accepted, by token.
        details: what it adds to the details of jobs.
        on_submit: called with each submission before it is answered.
        connections: the destinations that a connection was checked to, in order.
        connection_error: why it cannot be reached, or None.
        registry_checks: the registries that were checked, in order: the configured name and the zone.
        registry_error: why its registries accept no images, or None.
        stopping: of the context of its platform.
        is_detached: whether its jobs run in the background.
    """

    calls: list[tuple[str, object]] = field(default_factory=list)
    jobs: dict[str, NewJob] = field(default_factory=dict)
    details: JsonObject = field(default_factory=dict)
    on_submit: Callable[[Submission], None] | None = None
    connections: list[Destination] = field(default_factory=list)
    connection_error: CalibanError | None = None
    registry_checks: list[tuple[str | None, str]] = field(default_factory=list)
    registry_error: CalibanError | None = None
    stopping: threading.Event | None = None
    is_detached: bool = False
    _names: dict[str, str] = field(default_factory=dict)
    _expected: dict[str, deque[Callable[..., object]]] = field(default_factory=dict)

    def expect(self, method: str, *answers: Callable[..., object]) -> None:
        """Answer the next calls of ``method`` by ``answers``, one after the other."""
        self._expected.setdefault(method, deque()).extend(answers)

    def answer(self, method: str, *arguments: object) -> object:
        self.calls.append((method, arguments[0]))
        expected = self._expected.get(method)
        if not expected:
            raise AssertionError(f"unexpected call of {method}: {arguments}")
        return expected.popleft()(*arguments)

    def verify(self) -> None:
        """Check that every expected call was made."""
        left = {method: len(expected) for method, expected in self._expected.items() if expected}
        assert not left, f"calls that were expected and not made: {left}"

    def arguments_of(self, method: str) -> list[object]:
        """Return the first argument of each call of ``method``."""
        return [argument for name, argument in self.calls if name == method]

    def take(self, spec: JsonObject, submission: Submission) -> NewJob:
        """Accept a job. The same token is the same job, and names are unique."""
        assert len(submission.token) >= 16, "a token that can be guessed or repeated"
        if submission.token in self.jobs:
            return self.jobs[submission.token]
        assert submission.name not in self._names, f"the name {submission.name} is in use"
        self._names[submission.name] = submission.token
        details = fake_details(JobStatus.SUBMITTED, {"name": submission.name, **self.details})
        job = NewJob(str(spec["image"]), JobStatus.SUBMITTED, details)
        self.jobs[submission.token] = job
        return job

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """Send a signal as Ctrl-C does while a call is being answered, and wait until it is handled."""
        os.kill(os.getpid(), number)
        if threading.current_thread() is not threading.main_thread():
            assert self.stopping is not None
            assert self.stopping.wait(10), "the signal was not handled"

    # Answers for `expect("submit", ...)`:

    def accept(self, spec: JsonObject, submission: Submission) -> NewJob:
        return self.take(spec, submission)

    def lose_answer(self, spec: JsonObject, submission: Submission) -> NewJob:
        self.take(spec, submission)
        raise PlatformError("fake-timeout", "the fake platform did not answer", cause="timed out")

    @staticmethod
    def refuse(spec: JsonObject, submission: Submission) -> NewJob:
        raise RefusedError(
            "fake-quota", "the fake quota is exceeded", cause="0 left", hint="wait", details={"error": "0 left"}
        )

    @staticmethod
    def fail_to_connect(*arguments: object) -> NewJob:
        raise PlatformError("fake-unreachable", "cannot reach the fake platform", cause="no route")

    # An answer for `expect("find", ...)`:

    def look_up(self, submission: Submission) -> NewJob | None:
        return self.jobs.get(submission.token)


def may_send() -> None:
    """Permit a request: the submission is still its owner's."""


def may_not_send() -> None:
    """Forbid a request: another process settled the submission."""
    raise NotSentError("not-sent", "the submission was already settled by another process")


@dataclass(frozen=True)
class FakeDestination(Destination):
    """A zone of the fake platform."""

    zone: str = "zone-a"

    def check(self) -> None:
        if not self.zone.startswith("zone-"):
            raise PlatformError("fake-zone-malformed", f"not a zone: {self.zone}")

    def to_json(self) -> JsonObject:
        return {"zone": self.zone}


def fake_details(status: JobStatus, raw: JsonObject) -> JobDetails:
    """Return the details of a job of the fake platform: ``name``, ``zone``, ``reason``, ``ret_code``, ``error``,
    ``cause``, ``started``, ``ended``.
    """
    name, zone, code = (raw.get(key) for key in ("name", "zone", "ret_code"))
    reason = raw.get("reason") or raw.get("error")
    end = JobExit(
        code if isinstance(code, int) else None,
        FailureCause.REFUSED if "error" in raw else FailureCause(str(raw["cause"])) if "cause" in raw else None,
        str(reason) if reason else None,
    )
    return JobDetails(
        raw,
        id=str(name) if name else None,
        display_name=str(name) if name else None,
        destination=FakeDestination(str(zone)) if zone else None,
        exit=end if status.is_final else None,
        pending_reason=str(reason) if reason and not status.is_final else None,
        started=timestamp(raw, "started"),
        ended=timestamp(raw, "ended"),
        remove_when_ended=raw.get(REMOVE_KEY) is True,
    )


@dataclass(frozen=True)
class Push:
    """A push to the registry of the fake platform."""

    image: ImageRef
    registry: str | None
    zone: str

    def accept(self) -> ImageRef:
        """An answer for ``expect("push", ...)``."""
        return f"{self.registry or 'registry.example.com'}/{self.zone}/{self.image[7:19]}:latest"

    def refuse(self) -> ImageRef:
        """An answer for ``expect("push", ...)``."""
        raise ImageError("fake-registry-full", "the fake registry is full")


@dataclass(frozen=True)
class FakeRegistry(Registry):
    """The registry of one zone of the fake platform."""

    zone: str = field(kw_only=True)
    configured: str | None = field(kw_only=True)
    service: FakeService = field(kw_only=True, compare=False, repr=False)

    def check(self) -> None:
        self.service.registry_checks.append((self.configured, self.zone))
        if self.service.registry_error:
            raise self.service.registry_error

    def push(self, engine: object, image: ImageRef) -> ImageRef:
        assert image.startswith("sha256:"), "only an image that was built here can be pushed"
        answer = self.service.answer("push", Push(image, self.configured, self.zone))
        assert isinstance(answer, str)
        return answer


class FakePlatform(Platform):
    """Jobs that run by themselves. A job spec is ``{"image": ..., "arguments": [...]}``.

    A job runs in the zone in its details, by default in ``zone-a``.
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
        self.service.connections.append(destination)
        if self.service.connection_error:
            raise self.service.connection_error

    def statuses(self, jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        answer = self.service.answer("statuses", tuple(jobs))
        assert isinstance(answer, dict)
        return answer

    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        _check(spec)
        return {**spec, "image": image}

    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        _check(spec)
        return {"image": image, "arguments": list(arguments)}

    def destination(self, latest: JobRecord | None) -> FakeDestination:
        recorded = latest.details.destination if latest else None
        return recorded if isinstance(recorded, FakeDestination) else FakeDestination()

    def job_name(self, spec: JsonObject, token: str) -> str:
        _check(spec)
        return f"fake-{token}"

    def submit(self, spec: JsonObject, submission: Submission, may_send: MaySend) -> NewJob:
        _check(spec)
        assert submission.platform == "TEST"
        if self.service.on_submit:
            self.service.on_submit(submission)
        may_send()
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


class FakeImagelessPlatform(FakePlatform):
    """Jobs that need no container image."""

    needs_image: ClassVar[bool] = False


class FakeResizablePlatform(FakePlatform, ChangesResources):
    """Jobs that run by themselves, with ``memory`` in their specs."""

    resource_flags = frozenset({"min_mem"})
    resource_paths = ("memory",)

    def with_resources(self, job: JobRecord, request: ResourceRequest) -> ChangedResources:
        memory = request.min_mem or int(self._own(job.spec)[1] * (request.more_memory or 1))
        return ChangedResources({**job.spec, "memory": memory}, job.details)

    @classmethod
    def resource_settings(cls, spec: JsonObject, details: JobDetails) -> Settings:
        return {"memory": str(spec.get("memory"))}

    @staticmethod
    def _own(spec: JsonObject) -> tuple[JsonObject, int]:
        memory = spec["memory"]
        assert isinstance(memory, int)
        return {key: value for key, value in spec.items() if key != "memory"}, memory

    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        rest, memory = self._own(spec)
        return {**super().with_image(rest, image), "memory": memory}

    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        rest, memory = self._own(spec)
        return {**super().with_arguments(rest, image, arguments), "memory": memory}

    def job_name(self, spec: JsonObject, token: str) -> str:
        return super().job_name(self._own(spec)[0], token)

    def submit(self, spec: JsonObject, submission: Submission, may_send: MaySend) -> NewJob:
        return super().submit(self._own(spec)[0], submission, may_send)


class FakeForegroundPlatform(FakePlatform, ForegroundPlatform, RemovesJobs):
    """Jobs that run while the command waits."""

    def is_detached(self, job: JobRecord) -> bool:
        return self.service.is_detached

    def remove(self, job: JobRecord) -> None:
        assert job.status.is_final, "a job that has not ended must not be removed"
        self.service.answer("remove", job)

    def follow(self, job: JobRecord) -> JobUpdate:
        answer = self.service.answer("follow", job)
        assert isinstance(answer, JobUpdate)
        return answer


class FakeKillingPlatform(FakeForegroundPlatform, KillsJobs):
    """Jobs that run while the command waits, and that can be killed."""

    def kill(self, job: JobRecord) -> JobUpdate:
        answer = self.service.answer("kill", job)
        assert isinstance(answer, JobUpdate)
        return answer


class FakeLoggingPlatform(FakePlatform, LogSource):
    """Jobs that run by themselves, and whose output can be read."""

    def logs(self, job: JobRecord, request: LogRequest) -> Iterator[OutputLine]:
        if request.follow:
            assert not job.status.is_final, "a job that has ended must not be followed"
        answer = self.service.answer("logs", job, request)
        if isinstance(answer, CalibanError):
            raise answer
        assert isinstance(answer, Iterable)
        for line in answer:
            if isinstance(line, CalibanError):
                raise line
            yield OutputLine(line) if isinstance(line, bytes) else line


class FakeLogPlatform(FakeKillingPlatform, LogSource):
    """Jobs that run while the command waits, and whose output can be read."""

    def logs(self, job: JobRecord, request: LogRequest) -> Iterator[OutputLine]:
        answer = self.service.answer("logs", job)
        assert isinstance(answer, list)
        yield from answer


class FakeRemotePlatform(FakePlatform, RemotePlatform):
    """Jobs that run elsewhere, from images that are pushed there."""

    def image_registry(self, config: ProjectConfig, destination: Destination | None) -> Registry | None:
        if config.registry is not None and "/" not in config.registry:
            raise ImageError("fake-registry-malformed", f"the fake platform has no registry {config.registry}")
        if destination is None:
            return None
        assert isinstance(destination, FakeDestination)
        return FakeRegistry(
            config.registry or "registry.example.com",
            self.context.reporter,
            zone=destination.zone,
            configured=config.registry,
            service=self.service,
        )

    def links(self, job: JobRecord) -> Sequence[str]:
        assert not job.status.is_final, "a job that has ended has no links"
        return (f"https://jobs.example.com/{job.id}", f"fake logs {job.id}")


def end(status: JobStatus, **details: object) -> Callable[[JobRecord], JobUpdate]:
    """Return an answer for ``expect("follow", ...)`` and ``expect("stop", ...)``: the job ends in that state."""
    return lambda job: JobUpdate(status, fake_details(status, {**job.details.raw, **details}) if details else None)


def writes(*lines: bytes, is_stderr: bool = False) -> Callable[[JobRecord], list[OutputLine]]:
    """Return an answer for ``expect("logs", ...)``: the lines that the job wrote."""
    return lambda job: [OutputLine(line, is_stderr) for line in lines]


def polls(**by_status: Sequence[int]) -> Callable[[Sequence[JobRecord]], Mapping[int, JobUpdate | StatusUnavailable]]:
    """Return an answer for ``expect("statuses", ...)``: ``polls(FAILED=[1, 2], unavailable=[3])``."""

    def answer(jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        updates: dict[int, JobUpdate | StatusUnavailable] = {
            job_id: StatusUnavailable("no route") if status == "unavailable" else JobUpdate(JobStatus(status))
            for status, ids in by_status.items()
            for job_id in ids
        }
        assert set(updates) == {job.id for job in jobs}, "other jobs were queried than expected"
        return updates

    return answer


def _check(spec: JsonObject) -> None:
    arguments = spec.get("arguments")
    if set(spec) != {"image", "arguments"} or not isinstance(spec["image"], str) or not isinstance(arguments, list):
        raise PlatformError("malformed-job-spec", "cannot re-run the recorded job", cause=f"found {dict(spec)}")


class FakeEngine:
    """A Docker Engine that builds what the test expects."""

    def __init__(self) -> None:
        self.built: list[BuildSpec] = []
        self.no_cache: list[bool] = []
        self.images: set[ImageRef] = set()
        self._images: deque[ImageRef | CalibanError] = deque()

    def expect(self, *images: ImageRef | CalibanError) -> None:
        self._images.extend(images)

    def build(
        self,
        spec: BuildSpec,
        user: BuildUser,
        reporter: Reporter,
        *,
        no_cache: bool = False,
        observer: Observer | None = None,
    ) -> ImageRef:
        assert user.uid >= 0
        self.built.append(spec)
        self.no_cache.append(no_cache)
        assert self._images, f"unexpected build: {spec}"
        image = self._images.popleft()
        if isinstance(image, CalibanError):
            raise image
        if is_dir(spec.build_path):
            for _ in collect(spec, "", {}).stream(lambda _: None, observer):  # as an engine reads it
                pass
        return image

    def image_exists(self, ref: ImageRef) -> bool:
        return ref in self.images

    def identity(self) -> EngineIdentity:
        return EngineIdentity("a1b2-engine", "catbus")

    def verify(self) -> None:
        assert not self._images, f"builds that were expected and not made: {list(self._images)}"
