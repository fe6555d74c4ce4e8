"""The services that jobs run on, as stand-ins with a common interface."""

from __future__ import annotations

import builtins
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from tests.standins.aiplatform_v1 import AiplatformV1
from tests.standins.custom_jobs import CustomJob
from tests.standins.jobs import FINAL, Job, Jobs
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.schema import as_json
from tests.standins.kubernetes.status import JOBS, NAMESPACES, PODS, Resource
from tests.standins.ml_v1 import MlV1
from tests.standins.serving import StandIn

PROJECT = "totoro-project"
GROUP = ("--xgroup", "resubmit_test")
CONTEXT, NAMESPACE = "lab", "default"
_IMAGE = f"gcr.io/{PROJECT}/cffd1475aaca:latest"
_FLAGS = ("--nogpu", "--image_tag", _IMAGE, "--experiment_config", "experiment.json")
_WHAT = ("cpu.py", "--", "--foo", "3")

_Self = TypeVar("_Self", bound="Service")


@dataclass(frozen=True)
class ServiceJob:
    """A job at a service.

    Attributes:
        token: of its submission.
        name: its name, which the store records.
        arguments: of its container, ``--foo 3 --sleep 0``.
        state: a value of :class:`caliban.records.JobStatus`.
    """

    token: str
    name: str
    arguments: str
    state: str


class Service(AbstractContextManager["Service"], ABC):
    """One service.

    Attributes:
        create, get, list: the API methods for jobs, as faults name them.
        look_up: the method that is called after a lost response.
        ends: the state in which a job ends as soon as it is accepted, by how many jobs its experiment then has.
        stand_in: the stand-in, for its faults and requests.
    """

    create: ClassVar[str]
    get: ClassVar[str]
    list: ClassVar[str]
    look_up: ClassVar[str]
    ends: Mapping[int, str] = {}

    @property
    @abstractmethod
    def stand_in(self) -> StandIn: ...

    def method(self, role: str) -> str:
        """Return the API method of a role: ``create``, ``get``, ``list``, ``look_up``, ``token``, or ``*`` for any."""
        return {"token": "oauth.token", "*": "*"}.get(role) or str(getattr(self, role))

    @abstractmethod
    def environ(self, directory: Path) -> Mapping[str, str]:
        """Return the environment variables of a user; files that they name are written to ``directory``."""

    @abstractmethod
    def command(self) -> tuple[str, ...]:
        """Return the command that submits the group, with an existing image, so that nothing is built."""

    @abstractmethod
    def jobs(self) -> builtins.list[ServiceJob]:
        """Return the jobs at the service."""

    @abstractmethod
    def job_name(self, details: Mapping[str, Any]) -> str:
        """Return the name of a job in its recorded details (``jobs.details``)."""

    @abstractmethod
    def set_state(self, name: str, state: str) -> None:
        """Set the state of a job: RUNNING, SUCCEEDED, FAILED or STOPPED."""

    @abstractmethod
    def snapshot(self) -> Sequence[Any]:
        """Return all jobs at the service, for :meth:`restore`."""

    @abstractmethod
    def restore(self, snapshot: Sequence[Any]) -> None:
        """Replace the jobs at the service."""

    def accepted(self, job: ServiceJob) -> None:
        """End a job that was just accepted, where ``ends`` says so."""
        state = self.ends.get(sum(other.arguments == job.arguments for other in self.jobs()))
        if state is not None:
            self.set_state(job.name, state)

    def end_jobs(self, state: str) -> None:
        """End all unfinished jobs in this state."""
        for job in self.jobs():
            if job.state not in ("SUCCEEDED", "FAILED", "STOPPED"):
                self.set_state(job.name, state)

    def __enter__(self: _Self) -> _Self:
        self.stand_in.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stand_in.__exit__(kind, error, at)


class AiPlatform(Service):
    """AI Platform Training; a job stays QUEUED until a test ends it."""

    create, get, list = (f"ml.projects.jobs.{name}" for name in ("create", "get", "list"))
    look_up = get

    def __init__(self) -> None:
        self._ml = MlV1({PROJECT})
        self.on_accept(self.accepted)

    @property
    def stand_in(self) -> MlV1:
        return self._ml

    def environ(self, directory: Path) -> Mapping[str, str]:
        key = self._ml.write_key_file(directory / "key.json")
        return {"CLOUDSDK_API_ENDPOINT_OVERRIDES_ML": self._ml.url, "GOOGLE_APPLICATION_CREDENTIALS": str(key)}

    def command(self) -> tuple[str, ...]:
        return ("cloud", "--platform", "caip", *GROUP, *_FLAGS, *_WHAT)

    def jobs(self) -> builtins.list[ServiceJob]:
        return [_caip_job(job) for job in self._ml.jobs.all()]

    def job_name(self, details: Mapping[str, Any]) -> str:
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
        self.on_accept(self.accepted)

    def on_accept(self, callback: Callable[[ServiceJob], None]) -> None:
        """Call ``callback`` for each job that is accepted, until the next :meth:`restore`."""
        self._ml.jobs.on_accept = lambda job: callback(_caip_job(job))


class VertexAi(Service):
    """Vertex AI, which omits a new job from the first list; a job stays PENDING until a test ends it."""

    create, get, list = (f"aiplatform.projects.locations.customJobs.{name}" for name in ("create", "get", "list"))
    look_up = "aiplatform.projects.locations.customJobs.list"

    def __init__(self) -> None:
        self._ai = AiplatformV1({PROJECT})
        self.restore([])

    @property
    def stand_in(self) -> AiplatformV1:
        return self._ai

    def environ(self, directory: Path) -> Mapping[str, str]:
        key = self._ai.write_key_file(directory / "key.json")
        return {"CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": self._ai.url, "GOOGLE_APPLICATION_CREDENTIALS": str(key)}

    def command(self) -> tuple[str, ...]:
        return ("cloud", "--platform", "vertex", *GROUP, *_FLAGS, *_WHAT)

    def jobs(self) -> builtins.list[ServiceJob]:
        return [_vertex_job(job) for job in self._ai.jobs.all()]

    def job_name(self, details: Mapping[str, Any]) -> str:
        return str(details["name"])

    def set_state(self, name: str, state: str) -> None:
        self._ai.jobs.set_state(name, f"JOB_STATE_{'CANCELLED' if state == 'STOPPED' else state}")

    def snapshot(self) -> Sequence[Any]:
        jobs = self._ai.jobs.all()
        return [(job.project, job.location, job.id, job.name, job.body, dict(job.outputs)) for job in jobs]

    def restore(self, snapshot: Sequence[Any]) -> None:
        self._ai.forget_all()
        self._ai.jobs.hidden_lists = 1
        self._ai.jobs.on_accept = lambda job: self.accepted(_vertex_job(job))
        for project, location, job_id, name, body, outputs in snapshot:
            self._ai.jobs.restore(CustomJob(project, location, job_id, name, body, 0, outputs))


class Kubernetes(Service):
    """A cluster of a kubeconfig; a job stays queued until a test starts it."""

    create, get, list = "jobs.create", "jobs.get", "jobs.list"
    look_up = get

    def __init__(self) -> None:
        self._cluster = KubeApi(namespaces={NAMESPACE})
        # a snapshot is restored into the stand-in of another test, which is the same cluster
        with self._cluster.state.change(NAMESPACES, "", "kube-system") as system:
            system["metadata"]["uid"] = "5f0e05d8-c655-4213-bd6e-8b9dab4425b6"
        self._keep = self._cluster.state.add
        self._cluster.state.add = self._keep_new  # type: ignore[method-assign]  # called for what is requested

    def _keep_new(self, resource: Resource, item: dict[str, Any]) -> dict[str, Any]:
        kept = self._keep(resource, item)
        if resource is JOBS:
            self.accepted(_cluster_job({"status": {}, **kept}))
        return kept

    @property
    def stand_in(self) -> KubeApi:
        return self._cluster

    def environ(self, directory: Path) -> Mapping[str, str]:
        return {"KUBECONFIG": str(self._cluster.write_kubeconfig(directory / "kubeconfig", CONTEXT))}

    def command(self) -> tuple[str, ...]:
        where = ("--context", CONTEXT, "--namespace", NAMESPACE)
        return ("cluster", "job", "submit", *where, *GROUP, *_FLAGS, *_WHAT)

    def jobs(self) -> builtins.list[ServiceJob]:
        return [_cluster_job(job) for job in self._cluster.state.items(JOBS, NAMESPACE)]

    def job_name(self, details: Mapping[str, Any]) -> str:
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
        """Return all jobs and pods, and the namespace that identifies the cluster."""
        state = self._cluster.state
        system = (NAMESPACES, state.get(NAMESPACES, "", "kube-system"))
        return [system, *((resource, item) for resource in (JOBS, PODS) for item in state.items(resource, NAMESPACE))]

    def restore(self, snapshot: Sequence[Any]) -> None:
        state = self._cluster.state
        for resource in (JOBS, PODS):
            for item in state.items(resource, NAMESPACE):
                state.remove(resource, NAMESPACE, item["metadata"]["name"])
        for resource, item in snapshot:
            if resource is NAMESPACES:
                state.remove(resource, "", item["metadata"]["name"])
            self._keep(resource, as_json(item))


def _caip_job(job: Job) -> ServiceJob:
    state = job.state if job.state in FINAL else "RUNNING" if job.state in ("RUNNING", "CANCELLING") else "SUBMITTED"
    arguments = " ".join(job.body["trainingInput"]["args"])
    return ServiceJob(
        str(job.body["labels"]["caliban_token"]), job.id, arguments, {"CANCELLED": "STOPPED"}.get(state, state)
    )


def _vertex_job(job: CustomJob) -> ServiceJob:
    state = job.state.removeprefix("JOB_STATE_")
    ours = {"PENDING": "SUBMITTED", "CANCELLED": "STOPPED", "CANCELLING": "RUNNING"}.get(state, state)
    return ServiceJob(job.labels["caliban_token"], job.name, " ".join(job.arguments), ours)


def _cluster_job(job: Mapping[str, Any]) -> ServiceJob:
    ended = {one["type"] for one in job["status"].get("conditions", []) if one["status"] == "True"}
    state = "RUNNING" if job["status"].get("active") else "SUBMITTED"
    state = "FAILED" if "Failed" in ended else "SUCCEEDED" if "Complete" in ended else state
    arguments = " ".join(job["spec"]["template"]["spec"]["containers"][0]["args"])
    return ServiceJob(job["metadata"]["labels"]["caliban.token"], job["metadata"]["name"], arguments, state)


SERVICES: Mapping[str, type[Service]] = {"AI Platform": AiPlatform, "Vertex AI": VertexAi, "Kubernetes": Kubernetes}
"""The services, by name."""
