"""CAIP and VERTEX, with the stand-ins of their services."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from caliban.platforms.caip.launch import LAUNCHER as CAIP_LAUNCHER
from caliban.platforms.caip.platform import CaipPlatform
from caliban.platforms.vertex.launch import LAUNCHER as VERTEX_LAUNCHER
from caliban.platforms.vertex.platform import VertexPlatform
from caliban.records import JobRecord
from tests.fakes import FakeClock
from tests.platforms.contract.case import ContractCase
from tests.standins.aiplatform_v1 import AiplatformV1
from tests.standins.faults import Fault
from tests.standins.ml_v1 import MlV1

PROJECT = "totoro-project"
FOREVER = 1_000_000
_RETENTION_S = 31 * 86400.0
_FAILURE = "The replica master 0 exited with a non-zero status of 1. Termination reason: Error."


class TrainingCase(ContractCase):
    """What both services have in common."""

    images = (f"gcr.io/{PROJECT}/cffd1475aaca:latest", f"gcr.io/{PROJECT}/81b2087b5026:latest")
    methods: ClassVar[str]
    permissions: ClassVar[str]
    prefix: ClassVar[str]
    jobs: MlV1 | AiplatformV1

    @abstractmethod
    def make_api(self) -> MlV1 | AiplatformV1:
        """Create the stand-in."""

    @contextmanager
    def service(self) -> Iterator[None]:
        with self.make_api() as self.api:
            key = self.api.write_key_file(self.directory / "key.json")
            apis = (self.api.api.upper(), "LOGGING")
            self.environ = {f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api}": self.api.url for api in apis}
            self.flags = ("--nogpu", "--project_id", PROJECT, "--cloud_key", str(key))
            yield

    def started(self) -> int:
        return len(self.api.jobs.all())

    def requests(self) -> int:
        return self.api.counts.total() - self.api.counts["oauth.token"]

    def lose_answer(self) -> None:
        self.api.faults.add(Fault(f"{self.methods}.create", "drop"))

    def refuse(self) -> None:
        self.api.forbidden.add(f"{self.permissions}.create")

    def disconnect(self) -> None:
        self.api.faults.add(Fault("*", "refuse", FOREVER))

    def throttle(self) -> None:
        self.api.faults.add(Fault(f"{self.methods}.create", "status", FOREVER, status=429))

    def end(self, job: JobRecord, *, succeeded: bool) -> None:
        name = str(job.details.id)
        if succeeded:
            self.api.jobs.set_state(name, f"{self.prefix}SUCCEEDED")
        else:
            self.api.jobs.set_state(name, f"{self.prefix}FAILED", _FAILURE)

    def remove(self, job: JobRecord) -> None:
        self.api.jobs.forget(str(job.details.id))

    def write(self, job: JobRecord, data: bytes) -> None:
        for line in data.decode().splitlines():
            self.api.logging.write(self._number(job), line)

    def forget_output(self, job: JobRecord) -> None:
        self.api.logging.forget(self._number(job))
        ended = job.details.ended
        assert ended is not None
        assert isinstance(self.clock, FakeClock)
        self.clock.seconds += (ended - self.clock.utc_now()).total_seconds() + _RETENTION_S

    @staticmethod
    def _number(job: JobRecord) -> str:
        return str(job.details.id).rpartition("/")[2]

    def finish_stopping(self) -> None:
        for job in self.api.jobs.all():
            if job.state == f"{self.prefix}CANCELLING":
                self.api.jobs.move(job, "CANCELLED")  # type: ignore[arg-type]


class CaipCase(TrainingCase):
    platform_class = CaipPlatform
    launcher = CAIP_LAUNCHER
    methods = "ml.projects.jobs"
    permissions = "ml.jobs"
    prefix = ""

    def make_api(self) -> MlV1:
        return MlV1([PROJECT], clock=self.clock)


class VertexCase(TrainingCase):
    platform_class = VertexPlatform
    launcher = VERTEX_LAUNCHER
    methods = "aiplatform.projects.locations.customJobs"
    permissions = "aiplatform.customJobs"
    prefix = "JOB_STATE_"

    def make_api(self) -> AiplatformV1:
        return AiplatformV1([PROJECT], clock=self.clock)
