"""The services that jobs run on, each as the tests of safety use it: the same questions, whatever the service."""

from __future__ import annotations

import builtins
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from tests.standins.aiplatform_v1 import AiplatformV1
from tests.standins.custom_jobs import CustomJob
from tests.standins.jobs import FINAL, Job, Jobs
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.schema import as_json
from tests.standins.kubernetes.status import JOBS, PODS
from tests.standins.ml_v1 import MlV1
from tests.standins.serving import StandIn

PROJECT = "totoro-project"
GROUP = ("--xgroup", "resubmit_test")
CONTEXT, NAMESPACE = "lab", "default"
_IMAGE = f"gcr.io/{PROJECT}/cffd1475aaca:latest"
_FLAGS = ("--nogpu", "--image_tag", _IMAGE, "--experiment_config", "experiment.json")
_WHAT = ("cpu.py", "--", "--foo", "3")

_Self = TypeVar("_Self", bound="Place")


@dataclass(frozen=True)
class JobThere:
    """A job that a service has.

    Attributes:
        token: of the submission that asked for it.
        name: by which the store knows it, too.
        arguments: of its container, ``--foo 3 --sleep 0``.
        state: in caliban's words.
    """

    token: str
    name: str
    arguments: str
    state: str


class Place(AbstractContextManager["Place"], ABC):
    """One service, by its stand-in.

    Attributes:
        create, get, list: the methods that take a job and tell of jobs, as faults name them.
        look_up: which of them is asked after an answer was lost.
        service: the stand-in, for its faults and requests.
    """

    create: ClassVar[str]
    get: ClassVar[str]
    list: ClassVar[str]
    look_up: ClassVar[str]

    @property
    @abstractmethod
    def service(self) -> StandIn: ...

    def method(self, role: str) -> str:
        """The method that is meant by ``create``, ``get``, ``list``, ``look_up`` or ``token``, or any by ``*``."""
        return {"token": "oauth.token", "*": "*"}.get(role) or str(getattr(self, role))

    @abstractmethod
    def environ(self, folder: Path) -> Mapping[str, str]:
        """What a person who uses the service has in their environment; files that it names go into ``folder``."""

    @abstractmethod
    def command(self) -> tuple[str, ...]:
        """Submit the group, with an image that is there already, so that nothing is built."""

    @abstractmethod
    def jobs(self) -> builtins.list[JobThere]:
        """What the service has."""

    @abstractmethod
    def name_in(self, details: Mapping[str, Any]) -> str:
        """The name of a job in what the store knows of it (``jobs.details``)."""

    @abstractmethod
    def set_state(self, name: str, state: str) -> None:
        """Let a job be RUNNING, SUCCEEDED, FAILED or STOPPED from now on."""

    @abstractmethod
    def snapshot(self) -> Sequence[Any]:
        """All that the service has, for :meth:`restore`."""

    @abstractmethod
    def restore(self, snapshot: Sequence[Any]) -> None:
        """Let the service have these jobs and no others."""

    def end_jobs(self, state: str) -> None:
        """Let every job end like this, those that have not."""
        for job in self.jobs():
            if job.state not in ("SUCCEEDED", "FAILED", "STOPPED"):
                self.set_state(job.name, state)

    def __enter__(self: _Self) -> _Self:
        self.service.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.service.__exit__(kind, error, at)


class AiPlatform(Place):
    """AI Platform Training; a job that nobody ends stays QUEUED."""

    create, get, list = (f"ml.projects.jobs.{name}" for name in ("create", "get", "list"))
    look_up = get

    def __init__(self) -> None:
        self._ml = MlV1({PROJECT})

    @property
    def service(self) -> MlV1:
        return self._ml

    def environ(self, folder: Path) -> Mapping[str, str]:
        key = self._ml.write_key_file(folder / "key.json")
        return {"CLOUDSDK_API_ENDPOINT_OVERRIDES_ML": self._ml.url, "GOOGLE_APPLICATION_CREDENTIALS": str(key)}

    def command(self) -> tuple[str, ...]:
        return ("cloud", "--platform", "caip", *GROUP, *_FLAGS, *_WHAT)

    def jobs(self) -> builtins.list[JobThere]:
        return [_caip_job(job) for job in self._ml.jobs.all()]

    def name_in(self, details: Mapping[str, Any]) -> str:
        return str(details["jobId"])

    def set_state(self, name: str, state: str) -> None:
        self._ml.jobs.set_state(name, {"STOPPED": "CANCELLED"}.get(state, state))

    def snapshot(self) -> Sequence[Any]:
        return [(job.body, job.state) for job in self._ml.jobs.all()]

    def restore(self, snapshot: Sequence[Any]) -> None:
        self._ml.jobs = Jobs()
        for body, state in snapshot:
            self._ml.jobs.create(PROJECT, body)
            self._ml.jobs.set_state(body["jobId"], state)

    def tell(self, on_accept: Callable[[JobThere], None]) -> None:
        """Let ``on_accept`` hear of each job that is accepted from now on, until the next :meth:`restore`."""
        self._ml.jobs.on_accept = lambda job: on_accept(_caip_job(job))


class VertexAi(Place):
    """Vertex AI, whose lists show a job only ``LAG_S`` after it was accepted; a job that nobody ends stays PENDING."""

    LAG_S = 0.1

    create, get, list = (f"aiplatform.projects.locations.customJobs.{name}" for name in ("create", "get", "list"))
    look_up = "aiplatform.projects.locations.customJobs.list"

    def __init__(self) -> None:
        self._ai = AiplatformV1({PROJECT})
        self.restore([])

    @property
    def service(self) -> AiplatformV1:
        return self._ai

    def environ(self, folder: Path) -> Mapping[str, str]:
        key = self._ai.write_key_file(folder / "key.json")
        return {"CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": self._ai.url, "GOOGLE_APPLICATION_CREDENTIALS": str(key)}

    def command(self) -> tuple[str, ...]:
        return ("cloud", "--platform", "vertex", *GROUP, *_FLAGS, *_WHAT)

    def jobs(self) -> builtins.list[JobThere]:
        return [_vertex_job(job) for job in self._ai.jobs.all()]

    def name_in(self, details: Mapping[str, Any]) -> str:
        return str(details["name"])

    def set_state(self, name: str, state: str) -> None:
        self._ai.jobs.set_state(name, f"JOB_STATE_{'CANCELLED' if state == 'STOPPED' else state}")

    def snapshot(self) -> Sequence[CustomJob]:
        return [replace(job, outputs=dict(job.outputs)) for job in self._ai.jobs.all()]

    def restore(self, snapshot: Sequence[CustomJob]) -> None:
        self._ai.forget_all()
        self._ai.jobs.lag_s = self.LAG_S
        for job in snapshot:
            self._ai.jobs.restore(job)


class Kubernetes(Place):
    """A cluster that a kubeconfig names; a job that nobody starts waits."""

    create, get, list = "jobs.create", "jobs.get", "jobs.list"
    look_up = get

    def __init__(self) -> None:
        self._cluster = KubeApi(namespaces={NAMESPACE})

    @property
    def service(self) -> KubeApi:
        return self._cluster

    def environ(self, folder: Path) -> Mapping[str, str]:
        return {"KUBECONFIG": str(self._cluster.write_kubeconfig(folder / "kubeconfig", CONTEXT))}

    def command(self) -> tuple[str, ...]:
        where = ("--context", CONTEXT, "--namespace", NAMESPACE)
        return ("cluster", "job", "submit", *where, *GROUP, *_FLAGS, *_WHAT)

    def jobs(self) -> builtins.list[JobThere]:
        return [_cluster_job(job) for job in self._cluster.state.items(JOBS, NAMESPACE)]

    def name_in(self, details: Mapping[str, Any]) -> str:
        return str(details["job"]["metadata"]["name"])

    def set_state(self, name: str, state: str) -> None:
        if state == "STOPPED":
            self._cluster.state.remove(JOBS, NAMESPACE, name)
            return
        self._cluster.jobs.start(name, NAMESPACE)
        if state == "FAILED":
            self._cluster.jobs.fail(name, namespace=NAMESPACE)
        elif state == "SUCCEEDED":
            self._cluster.jobs.succeed(name, NAMESPACE)

    def snapshot(self) -> Sequence[Any]:
        state = self._cluster.state
        return [(resource, item) for resource in (JOBS, PODS) for item in state.items(resource, NAMESPACE)]

    def restore(self, snapshot: Sequence[Any]) -> None:
        state = self._cluster.state
        for resource, item in self.snapshot():
            state.remove(resource, NAMESPACE, item["metadata"]["name"])
        for resource, item in snapshot:
            state.add(resource, as_json(item))


def _caip_job(job: Job) -> JobThere:
    state = job.state if job.state in FINAL else "RUNNING" if job.state in ("RUNNING", "CANCELLING") else "SUBMITTED"
    arguments = " ".join(job.body["trainingInput"]["args"])
    return JobThere(
        str(job.body["labels"]["caliban_token"]), job.id, arguments, {"CANCELLED": "STOPPED"}.get(state, state)
    )


def _vertex_job(job: CustomJob) -> JobThere:
    state = job.state.removeprefix("JOB_STATE_")
    ours = {"PENDING": "SUBMITTED", "CANCELLED": "STOPPED", "CANCELLING": "RUNNING"}.get(state, state)
    return JobThere(job.labels["caliban_token"], job.name, " ".join(job.arguments), ours)


def _cluster_job(job: Mapping[str, Any]) -> JobThere:
    ended = {one["type"] for one in job["status"].get("conditions", []) if one["status"] == "True"}
    state = "RUNNING" if job["status"].get("active") else "SUBMITTED"
    state = "FAILED" if "Failed" in ended else "SUCCEEDED" if "Complete" in ended else state
    arguments = " ".join(job["spec"]["template"]["spec"]["containers"][0]["args"])
    return JobThere(job["metadata"]["labels"]["caliban.token"], job["metadata"]["name"], arguments, state)


PLACES: Mapping[str, type[Place]] = {"AI Platform": AiPlatform, "Vertex AI": VertexAi, "Kubernetes": Kubernetes}
"""Every service, by its name."""
