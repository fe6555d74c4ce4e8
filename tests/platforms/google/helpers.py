"""What the tests of Google's training services share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from caliban.attempts import Submission
from caliban.clock import Clock
from caliban.errors import ImageError
from caliban.platforms.context import PlatformContext
from caliban.platforms.google.training_platform import TrainingPlatform
from caliban.platforms.retry import RetryPolicy
from caliban.records import Destination, JobRecord
from tests.fakes import FakeClock, RecordingReporter
from tests.standins.google_api import GoogleApi
from tests.standins.training import Quota, TrainingApi

PROJECT, OTHER_PROJECT = "totoro-project", "wonder-project"
TOKEN, OTHER_TOKEN = "0123456789abcdef", "fedcba9876543210"
POLICY = RetryPolicy(connect_timeout=5, read_timeout=5, consistency_delay=10)
"""The timeouts are real; delays pass at once, by the fake clock."""


def no_engine() -> NoReturn:
    raise ImageError("docker-unreachable", "no platform of Google needs a Docker Engine")


def platform_context(
    environ: Mapping[str, str] | None = None,
    *,
    service: GoogleApi | None = None,
    project_id: str | None = None,
    cloud_key: Path | None = None,
    reporter: RecordingReporter | None = None,
    clock: Clock | None = None,
) -> PlatformContext:
    apis = (service.api.upper(), "LOGGING") if service else ()
    endpoint = {f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api}": service.url for api in apis} if service else {}
    return PlatformContext(
        {**endpoint, **(environ or {})},
        Path("/nonexistent"),
        reporter or RecordingReporter(),
        no_engine,
        {"project_id": project_id, "cloud_key": cloud_key},
        clock or FakeClock(),
    )


class Backend(ABC):
    """A training service on loopback, and what its platform calls things.

    Attributes:
        service: the stand-in.
        methods: the start of its methods' ids.
        permissions: the start of its permissions.
        name_key: where the body of a job has its name.
        spec: a recorded job spec.
        bad_spec: one that the service refuses, and how it says so.
        no_image_spec: one without an image.
        image: of ``spec``.
        name: the full name of a job.
        service_name: in messages.
        prefix: of its states.
    """

    service: TrainingApi
    methods: ClassVar[str]
    permissions: ClassVar[str]
    name_key: ClassVar[str]
    spec: ClassVar[dict[str, Any]]
    bad_spec: ClassVar[tuple[dict[str, Any], str]]
    no_image_spec: ClassVar[dict[str, Any]]
    image: ClassVar[str]
    name: ClassVar[str]
    service_name: ClassVar[str]
    prefix: ClassVar[str] = "JOB_STATE_"

    def __init__(self, clock: FakeClock, directory: Path, quota: Quota | None = None) -> None:
        self.clock = clock
        self.reporter = RecordingReporter()
        self._directory = directory
        self.service = self.start(quota)

    @abstractmethod
    def start(self, quota: Quota | None) -> TrainingApi:
        """Create the stand-in."""

    @abstractmethod
    def platform(self, policy: RetryPolicy = POLICY, **changes: Any) -> TrainingPlatform[Any]:
        """Create the platform, in a changed context."""

    @abstractmethod
    def destination(self, project: str = PROJECT) -> Destination:
        """Return where jobs run."""

    @abstractmethod
    def submission(self, name: str | None = None, token: str = TOKEN, project: str = PROJECT) -> Submission:
        """Return a submission of another process, which has ended."""

    @abstractmethod
    def job(self, name: str | None = None, id: int = 1, project: str = PROJECT) -> JobRecord:
        """Return a recorded job that the service does not have."""

    @abstractmethod
    def accept(self, name: str | None = None, id: int = 1, project: str = PROJECT, token: str = "a") -> JobRecord:
        """Let the service have a job, and return it as it is recorded."""

    @abstractmethod
    def set_state(self, job: JobRecord, state: str, error: str = "") -> None:
        """Let a job be in a state of the service: ``RUNNING``."""

    @abstractmethod
    def jobs(self) -> list[tuple[str, str]]:
        """Return the name and the token of each job that the service has."""

    def key(self) -> Path:
        return self.service.write_key_file(self._directory / "key.json")

    def context(self, **changes: Any) -> PlatformContext:
        given = {"service": self.service, "cloud_key": self.key(), "reporter": self.reporter, "clock": self.clock}
        return platform_context(**{**given, **changes})

    def method(self, name: str) -> str:
        return f"{self.methods}.{name}"

    def permission(self, name: str) -> str:
        return f"{self.permissions}.{name}"

    def counts(self, *names: str) -> tuple[int, ...]:
        """Return how many requests of each method were made."""
        return tuple(self.service.counts[self.method(name)] for name in names)

    def accept_many(self, count: int, *, first: int = 1, project: str = PROJECT) -> list[JobRecord]:
        stem = self.name.rpartition("_")[0]
        return [self.accept(f"{stem}_{number}", number, project) for number in range(first, first + count)]
