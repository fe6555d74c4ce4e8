"""What the stored details of jobs of both training services have in common. Imports only records, for listings."""

from __future__ import annotations

from dataclasses import dataclass

from caliban.platforms import stored_json
from caliban.platforms.google.failures import exit_code, failure_cause, summary
from caliban.platforms.google.identifiers import PROJECT
from caliban.platforms.stored_json import one_line, text, utc_text
from caliban.records import Destination, FailureCause, JobExit, JobStatus, JsonObject


@dataclass(frozen=True)
class ProjectDestination(Destination):
    """A Google Cloud project."""

    project: str

    def __str__(self) -> str:
        return f"project {self.project}"

    def check(self) -> None:
        """Check that the destination is spelled as one, before a request to it is made.

        Raises:
            PlatformError: ``project-malformed``, ``region-malformed``.
        """
        PROJECT.check(self.project)

    def to_json(self) -> JsonObject:
        """See :meth:`caliban.records.Destination.to_json`."""
        return {"project": self.project}


def stored_times(job: JsonObject, status: JobStatus) -> dict[str, str]:
    """Return when a job started and ended, as it is stored, from a job of the service; {} while neither is known.

    A job that expired, or succeeded in part, has no time of its end: it is the time of the last change.
    """
    ended = utc_text(job.get("endTime")) or (utc_text(job.get("updateTime")) if status.is_final else None)
    times = {"started": utc_text(job.get("startTime")), "ended": ended}
    return {key: moment for key, moment in times.items() if moment}


def job_exit(status: JobStatus, raw: JsonObject, message: str | None) -> JobExit | None:
    """Return how a job ended, as far as that is stored.

    Args:
        status: of the job.
        raw: its stored details; ``error`` in them is the reason of a refused submission.
        message: the service's reason for a failed or stopped job, or None.
    """
    if status is JobStatus.STOPPED:
        return JobExit(cause=FailureCause.STOPPED, message=one_line(message))
    refusal = text(raw, "error")
    if status is not JobStatus.FAILED or (refusal or message) is None:
        return None
    if refusal:
        return JobExit(cause=FailureCause.REFUSED, message=one_line(refusal))
    cause = stored_json.failure_cause(raw) or failure_cause(message)
    return JobExit(exit_code(message), cause, one_line(summary(message or "")))
