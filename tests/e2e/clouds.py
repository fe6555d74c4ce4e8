"""The two services that ``caliban cloud`` submits to, as stand-ins, and what differs between them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from tests.standins.aiplatform_v1 import AiplatformV1
from tests.standins.ml_v1 import MlV1
from tests.standins.training import Runner, TrainingApi

PROJECT = "totoro-project"
OTHER_PROJECT = "zoo-project"
EXPERIMENT = (
    "--xgroup",
    "resubmit_test",
    "--nogpu",
    "--experiment_config",
    "experiment.json",
    "cpu.py",
    "--",
    "--foo",
    "3",
)


class Cloud(ABC):
    """One of the services.

    Attributes:
        flag: the value of ``--platform``.
        display_name: the platform in a listing.
        endpoint: the environment variable that overrides the service's URL.
        create: the API method that creates a job, as faults name it.
        status_methods: the API methods that return states.
        machine: the default machine in a request.
        image_suffix: a pattern of what follows an image's name in a listing.
        failure_reason: what a listing adds to a job whose container failed.
        service: the stand-in.
    """

    flag: ClassVar[str]
    display_name: ClassVar[str]
    endpoint: ClassVar[str]
    create: ClassVar[str]
    status_methods: ClassVar[tuple[str, ...]]
    machine: ClassVar[str]
    image_suffix: ClassVar[str]
    failure_reason: ClassVar[str]
    service: TrainingApi

    def submit(self, *flags: str) -> tuple[str, ...]:
        """Return the arguments that submit the group."""
        return ("cloud", "--platform", self.flag, *flags, *EXPERIMENT)

    def environ(self, key: str) -> Mapping[str, str]:
        """Return the environment variables with which the command uses the service."""
        endpoints = dict.fromkeys((self.endpoint, "CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING"), self.service.url)
        return {**endpoints, "GOOGLE_APPLICATION_CREDENTIALS": key}

    @property
    @abstractmethod
    def job_count(self) -> int:
        """The number of jobs at the service."""

    def normalized(self, out: str, registry: str) -> list[str]:
        """Return standard output with the user document's registry, dates, hashes and ids."""
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2020-05-29 10:53:40", out)
        text = re.sub(
            rf"{registry}/{PROJECT}/[0-9a-f]{{12}}{self.image_suffix}", f"gcr.io/{PROJECT}/cffd1475aaca:latest", text
        )
        text = re.sub(r"(exited with a non-zero status of 1\.) .*\)$", r"\1)", text, flags=re.MULTILINE)  # the log
        text = re.sub(r"job \d ", "job N ", text)  # jobs are submitted concurrently
        text = re.sub(r"caliban_totoro_\d{8}_\d{6}_", "caliban_totoro_20200529_105338_", text)
        return text.splitlines()

    def job_line(self, state: str, number: int, remark: str = "") -> str:
        """Return the user document's line of a job."""
        image = f"container: gcr.io/{PROJECT}/cffd1475aaca:latest"
        name = f"name: caliban_totoro_20200529_105338_{number}"
        return f"job N        {state:9} {self.display_name:>8} 2020-05-29 10:53:40 {image} {name}{remark}"


class AiPlatform(Cloud):
    """AI Platform Training."""

    flag, display_name, endpoint = "caip", "CAIP", "CLOUDSDK_API_ENDPOINT_OVERRIDES_ML"
    create = "ml.projects.jobs.create"
    status_methods = ("ml.projects.jobs.get", "ml.projects.jobs.list")
    machine = '"masterType": "n1-highcpu-32"'
    image_suffix = ":latest"
    failure_reason = " (exit code 1: a coding error)"

    def __init__(self, runner: Runner | None) -> None:
        self.service: MlV1 = MlV1({PROJECT, OTHER_PROJECT}, runner=runner)

    @property
    def job_count(self) -> int:
        return len(self.service.jobs.all())


class VertexAi(Cloud):
    """Vertex AI, whose lists show a new job with a delay."""

    flag, display_name, endpoint = "vertex", "VERTEX", "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"
    create = "aiplatform.projects.locations.customJobs.create"
    status_methods = tuple(f"aiplatform.projects.locations.customJobs.{name}" for name in ("get", "list"))
    machine = '"machineType": "e2-standard-8"'
    image_suffix = "@sha256:[0-9a-f]{12}(?![0-9a-f])"
    failure_reason = " (exit code 1: a coding error)"

    def __init__(self, runner: Runner | None) -> None:
        # a local registry replaces Artifact Registry
        self.service: AiplatformV1 = AiplatformV1({PROJECT, OTHER_PROJECT}, runner=runner, any_registry=True)
        self.service.jobs.lag_s = 1

    @property
    def job_count(self) -> int:
        return len(self.service.jobs.all())


CLOUDS: Mapping[str, type[AiPlatform | VertexAi]] = {"AI Platform": AiPlatform, "Vertex AI": VertexAi}
