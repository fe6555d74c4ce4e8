"""A fake platform with its registry, and variants of it that can do more.

They are strict: a call that the test did not expect fails the test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from caliban.attempts import Submission
from caliban.config import ProjectConfig
from caliban.errors import CalibanError, ImageError, PlatformError
from caliban.images.registry.push import Registry
from caliban.platforms.base import (
    ForegroundPlatform,
    KillsJobs,
    LogRequest,
    LogSource,
    MaySend,
    Platform,
    RemotePlatform,
    RemovesJobs,
)
from caliban.platforms.context import PlatformContext
from caliban.platforms.resources import ChangedResources, ChangesResources, ResourceRequest, Settings
from caliban.records import (
    Destination,
    ImageRef,
    JobDetails,
    JobRecord,
    JobStatus,
    JobUpdate,
    JsonObject,
    NewJob,
    OutputLine,
    PlatformId,
    StatusUnavailable,
)
from tests.fake_service import FakeDestination, FakeService, fake_details


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
