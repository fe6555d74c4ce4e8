"""What caliban requires of a platform: a place where jobs run.

A platform is given job specs in the shape that it records (``job_specs.spec``), and alone looks inside them. What only
some platforms can do is a capability: a small class of its own, checked with ``issubclass`` and without an instance
(:func:`caliban.platforms.registry.has_capability`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from caliban.attempts import Submission
from caliban.errors import CalibanError, PlatformError, one_line
from caliban.platforms.context import PlatformContext
from caliban.platforms.usage import usage_of
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

if TYPE_CHECKING:
    from caliban.config import ProjectConfig
    from caliban.images.registry.push import Registry

TOKEN_LABEL = "caliban.token"
"""The label that carries the submission's token, where label keys may have dots."""

EXPERIMENT_LABEL = "caliban.experiment"
"""The label that carries ``experiments.id``, likewise."""

GROUP_LABEL = "caliban.group"
"""The label that carries the experiment group's name, likewise."""


class RefusedError(PlatformError):
    """The platform refused a submission and runs nothing: the job is recorded as FAILED with the reason.

    After any other error of :meth:`Platform.submit` the outcome is unknown: the journal row stays open and is looked up
    by its token the next time.

    Attributes:
        details: what to record of the job (``jobs.details``) beside the error itself.
    """

    def __init__(
        self, id: str, message: str, *, cause: str | None = None, hint: str | None = None, details: JsonObject
    ) -> None:
        super().__init__(id, message, cause=cause, hint=hint)
        self.details = details


class ServiceRetiredError(PlatformError):
    """The service behind a platform was shut down. Its jobs stay recorded; another platform can run them.

    Attributes:
        successor: the ``--platform`` choice that takes over its jobs.
        is_certain: whether the service itself said so.
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

    @property
    def is_permanent(self) -> bool:
        """See :attr:`caliban.errors.PlatformError.is_permanent`."""
        return self.is_certain


def unavailable(error: CalibanError) -> StatusUnavailable:
    """Return what a state request answers for jobs about which a platform could not be asked."""
    return StatusUnavailable(one_line(error), isinstance(error, PlatformError) and error.is_permanent)


class NotSentError(PlatformError):
    """Nothing was sent, as if the submission had never been started: the user wants to stop, or another process settled
    the submission (:data:`MaySend`).
    """


MaySend: TypeAlias = Callable[[], None]
"""Checks that a submission is still open and this process's; raises :class:`NotSentError` otherwise.

Called immediately before every request that could start the job, repeated requests included. A process that did not run
for a while (a laptop that slept, a paused virtual machine) may have been taken for dead in the meantime: its submission
was looked up, and its experiment may have been submitted again.
"""


class Platform(ABC):
    """A place where jobs run.

    Attributes:
        id: what ``job_specs.platform`` stores.
        needs_image: whether jobs run in container images; without, nothing is built and jobs run in the directory
            that the container spec names.
    """

    id: ClassVar[PlatformId]
    needs_image: ClassVar[bool] = True

    def __init__(self, context: PlatformContext) -> None:
        self.context = context

    @classmethod
    @abstractmethod
    def parse_details(cls, status: JobStatus, raw: JsonObject) -> JobDetails:
        """Read what is stored of a job (``jobs.details``): by this version, earlier ones, and caliban 0.4.2.

        Never raises: what is missing or malformed is None.
        """

    @abstractmethod
    def destination(self, latest: JobRecord | None) -> Destination:
        """Return where on this platform a new attempt runs, given the previous one.

        Raises:
            CalibanError: neither a record nor the user names one.
        """

    @classmethod
    def without_names(cls, destination: JsonObject) -> JsonObject:
        """Return what tells a stored destination from others, without names that may change while it stays the same.

        A command that is typed again continues what it submitted there.
        """
        return destination

    @classmethod
    def details_at(cls, destination: JsonObject) -> JobDetails:
        """Return the details of a job of which only its destination is recorded: that of a submission without a job.

        :meth:`destination` reads them. Never raises: where the destination is malformed, they have none.

        Args:
            destination: as :meth:`caliban.records.Destination.to_json` wrote it.
        """
        return cls.parse_details(JobStatus.SUBMITTED, destination)

    @abstractmethod
    def image_registry(self, config: ProjectConfig, destination: Destination | None) -> Registry | None:
        """Return the registry that images for a destination are pushed to. Nothing is connected to.

        Args:
            config: the project's, which may name a registry.
            destination: None where only the name of the registry is to be checked; the result is then None where the
                registry depends on the destination.

        Returns:
            None where jobs run the images of this machine's Docker Engine.

        Raises:
            CalibanError: there is none, or its name is malformed.
        """

    def image_platform(self, config: ProjectConfig, spec: JsonObject) -> str | None:
        """Return for which operating system and processor the image of a job is built.

        Args:
            config: the project's, which may name them.
            spec: of the job, whose image counts for nothing.

        Returns:
            Such as ``linux/amd64``; None for those of this machine's Docker Engine.

        Raises:
            PlatformError: ``malformed-job-spec``: the spec is not one of this platform's.
        """
        from caliban.images.image_platform import platform_of_remote_jobs  # not for --help

        return platform_of_remote_jobs(config, self.context.environ)

    def connect(self, destination: Destination) -> None:  # noqa: B027 - optional: some platforms are always there
        """Check that a destination can be reached, before anything is built or journaled.

        Raises:
            CalibanError: it cannot.
        """

    @abstractmethod
    def statuses(self, jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        """Return the current state of each job by ``jobs.id``, with as few requests as the platform allows.

        Never raises for a platform that cannot be reached: its jobs are :class:`StatusUnavailable`, with the reason.
        """

    @abstractmethod
    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        """Return ``spec`` with another image.

        Raises:
            PlatformError: ``malformed-job-spec``: the spec is not one of this platform's.
        """

    @abstractmethod
    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        """Return ``spec`` with another image and other arguments, for an experiment that has no spec of its own.

        Raises:
            PlatformError: ``malformed-job-spec``: the spec is not one of this platform's.
        """

    def with_absolute_paths(self, spec: JsonObject, directory: Path | None) -> JsonObject:
        """Return a recorded spec for a re-run, with what is relative to the project's directory made absolute.

        Called before anything is built. Nothing is connected to; what the job would not find on this machine is
        reported.

        Args:
            spec: as recorded.
            directory: the project's directory; None if it was not recorded.

        Raises:
            PlatformError: ``malformed-job-spec``; or the job cannot be run again from here.
        """
        return spec

    @classmethod
    def usage(cls, spec: JsonObject) -> Mapping[str, int]:
        """Return what a job occupies while it runs: accelerators by short name, ``{"L4": 2}``, or ``{"machine": 1}``.

        Never raises: a spec of another shape is that of one machine.
        """
        return usage_of({})

    def effects(self, job: JobRecord) -> tuple[str, ...]:
        """Return what a re-run of ``job`` would do beyond running its image, a line each, for people.

        For a plan with jobs that someone else recorded: directories and devices of the host, privileges, networks,
        accounts, and the destination where the user has not chosen it. What caliban always requests is left out; what
        it does not know is not. Nothing is connected to.
        """
        return ()

    @abstractmethod
    def job_name(self, spec: JsonObject, token: str) -> str:
        """Return the name to request for a submission that carries ``token``."""

    @abstractmethod
    def submit(self, spec: JsonObject, submission: Submission, may_send: MaySend) -> NewJob:
        """Start the job. Idempotent by token: a second call adopts the job that the first one started.

        Args:
            spec: what to start.
            submission: for which submission.
            may_send: is called immediately before every request that could start the job, each retry included.

        Raises:
            RefusedError: nothing was started and nothing will be.
            NotSentError: nothing was started: ``PlatformContext.stopping`` was set first, or ``may_send`` raised it.
            CalibanError: anything else; whether the job runs is unknown.
        """

    @abstractmethod
    def find(self, submission: Submission) -> NewJob | None:
        """Return the job that carries the submission's token, or None when the platform has none.

        Raises:
            CalibanError: the platform cannot be queried.
        """

    def grace_seconds(self, job: JobRecord) -> float:
        """Return how long a job may go on after it was asked to stop; 0 where that is less than a minute."""
        return 0

    @abstractmethod
    def stop(self, job: JobRecord) -> JobUpdate:
        """Stop a job; one that has ended already is left alone.

        Returns:
            Its state afterwards: STOPPED, or how it ended before it could be stopped, or RUNNING while it is being
            stopped.

        Raises:
            CalibanError: the job could not be stopped.
        """


class RemotePlatform(ABC):
    """A platform that runs jobs elsewhere, several at a time, where they can be viewed."""

    @abstractmethod
    def links(self, job: JobRecord) -> Sequence[str]:
        """Return lines that show where to view a job: a URL, a command that streams its log."""


class ForegroundPlatform(ABC):
    """A platform whose jobs run one after the other while the command waits for them."""

    @abstractmethod
    def follow(self, job: JobRecord) -> JobUpdate:
        """Pass on the job's output until it ends.

        Raises:
            KeyboardInterrupt: after Ctrl-C; the job keeps running.
            CalibanError: the connection was lost while the job ran; its state is unknown.
        """

    def is_detached(self, job: JobRecord) -> bool:
        """Return whether the user asked for a job that runs in the background: the command does not wait for it."""
        return False


@dataclass(frozen=True)
class LogRequest:
    """Which part of a job's output is wanted.

    Attributes:
        tail: only the last lines, this many at most; None for all.
        follow: whether to go on until the job ends.
    """

    tail: int | None = None
    follow: bool = False


class LogSource(ABC):
    """A platform that has the output of its jobs, while they run and for some time afterwards."""

    @abstractmethod
    def logs(self, job: JobRecord, request: LogRequest) -> Iterator[OutputLine]:
        """Yield the output of a job, oldest line first.

        May be called on any thread, for several jobs at a time. Closing the iterator ends it at once, also while it
        follows. ``PlatformContext.stopping`` ends it too.

        Raises:
            CalibanError: the platform does not have the output any more (``output-gone``), or not yet, though the job
                has ended (``output-not-ready``), does not let the user read it (``output-refused``, with what is
                needed), or cannot be asked.
        """


class ChecksJobs(ABC):
    """A platform that can say before an image is built that jobs could not be started."""

    @abstractmethod
    def check_job(self, spec: JsonObject) -> None:
        """Check what jobs of this kind need beside their image.

        Args:
            spec: of the job; its image may be any.

        Raises:
            CalibanError: it could not be started.
        """


class KillsJobs(ABC):
    """A platform that can end a job at once, without the time that :meth:`Platform.stop` gives it."""

    @abstractmethod
    def kill(self, job: JobRecord) -> JobUpdate:
        """Kill a job; one that has ended already is left alone. Returns and raises what :meth:`Platform.stop` does."""


class RemovesJobs(ABC):
    """A platform on which what an ended job leaves behind can be removed (``JobDetails.remove_when_ended``)."""

    @abstractmethod
    def remove(self, job: JobRecord) -> None:
        """Remove what a job left behind whose end is recorded; nothing if it was removed before.

        Raises:
            CalibanError: the platform cannot be asked.
        """
