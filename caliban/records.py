"""The frozen values that travel between layers. They know nothing of stores, platforms or terminals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, unique
from typing import TypeAlias

from caliban.errors import CalibanError

JsonObject = Mapping[str, object]
"""A JSON object as it was read or will be written; whoever looks inside checks what is there."""

ImageRef = str
"""What ``docker run`` takes: ``sha256:<64 hex digits>``, ``name:tag`` or ``host/name@digest``."""

PlatformId: TypeAlias = str
"""The name of a platform in ``job_specs.platform``: ``LOCAL``, or any that an installed package provides."""


@unique
class JobStatus(str, Enum):
    """The state of one job; the values are those of the ``jobs.status`` column."""

    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    UNKNOWN = "UNKNOWN"

    def __str__(self) -> str:
        return self.value

    @property
    def is_final(self) -> bool:
        """Whether the job never changes its state again. UNKNOWN is not final: it is queried again."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)

    @property
    def is_rerunnable(self) -> bool:
        """Whether ``resubmit`` takes such a job without ``--all_jobs``."""
        return self in (JobStatus.FAILED, JobStatus.STOPPED)


ParseDetails: TypeAlias = "Callable[[PlatformId, JobStatus, JsonObject], JobDetails]"
"""Reads the stored details of a job of any platform: :func:`caliban.platforms.registry.parse_details`."""


@unique
class JobMode(str, Enum):
    """Whether a container is built for a machine with GPUs; the values are those of recorded container specs."""

    CPU = "CPU"
    GPU = "GPU"

    def __str__(self) -> str:
        return self.value


@unique
class FailureCause(str, Enum):
    """Why a job did not succeed, in the same words for all platforms."""

    CODE_ERROR = "code_error"
    """The program ended with a non-zero exit code."""
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    PREEMPTED = "preempted"
    """The machine was taken away."""
    IMAGE = "image"
    """The image could not be pulled, or its program not started."""
    REFUSED = "refused"
    """The platform did not accept the submission."""
    INFRASTRUCTURE = "infrastructure"
    """The machine or the platform failed."""
    STOPPED = "stopped"
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value


class Destination(ABC):
    """Where on its platform a job runs. Each platform has a frozen, hashable dataclass of its own."""

    def check(self) -> None:  # noqa: B027 - optional: some platforms accept any identifier
        """Check that its identifiers have the form that the platform gives them, before anything is recorded or sent.

        Raises:
            CalibanError: one has not; such a destination does not exist.
        """

    @abstractmethod
    def to_json(self) -> JsonObject:
        """Return the JSON object that ``submissions.target`` stores; the platform's ``from_json`` reads it."""


@dataclass(frozen=True)
class JobExit:
    """How a job ended.

    Attributes:
        code: the exit code of its program; None where it is not known.
        cause: the kind of failure; None for a job that succeeded.
        message: why it failed, in the platform's words, in one line; None where there is nothing to say.
    """

    code: int | None = None
    cause: FailureCause | None = None
    message: str | None = None


@dataclass(frozen=True)
class OutputError:
    """The last error in the output of a job: what its last traceback says, or its last line that reports an error.

    Attributes:
        type: the type of the exception (``ValueError``, ``torch.OutOfMemoryError``); None where it is not one.
        message: what it says, in one line, without secrets; may be empty.
        frame: the innermost frame inside the project (``trainer/train.py:41``); None where no traceback names one.
    """

    type: str | None
    message: str
    frame: str | None = None

    @property
    def text(self) -> str:
        """For people, in one line: ``ValueError: loss is nan``."""
        return ": ".join(part for part in (self.type, self.message) if part)


@dataclass(frozen=True)
class OutputLine:
    """A line of a job's output.

    Attributes:
        data: its bytes as the job wrote them, with its line break; without one at the end of the output.
        is_stderr: whether it was written to standard error; False where the platform does not tell.
        time: when it was written, with a time zone; None where the platform does not tell.
        source: which of several containers, pods or replicas of the job wrote it; None where there is one.
    """

    data: bytes
    is_stderr: bool = False
    time: datetime | None = None
    source: str | None = None


@dataclass(frozen=True)
class JobDetails:
    """What a platform recorded of a job (``jobs.details``), as the platform's own parser reads it.

    Attributes:
        raw: the stored JSON object, untouched; only the platform reads it.
        id: the platform's own id of the job, or None.
        display_name: the job's name on its platform, or None (caliban 0.4.2 records none for local jobs).
        destination: where it ran; None where that is not recorded.
        exit: how it ended; None for a job that has not ended, or of which nothing is recorded.
        pending_reason: why an unfinished job is in its state (``unschedulable: ...``), or None.
        started: when it started to run, with a time zone, or None.
        ended: when it ended, with a time zone, or None.
        links: URLs and commands that show the job.
        remove_when_ended: whether what the job left on its platform is still to be removed once its end is recorded.
    """

    raw: JsonObject = field(default_factory=dict, hash=False)
    id: str | None = None
    display_name: str | None = None
    destination: Destination | None = None
    exit: JobExit | None = None
    pending_reason: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    links: tuple[str, ...] = ()
    remove_when_ended: bool = False

    @property
    def reason(self) -> str | None:
        """Why the job is in its state, in the platform's words; None where there is nothing to say."""
        return (self.exit.message if self.exit else None) or self.pending_reason


@dataclass(frozen=True)
class JobUpdate:
    """The answer of a platform to a status request.

    Attributes:
        status: the state of the job.
        details: what is to be recorded; None where nothing changed.
    """

    status: JobStatus
    details: JobDetails | None = None


@dataclass(frozen=True)
class StatusUnavailable:
    """The state of a job could not be determined. It keeps its last known state and is queried again next time.

    Attributes:
        reason: why.
        is_permanent: whether it will not be known later either unless somebody changes something; see
            :attr:`caliban.errors.PlatformError.is_permanent`.
    """

    reason: str
    is_permanent: bool = False


@dataclass(frozen=True)
class JobRecord:
    """One attempt of an experiment, as stored.

    Attributes:
        id: ``jobs.id``.
        platform: where it ran.
        spec_id: ``job_specs.id``.
        spec: ``job_specs.spec``, in the shape that its platform writes.
        container: the image that it ran.
        status: the last known state.
        details: what its platform recorded; see :class:`JobDetails`.
        created: naive local time of the machine that submitted it, as caliban 0.4.2 records it.
        user: who recorded it; None where that is not recorded.
        refresh_error: why ``status`` could not be refreshed; None where it could, or need not.
        refresh_error_is_permanent: whether it cannot be refreshed later either unless somebody changes something.
        output_error: the last error in its output; None where there is none, or the output was not read yet.
        output_missing_since: when its output could not be fetched for the first time, where that may be possible
            later; else None.
    """

    id: int
    platform: PlatformId
    spec_id: int
    spec: JsonObject
    container: ImageRef
    status: JobStatus
    details: JobDetails
    created: datetime
    user: str | None = None
    refresh_error: str | None = None
    output_error: OutputError | None = None
    output_missing_since: datetime | None = None
    refresh_error_is_permanent: bool = False

    @property
    def reason(self) -> str | None:
        """Why it is in its state; None where there is nothing to say."""
        return self.details.reason

    def updated(self, update: JobUpdate | StatusUnavailable) -> JobRecord:
        """Return the record with what its platform reported."""
        if isinstance(update, StatusUnavailable):
            return replace(self, refresh_error=update.reason, refresh_error_is_permanent=update.is_permanent)
        return replace(
            self,
            status=update.status,
            details=update.details or self.details,
            refresh_error=None,
            refresh_error_is_permanent=False,
        )


@dataclass(frozen=True)
class ContainerRecord:
    """A row of ``container_specs``: its id, and the spec exactly as recorded."""

    id: int
    spec: JsonObject

    @property
    def entrypoint(self) -> str:
        """What it runs, for people: the script (``trainer/train.py``), or the image where no script is recorded."""
        package = self.spec.get("package")
        if isinstance(package, Sequence) and not isinstance(package, str) and len(package) > 2:
            return str(package[2])
        return str(self.spec.get("image_id") or "(no script recorded)")


@dataclass(frozen=True)
class ExperimentRecord:
    """One experiment of a group, with some or all of its attempts.

    Attributes:
        id: ``experiments.id``.
        args: the positional arguments, those after ``--``.
        kwargs: the flags of this experiment: ``{"sleep": 2, "verbose": true}``.
        container: the container spec that it was created with.
        jobs: its attempts, oldest first; which ones, the query says. Empty for an experiment that has none.
        origin: ``experiments.id`` of the one that it was made from by changing parameters; None for any other.
    """

    id: int
    args: tuple[str, ...]
    kwargs: JsonObject
    container: ContainerRecord
    jobs: tuple[JobRecord, ...] = ()
    origin: int | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """Its command line without the program: ``("--foo", "3", "--sleep", "1")``.

        ``true`` becomes the bare flag and ``false`` nothing, as in caliban 0.4.2.
        """
        words = list(self.args)
        for name, value in self.kwargs.items():
            if value is not False:
                words.append(f"--{name}")
            if not isinstance(value, bool):
                words.append(str(value))
        return tuple(words)

    @property
    def latest(self) -> JobRecord | None:
        """The most recent attempt among ``jobs``."""
        return self.jobs[-1] if self.jobs else None


@dataclass(frozen=True)
class GroupRecord:
    """One experiment group of one user, and experiments of it, in the order of their ids."""

    id: int
    name: str
    experiments: tuple[ExperimentRecord, ...] = ()

    def updated(self, part: GroupRecord) -> GroupRecord:
        """Return the group with the experiments of another record of it in place of its own."""
        newer = {experiment.id: experiment for experiment in part.experiments}
        return replace(self, experiments=tuple(newer.get(each.id, each) for each in self.experiments))


@dataclass(frozen=True)
class NewJob:
    """A job that a platform has accepted, about to be recorded: what becomes a row of ``jobs``."""

    container: ImageRef
    status: JobStatus
    details: JobDetails = field(default_factory=JobDetails)


@dataclass(frozen=True)
class Outcome:
    """The result of one attempt.

    Attributes:
        experiment: whose attempt it was.
        job: the job as recorded, in its last known state; None where none was recorded.
        error: why the job could not be submitted or followed; None where it could, even if the job then failed.
    """

    experiment: ExperimentRecord
    job: JobRecord | None
    error: CalibanError | None = None

    @property
    def is_good(self) -> bool:
        """Whether the job was submitted and, where it has ended, succeeded."""
        unfinished_or_good = (JobStatus.SUBMITTED, JobStatus.RUNNING, JobStatus.SUCCEEDED)
        return self.error is None and self.job is not None and self.job.status in unfinished_or_good
