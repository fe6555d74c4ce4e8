"""The two services that ``caliban cloud`` submits to, each by its stand-in: what is worded differently for each."""

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
WHAT = ("--xgroup", "resubmit_test", "--nogpu", "--experiment_config", "experiment.json", "cpu.py", "--", "--foo", "3")


class Cloud(ABC):
    """One of the services, as a researcher uses it.

    Attributes:
        flag: of ``--platform``.
        word: what a listing calls it.
        endpoint: the variable by which the command finds it.
        create: the method that takes a job, as faults name it.
        observe: those by which states are asked for.
        machine: what a request says of it, where none is asked for.
        which: what a listing has behind an image's name, as a pattern.
        why_failed: what a listing adds to a job whose container failed.
        service: the stand-in.
    """

    flag: ClassVar[str]
    word: ClassVar[str]
    endpoint: ClassVar[str]
    create: ClassVar[str]
    observe: ClassVar[tuple[str, ...]]
    machine: ClassVar[str]
    which: ClassVar[str]
    why_failed: ClassVar[str]
    service: TrainingApi

    def submit(self, *flags: str) -> tuple[str, ...]:
        """The command line."""
        return ("cloud", "--platform", self.flag, *flags, *WHAT)

    def environ(self, key: str) -> Mapping[str, str]:
        """What the command needs to find the service."""
        return {self.endpoint: self.service.url, "GOOGLE_APPLICATION_CREDENTIALS": key}

    @property
    @abstractmethod
    def job_count(self) -> int:
        """How many jobs the service has."""

    def in_the_words_of_the_document(self, out: str, registry: str) -> list[str]:
        """Standard output with the document's registry, dates, hashes and ids in place of the real ones."""
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2020-05-29 10:53:40", out)
        text = re.sub(
            rf"{registry}/{PROJECT}/[0-9a-f]{{12}}{self.which}", f"gcr.io/{PROJECT}/cffd1475aaca:latest", text
        )
        text = re.sub(r"job \d ", "job N ", text)  # several are submitted at a time
        text = re.sub(r"caliban_totoro_\d{8}_\d{6}_", "caliban_totoro_20200529_105338_", text)
        return text.splitlines()

    def line(self, state: str, number: int, remark: str = "") -> str:
        """The document's line of a job."""
        image = f"container: gcr.io/{PROJECT}/cffd1475aaca:latest"
        name = f"name: caliban_totoro_20200529_105338_{number}"
        return f"job N        {state:9} {self.word:>8} 2020-05-29 10:53:40 {image} {name}{remark}"


class AiPlatform(Cloud):
    """AI Platform Training."""

    flag, word, endpoint = "caip", "CAIP", "CLOUDSDK_API_ENDPOINT_OVERRIDES_ML"
    create = "ml.projects.jobs.create"
    observe = ("ml.projects.jobs.get", "ml.projects.jobs.list")
    machine = '"masterType": "n1-highcpu-32"'
    which = ":latest"
    why_failed = ""

    def __init__(self, runner: Runner | None) -> None:
        self.service: MlV1 = MlV1({PROJECT, OTHER_PROJECT}, runner=runner)

    @property
    def job_count(self) -> int:
        return len(self.service.jobs.all())


class VertexAi(Cloud):
    """Vertex AI, which shows a new job in its lists a little later."""

    flag, word, endpoint = "vertex", "VERTEX", "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"
    create = "aiplatform.projects.locations.customJobs.create"
    observe = tuple(f"aiplatform.projects.locations.customJobs.{name}" for name in ("get", "list"))
    machine = '"machineType": "e2-standard-8"'
    which = "@sha256:[0-9a-f]{12}(?![0-9a-f])"
    why_failed = " (The replica workerpool0-0 exited with a non-zero status of 1.)"

    def __init__(self, runner: Runner | None) -> None:
        # A test's own registry is in the place of Artifact Registry.
        self.service: AiplatformV1 = AiplatformV1({PROJECT, OTHER_PROJECT}, runner=runner, any_registry=True)
        self.service.jobs.lag_s = 1

    @property
    def job_count(self) -> int:
        return len(self.service.jobs.all())


CLOUDS: Mapping[str, type[AiPlatform | VertexAi]] = {"AI Platform": AiPlatform, "Vertex AI": VertexAi}
