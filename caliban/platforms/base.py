"""What caliban asks of every place where jobs run, and the table of those places.

A platform is given job specs in the shape that it records (``job_specs.spec``), and is the only one to look inside
them. What only some platforms can do is a capability: a small class of its own, asked for by ``isinstance``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING

from caliban.errors import PlatformError
from caliban.records import ImageRef, JobRecord, JobStatus, JsonObject, NewJob, PlatformName, Submission
from caliban.reporter import Reporter

if TYPE_CHECKING:
    from caliban.images.docker.engine import Engine

TOKEN_LABEL = "caliban.token"
"""The label that carries the submission's token where labels may have dots (Docker, Kubernetes)."""

EXPERIMENT_LABEL = "caliban.experiment"
"""The label that carries ``experiments.id``, likewise."""

GROUP_LABEL = "caliban.group"
"""The label that carries the experiment group's name, likewise."""


@dataclass(frozen=True)
class JobUpdate:
    """What a platform said of a job just now.

    Attributes:
        status: its state.
        details: what is to be recorded as ``jobs.details``; None where nothing new was learnt.
    """

    status: JobStatus
    details: JsonObject | None = None


@dataclass(frozen=True)
class StatusUnavailable:
    """A job whose state could not be learnt just now. It keeps its last known one and is asked again next time."""

    reason: str


@dataclass(frozen=True)
class PlatformContext:
    """What a platform may need of the process that it works for.

    Attributes:
        environ: the environment variables.
        home: the user's home folder.
        reporter: where to tell what is going on.
        engine: connects to the Docker Engine, once; raises :class:`~caliban.errors.ImageError`.
        project_id: ``--project_id``, or None.
        cloud_key: ``--cloud_key``, or None.
        stopping: set once the person wants to stop; whoever waits for something that may take minutes stops waiting.
    """

    environ: Mapping[str, str] = field(repr=False)
    home: Path
    reporter: Reporter
    engine: Callable[[], Engine]
    project_id: str | None = None
    cloud_key: Path | None = None
    stopping: Event = field(default_factory=Event)
    _announced: set[str] = field(default_factory=set, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def announce(self, line: str) -> None:
        """Say a line once, however many jobs and threads have reason to."""
        with self._lock:
            is_new = line not in self._announced
            self._announced.add(line)
        if is_new:
            self.reporter.info(line)


class RefusedError(PlatformError):
    """The platform said no, and for certain runs nothing: the job is recorded as FAILED with the reason.

    Any other error of :meth:`Platform.submit` leaves doubt; the journal row then stays open, and is looked up by its
    token the next time.

    Attributes:
        details: what is recorded as ``jobs.details`` of the failed job.
    """

    def __init__(
        self, id: str, message: str, *, cause: str | None = None, hint: str | None = None, details: JsonObject
    ) -> None:
        super().__init__(id, message, cause=cause, hint=hint)
        self.details = details


class ServiceRetiredError(PlatformError):
    """The service that a platform stands for is no more. What its jobs were is recorded, and a successor runs them.

    Attributes:
        successor: the name in :data:`caliban.config.SUCCESSORS` of the platform that takes its jobs over.
        is_certain: whether the service said so itself.
    """

    def __init__(
        self,
        id: str,
        message: str,
        *,
        cause: str | None = None,
        hint: str | None = None,
        successor: str,
        is_certain: bool,
    ) -> None:
        super().__init__(id, message, cause=cause, hint=hint)
        self.successor = successor
        self.is_certain = is_certain


class NotSentError(PlatformError):
    """The person wants to stop, and nothing was sent: as if the job had never been begun."""


class Platform(ABC):
    """A place where jobs run."""

    name: PlatformName

    def __init__(self, platform_context: PlatformContext) -> None:
        self.context = platform_context

    def connect(self, target: JsonObject) -> None:  # noqa: B027 - a platform that is always there has nothing to do
        """Learn whether a place on the platform can be reached, before anything is built or written down.

        Args:
            target: see :meth:`target`.

        Raises:
            CalibanError: it cannot.
        """

    @abstractmethod
    def statuses(self, jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        """The present state of each of ``jobs``, by ``jobs.id``, in as few calls as the platform allows.

        Never raises for a platform that cannot be reached: its jobs are :class:`StatusUnavailable`, with the reason.
        """

    @abstractmethod
    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        """``spec``, running ``image`` instead of the one that it names.

        Raises:
            PlatformError: ``malformed-job-spec``, when the spec is not one of this platform's.
        """

    @abstractmethod
    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        """``spec``, a sibling's, running ``image`` with ``arguments``: for an experiment that has no spec of its own.

        Raises:
            PlatformError: ``malformed-job-spec``, when the spec is not one of this platform's.
        """

    @abstractmethod
    def target(self, latest: JobRecord | None) -> JsonObject:
        """Where on this platform a new attempt goes, given the last one: ``{"project": ...}``; ``{}`` for one place."""

    def check_registry(self, registry: str | None) -> None:  # noqa: B027 - not all platforms need one
        """Learn before an image is built whether there is a registry to bring it to. Nobody is asked.

        Args:
            registry: ``registry`` of the project's ``.calibanconfig.json``, or None.

        Raises:
            CalibanError: there is none.
        """

    def reach_registry(self, registry: str | None, target: JsonObject) -> None:  # noqa: B027 - as above
        """Ask before an image is built whether the registry will take it, where that can be known beforehand.

        Args:
            registry: ``registry`` of the project's ``.calibanconfig.json``, or None.
            target: see :meth:`target`.

        Raises:
            CalibanError: it will not.
        """

    def publish(self, image: ImageRef, registry: str | None, target: JsonObject) -> ImageRef:
        """Bring an image that was built here to where jobs run.

        Args:
            image: the image's id on this machine.
            registry: ``registry`` of the project's ``.calibanconfig.json``, or None.
            target: see :meth:`target`.

        Returns:
            What jobs call it there; on this machine, its id.

        Raises:
            CalibanError: it could not be brought there.
        """
        return image

    @abstractmethod
    def job_name(self, spec: JsonObject, token: str) -> str:
        """The name to ask for, for a submission that carries ``token``."""

    @abstractmethod
    def submit(self, spec: JsonObject, submission: Submission) -> NewJob:
        """Start the job. Safe to call twice with one token: the second call adopts what the first one started.

        Raises:
            RefusedError: nothing was started and nothing will be.
            NotSentError: nothing was started, since ``PlatformContext.stopping`` was set first.
            CalibanError: anything else; whether the job runs is not known.
        """

    @abstractmethod
    def find(self, submission: Submission) -> NewJob | None:
        """The job that carries the submission's token, or None when the platform has none.

        Raises:
            CalibanError: the platform cannot be asked.
        """

    @abstractmethod
    def stop(self, job: JobRecord) -> JobUpdate:
        """Ask for the end of a job; one that has ended already is left alone.

        Returns:
            Its state after that: STOPPED, or how it ended before it could be stopped, or RUNNING while it is being
            stopped.

        Raises:
            CalibanError: the job could not be stopped.
        """


class RemotePlatform(ABC):
    """A platform that runs jobs elsewhere, and has places where a person can look at one."""

    @abstractmethod
    def links(self, job: JobRecord) -> Sequence[str]:
        """Lines that say where to look at a job that was just submitted: a URL, a command that streams its log."""


class ForegroundPlatform(ABC):
    """A platform whose jobs run one after the other while somebody watches."""

    @abstractmethod
    def follow(self, job: JobRecord) -> JobUpdate:
        """Pass on the job's output until it ends.

        Raises:
            KeyboardInterrupt: after Ctrl-C; the job runs on.
            CalibanError: the platform was lost while the job ran; its state is not known.
        """


@dataclass(frozen=True)
class Translation:
    """A job of another platform, as one of this.

    Attributes:
        spec: the job spec, in this platform's shape.
        details: what :meth:`Platform.target` reads to find the place, as if the job had run here before.
        lost: what the other platform was asked for and this one cannot be, a line each, for people.
    """

    spec: JsonObject
    details: JsonObject
    lost: tuple[str, ...] = ()


class MigrationTarget(ABC):
    """A platform that takes over the jobs of another; :data:`caliban.config.SUCCESSORS` has all of them."""

    @abstractmethod
    def translate(self, job: JobRecord) -> Translation:
        """Say in this platform's terms what ``job``, of another platform, ran.

        Raises:
            PlatformError: ``not-translatable``: jobs of that platform, or this one, cannot be taken over.
        """


_PLATFORMS: Mapping[PlatformName, tuple[str, str]] = {
    PlatformName.LOCAL: ("caliban.platforms.docker.platform", "LocalPlatform"),
    PlatformName.CAIP: ("caliban.platforms.caip.platform", "CaipPlatform"),
    PlatformName.GKE: ("caliban.platforms.kubernetes.gke_platform", "GkePlatform"),
    PlatformName.KUBERNETES: ("caliban.platforms.kubernetes.kubeconfig_platform", "KubernetesPlatform"),
    PlatformName.VERTEX: ("caliban.platforms.vertex.platform", "VertexPlatform"),
}


class Platforms:
    """The platforms of one command, each imported and made when it is first asked for."""

    def __init__(self, platform_context: PlatformContext) -> None:
        self.context = platform_context
        self._made: dict[PlatformName, Platform] = {}

    def get(self, name: PlatformName) -> Platform:
        """The platform of that name.

        Raises:
            PlatformError: ``platform-not-supported``, for jobs that another version of caliban made.
        """
        if name not in self._made:
            if name not in _PLATFORMS:
                raise PlatformError(
                    "platform-not-supported",
                    f"this version of caliban cannot reach jobs on {name}",
                    hint="the jobs are listed from their recorded state; a later version of caliban may do more",
                )
            module, cls = _PLATFORMS[name]
            self._made[name] = getattr(import_module(module), cls)(self.context)
        return self._made[name]
