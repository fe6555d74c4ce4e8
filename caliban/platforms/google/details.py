"""What the stored details of jobs of both training services have in common. Imports only records, for listings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from caliban.platforms import stored_json
from caliban.platforms.google.identifiers import PROJECT
from caliban.platforms.stored_json import one_line, text, utc_text
from caliban.records import Destination, FailureCause, JobExit, JobStatus, JsonObject

_NON_ZERO_EXIT = re.compile(
    r"(?P<oom>ran out[- ]of[- ]memory and )?exited with a non-zero status of (?P<code>\d{1,9})?(?P<signal>\()?"
)
"""What both services report of a program that failed; its traceback may follow.

Sources: https://docs.cloud.google.com/gemini-enterprise-agent-platform/machine-learning/training/understanding-training-service
("Handle common errors"); for AI Platform, https://github.com/tensorflow/models/issues/5591 (a status ``9(SIGKILL)``).
"""

_CAUSES: Mapping[FailureCause, re.Pattern[str]] = {
    FailureCause.OUT_OF_MEMORY: re.compile(r"out[- ]of[- ]memory", re.IGNORECASE),
    FailureCause.PREEMPTED: re.compile(r"\bpreempt", re.IGNORECASE),
    FailureCause.INFRASTRUCTURE: re.compile(r"resources are insufficient|internal error", re.IGNORECASE),
    FailureCause.IMAGE: re.compile(r"\bpull\w*\b.*\bimage\b|\bimage\b.*\bpull|ImagePull", re.IGNORECASE),
    FailureCause.TIMEOUT: re.compile(r"\btime-?out\b|timed out|deadline", re.IGNORECASE),
}
"""What a message of the service itself says, in this order."""

_CODES: Mapping[int, FailureCause] = {
    4: FailureCause.TIMEOUT,  # DEADLINE_EXCEEDED
    8: FailureCause.INFRASTRUCTURE,  # RESOURCE_EXHAUSTED: no machine was available, or no quota
    13: FailureCause.INFRASTRUCTURE,  # INTERNAL
    14: FailureCause.INFRASTRUCTURE,  # UNAVAILABLE
}
"""Code of an error (google.rpc.Code) -> cause."""


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


def stored_times(job: JsonObject) -> dict[str, str]:
    """Return when a job started and ended, as it is stored, from a job of the service; {} while neither is known."""
    times = {"started": utc_text(job.get("startTime")), "ended": utc_text(job.get("endTime"))}
    return {key: moment for key, moment in times.items() if moment}


def failure_cause(message: str | None, code: object = None) -> FailureCause:
    """Return why a job failed, where the service clearly says so.

    Args:
        message: the service's.
        code: of its error (google.rpc.Code), where it has one.
    """
    words = " ".join((message or "").split())
    if match := _NON_ZERO_EXIT.search(words):  # the rest is the program's, whatever words it uses
        return FailureCause.OUT_OF_MEMORY if match["oom"] else FailureCause.CODE_ERROR
    for cause, pattern in _CAUSES.items():
        if pattern.search(words):
            return cause
    return _CODES.get(code, FailureCause.UNKNOWN) if isinstance(code, int) else FailureCause.UNKNOWN


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
    return JobExit(_exit_code(message), stored_json.failure_cause(raw) or failure_cause(message), one_line(message))


def _exit_code(message: str | None) -> int | None:
    """Return the exit status of the program; a number with the name of a signal behind it is none."""
    match = _NON_ZERO_EXIT.search(" ".join((message or "").split()))
    return int(match["code"]) if match and match["code"] and not match["signal"] else None
