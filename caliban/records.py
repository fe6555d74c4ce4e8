"""The frozen values that travel between floors. They know nothing of stores, platforms or terminals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, unique

from caliban.errors import CalibanError

JsonObject = Mapping[str, object]
"""A JSON object as it was read or will be written; whoever looks inside checks what is there."""

ImageRef = str
"""What ``docker run`` takes: ``sha256:<64 hex digits>``, ``name:tag`` or ``host/name@digest``."""


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
        """Whether the job will never change its state again. UNKNOWN is not final: ask again."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)

    @property
    def wants_rerun(self) -> bool:
        """Whether ``resubmit`` takes such a job without ``--all_jobs``."""
        return self in (JobStatus.FAILED, JobStatus.STOPPED)


@unique
class PlatformName(str, Enum):
    """Where a job runs; the values are those of the ``job_specs.platform`` column."""

    LOCAL = "LOCAL"
    CAIP = "CAIP"
    GKE = "GKE"
    VERTEX = "VERTEX"
    KUBERNETES = "KUBERNETES"
    TEST = "TEST"

    def __str__(self) -> str:
        return self.value


@unique
class JobMode(str, Enum):
    """Whether a container is built for a machine with GPUs; the values are those of recorded container specs."""

    CPU = "CPU"
    GPU = "GPU"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class JobRecord:
    """One attempt of an experiment, as the store has it.

    Attributes:
        id: ``jobs.id``.
        platform: where it ran.
        spec_id: ``job_specs.id``.
        spec: ``job_specs.spec``, in the shape that its platform writes.
        container: the image that it ran.
        status: the last known state.
        details: what the platform told of the job (``jobs.details``); ``{}`` where the store has null. Whatever the
            platform, ``reason`` says why the job is in its state, and ``ret_code`` is its exit code.
        created: naive local time of the machine that submitted it, as caliban 0.4.2 records it.
        refresh_error: why ``status`` could not be brought up to date; None where it could, or need not.
    """

    id: int
    platform: PlatformName
    spec_id: int
    spec: JsonObject
    container: ImageRef
    status: JobStatus
    details: JsonObject
    created: datetime
    refresh_error: str | None = None

    @property
    def reason(self) -> str | None:
        """Why it is in its state, in a few words of its platform: ``out of memory``; None where nobody knows."""
        reason = self.details.get("reason")
        return reason if isinstance(reason, str) and reason else None


@dataclass(frozen=True)
class ContainerRecord:
    """A row of ``container_specs``: its id, and the spec exactly as recorded."""

    id: int
    spec: JsonObject

    @property
    def entrypoint(self) -> str:
        """What it runs, for people: the script (``trainer/train.py``), or the image where no code is recorded."""
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
        container: the container spec that it was made with.
        jobs: its attempts, oldest first; which ones, the query says. Empty for an experiment that never got one.
    """

    id: int
    args: tuple[str, ...]
    kwargs: JsonObject
    container: ContainerRecord
    jobs: tuple[JobRecord, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """Its command line without the program: ``("--foo", "3", "--sleep", "1")``.

        ``true`` becomes the bare flag and ``false`` nothing, as caliban 0.4.2 has it.
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


@unique
class SubmissionState(str, Enum):
    """The state of a journal row (``submissions.state``)."""

    OPEN = "OPEN"
    DONE = "DONE"
    FAILED = "FAILED"
    ABANDONED = "ABANDONED"


@dataclass(frozen=True)
class Submission:
    """One row of the journal: what is about to be, or was, asked of a platform.

    Attributes:
        id: ``submissions.id``.
        token: random and unique; it travels with the request, so that a lost answer can be looked up.
        experiment_id: whose attempt this is.
        group: the name of the experiment group that it belongs to.
        job_spec_id: what is submitted.
        resubmits: the job that this one re-runs, or None.
        platform: where it goes.
        target: the place on that platform: ``{"project": ..., "region": ...}``; ``{}`` for this machine.
        name: what we ask the platform to call the job.
        user, host, pid: who is submitting; an OPEN row whose owner is gone was interrupted.
        created: naive local time.
        state: see :class:`SubmissionState`.
        job_id: the job that came of it, once it is settled.
        error: why there is none, where that is known.
    """

    id: int
    token: str
    experiment_id: int
    group: str
    job_spec_id: int
    resubmits: int | None
    platform: PlatformName
    target: JsonObject
    name: str
    user: str
    host: str
    pid: int
    created: datetime
    state: SubmissionState = SubmissionState.OPEN
    job_id: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class NewJob:
    """A job that a platform has taken on, about to be recorded: what becomes a row of ``jobs``."""

    container: ImageRef
    status: JobStatus
    details: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came of one attempt.

    Attributes:
        experiment: whose attempt it was.
        job: the job as recorded, in its last known state; None where none was recorded.
        error: why the job could not be submitted or watched; None where it could, even if the job then failed.
    """

    experiment: ExperimentRecord
    job: JobRecord | None
    error: CalibanError | None = None

    @property
    def is_good(self) -> bool:
        """Whether the job was submitted and, where its end is known, succeeded."""
        unfinished_or_good = (JobStatus.SUBMITTED, JobStatus.RUNNING, JobStatus.SUCCEEDED)
        return self.error is None and self.job is not None and self.job.status in unfinished_or_good
