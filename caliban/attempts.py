"""Attempts to submit a job: on which condition, by which process, and what became of them (the rows of the journal)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, unique

from caliban.records import JsonObject, PlatformId


@dataclass(frozen=True)
class FirstAttempt:
    """The experiment has no job yet. It is not submitted when it got one in the meantime."""


@dataclass(frozen=True)
class Rerun:
    """Runs the experiment's latest job again. It is not submitted when the experiment got a newer one in the meantime.

    Attributes:
        job_id: ``jobs.id`` of that job.
    """

    job_id: int


@dataclass(frozen=True)
class AdditionalAttempt:
    """One more job of the experiment, whatever jobs it has.

    Attributes:
        after: ``jobs.id`` of the newest job when this was decided: the experiment is not submitted when it got a newer
            one in the meantime. None to submit it in any case.
    """

    after: int | None = None


AttemptKind = FirstAttempt | Rerun | AdditionalAttempt


@unique
class SubmissionState(str, Enum):
    """The state of a journal row (``submissions.state``)."""

    OPEN = "OPEN"
    DONE = "DONE"
    FAILED = "FAILED"
    ABANDONED = "ABANDONED"


@dataclass(frozen=True)
class Owner:
    """A process, identified so that no other one is taken for it; None where the system does not tell.

    Attributes:
        machine: derived from the id of the operating system.
        boot: the id of the boot.
        namespaces: those that give process ids their meaning.
        pid: the process id.
        started: when the process started, in clock ticks after the boot.
    """

    machine: str | None
    boot: str | None
    namespaces: str | None
    pid: int
    started: int | None


@dataclass(frozen=True)
class Batch:
    """The submissions of one command.

    Attributes:
        id: ``batches.id``.
        owner: the command's process.
        renewals: how often it said that it is still running.
        unrenewed: seconds since it last did, by the clock of the database or, on SQLite, of this machine; negative
            where clocks differ.
    """

    id: int
    owner: Owner
    renewals: int
    unrenewed: float = field(compare=False)


@dataclass(frozen=True)
class Submission:
    """One row of the journal: what is about to be, or was, requested from a platform.

    Attributes:
        id: ``submissions.id``.
        token: random and unique; it is sent with the request, so that the job can be looked up after a lost answer.
        experiment_id: whose attempt this is.
        group: the name of the experiment group that it belongs to.
        job_spec_id: what is submitted.
        resubmits: the job that this one re-runs, or None.
        platform: where it goes.
        destination: where on that platform, as :meth:`caliban.records.Destination.to_json` wrote it.
        name: the name that the platform is asked to give the job.
        user, host, pid: who is submitting, for people; ``batch`` identifies the process.
        created: when, in UTC; a row of revision 0003 is assumed to have the time zone of this machine.
        state: see :class:`SubmissionState`.
        job_id: the job that was recorded for it, once it is settled.
        error: why there is none, where that is known.
        batch: the command that it belongs to; None for a row of revision 0003.
        sent: when a request was last made; None where none was, or for a row of revision 0003.
    """

    id: int
    token: str
    experiment_id: int
    group: str
    job_spec_id: int
    resubmits: int | None
    platform: PlatformId
    destination: JsonObject
    name: str
    user: str
    host: str
    pid: int
    created: datetime
    state: SubmissionState = SubmissionState.OPEN
    job_id: int | None = None
    error: str | None = None
    batch: Batch | None = None
    sent: datetime | None = field(default=None, compare=False)

    @property
    def may_have_been_sent(self) -> bool:
        """Whether a platform may have it."""
        return self.batch is None or self.sent is not None
