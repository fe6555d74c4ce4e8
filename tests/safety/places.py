"""The services that jobs run on, each as the tests of safety use it: the same questions, whatever the service."""

from __future__ import annotations

import builtins
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from tests.standins.jobs import FINAL, Job, Jobs
from tests.standins.ml_v1 import MlV1
from tests.standins.serving import StandIn

PROJECT = "totoro-project"
GROUP = ("--xgroup", "resubmit_test")

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
        """What the service has, in the order in which it was accepted."""

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
    def restore(self, snapshot: Sequence[Any], on_accept: Callable[[JobThere], None] = lambda job: None) -> None:
        """Let the service have these jobs and no others; ``on_accept`` is told of each that it accepts after that."""

    @abstractmethod
    def accept_first(self) -> None:
        """Let the service have the first of the jobs that it was asked for and did not take."""

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
        image = f"gcr.io/{PROJECT}/cffd1475aaca:latest"
        flags = ("--nogpu", "--image_tag", image, "--experiment_config", "experiment.json")
        return ("cloud", "--platform", "caip", *GROUP, *flags, "cpu.py", "--", "--foo", "3")

    def jobs(self) -> builtins.list[JobThere]:
        return [_caip_job(job) for job in self._ml.jobs.all()]

    def name_in(self, details: Mapping[str, Any]) -> str:
        return str(details["jobId"])

    def set_state(self, name: str, state: str) -> None:
        self._ml.jobs.set_state(name, {"STOPPED": "CANCELLED"}.get(state, state))

    def snapshot(self) -> Sequence[Any]:
        return [(job.body, job.state) for job in self._ml.jobs.all()]

    def restore(self, snapshot: Sequence[Any], on_accept: Callable[[JobThere], None] = lambda job: None) -> None:
        self._ml.jobs = Jobs()
        for body, state in snapshot:
            self._ml.jobs.create(PROJECT, body)
            self._ml.jobs.set_state(body["jobId"], state)
        self._ml.jobs.on_accept = lambda job: on_accept(_caip_job(job))

    def accept_first(self) -> None:
        self._ml.jobs.create(PROJECT, self._ml.bodies(self.create)[0])


def _caip_job(job: Job) -> JobThere:
    state = job.state if job.state in FINAL else "RUNNING" if job.state in ("RUNNING", "CANCELLING") else "SUBMITTED"
    arguments = " ".join(job.body["trainingInput"]["args"])
    return JobThere(
        str(job.body["labels"]["caliban_token"]), job.id, arguments, {"CANCELLED": "STOPPED"}.get(state, state)
    )


PLACES: Mapping[str, type[Place]] = {"AI Platform": AiPlatform}
"""Every service, by its name."""
