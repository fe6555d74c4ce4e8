"""What the stored details of jobs of both training services have in common, and why a job failed by its error.

Imports only records, for listings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from caliban.platforms import stored_json
from caliban.platforms.google.identifiers import PROJECT
from caliban.platforms.stored_json import one_line, parse_time, text, utc_text
from caliban.records import Destination, FailureCause, JobExit, JobStatus, JsonObject

_EXIT = re.compile(
    r"(?P<oom>ran out[- ]of[- ]memory and )?exited with a non-zero status of ?"
    r"(?P<code>\d{1,9})?(?P<signal>\(\w{0,20}\)?)?\s?\.?(?:\s*Termination reason: (?P<reason>\w{1,60}))?"
)
"""What both services report of a program that failed; its traceback may follow.

Sources: https://docs.cloud.google.com/gemini-enterprise-agent-platform/machine-learning/training/understanding-training-service
("Handle common errors"); for AI Platform, https://github.com/tensorflow/models/issues/5591 (a status ``9(SIGKILL)``);
for several replicas in one message, https://github.com/tensorflow/models/issues/5845; for StartError,
https://github.com/GoogleCloudPlatform/vertex-ai-samples/issues/1898.
"""

_REPLICA = re.compile(r"\bThe replica [\w-]{1,60}(?: \d{1,6})? (?=ran out|exited)")
_KILLED = frozenset({137, 143})
"""Exit codes of replicas that the service ends because another one failed; also of programs that end themselves so."""

_REASONS: Mapping[str, FailureCause] = {
    "OOMKilled": FailureCause.OUT_OF_MEMORY,
    "DeadlineExceeded": FailureCause.TIMEOUT,
    "Preempted": FailureCause.PREEMPTED,
    "Preempting": FailureCause.PREEMPTED,
    "NodeShutdown": FailureCause.PREEMPTED,
    "Evicted": FailureCause.INFRASTRUCTURE,
    "NodeLost": FailureCause.INFRASTRUCTURE,
    "ContainerStatusUnknown": FailureCause.INFRASTRUCTURE,
    "StartError": FailureCause.IMAGE,
    "ContainerCannotRun": FailureCause.IMAGE,
    "CreateContainerError": FailureCause.IMAGE,
    "RunContainerError": FailureCause.IMAGE,
    "ErrImagePull": FailureCause.IMAGE,
    "ImagePullBackOff": FailureCause.IMAGE,
    "ImageInspectError": FailureCause.IMAGE,
    "InvalidImageName": FailureCause.IMAGE,
}
"""Termination reasons of containers; others (``Error``) are those of programs that failed."""

_STOCKOUT = re.compile(
    r"resources are insufficient|insufficient resources|\bstockout\b|resource_pool_exhausted"
    r"|(?:does not|doesn't) have enough resources|out of (?:capacity|resources)",
    re.IGNORECASE,
)
"""No machine was available. Source: as above, and
https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-resource-availability."""

_IMAGE = re.compile(
    r"\bpull\w*\b.{0,500}?\bimage\b|\bimage\b.{0,500}?\bpull|ImagePull|manifest unknown|InvalidImageName"
    r"|\bimage\b.{0,300}?(?:not found|does not exist|not exist|cannot be accessed|permission|denied|not accessible)"
    r"|(?:permission|denied|access|download\w*)\b.{0,300}?\b(?:container |docker )?image\b"
    r"|artifactregistry\.repositories\.downloadArtifacts",
    re.IGNORECASE,
)
_CAUSES: tuple[tuple[FailureCause, re.Pattern[str]], ...] = (
    (FailureCause.OUT_OF_MEMORY, re.compile(r"out[- ]of[- ]memory|\blow on memory\b|\bOOM ?Killed", re.IGNORECASE)),
    (FailureCause.PREEMPTED, re.compile(r"\bpreempt", re.IGNORECASE)),
    (FailureCause.INFRASTRUCTURE, _STOCKOUT),
    (
        FailureCause.INFRASTRUCTURE,
        re.compile(r"internal error|quota (?:metrics? )?exceed|exceed\w* quota", re.IGNORECASE),
    ),
    (FailureCause.IMAGE, _IMAGE),
    (FailureCause.TIMEOUT, re.compile(r"\btime-?out\b|timed out|deadline|max\w* (?:running|wait)", re.IGNORECASE)),
    (FailureCause.REFUSED, re.compile(r"permission.{0,200}denied|PERMISSION_DENIED|actAs\b", re.IGNORECASE)),
)
"""What a message of the service itself says, in this order.

``Replicas low on memory: workerpool0. Specify a machine with larger memory and try again.`` comes with the code of an
exhausted resource (8).
"""

_CODES: Mapping[int, FailureCause] = {
    4: FailureCause.TIMEOUT,  # DEADLINE_EXCEEDED
    7: FailureCause.REFUSED,  # PERMISSION_DENIED: of the service account, or of the service's own
    8: FailureCause.INFRASTRUCTURE,  # RESOURCE_EXHAUSTED: no machine was available, or no quota
    13: FailureCause.INFRASTRUCTURE,  # INTERNAL
    14: FailureCause.INFRASTRUCTURE,  # UNAVAILABLE
}
"""Code of an error (google.rpc.Code) -> cause."""

_SEE_LOGS = "To find out more about why your job exited please check the logs:"
_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"(?<!\S)(?:\w{1,100}\.){0,20}\w{0,100}(?:Error|Exception|Interrupt|Exit)\b(?:: [^\n]*)?")
_MAX_READ = 20_000
_DURATION = re.compile(r"(\d{1,12})(?:\.\d{1,9})?s")
_LATE = 900.0
"""So many seconds after its time limit a job has ended, at the latest; a job that ran longer was started again."""


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


def failure_cause(message: str | None, code: object = None, *, may_be_preempted: bool = False) -> FailureCause:
    """Return why a job failed, where the service clearly says so.

    Args:
        message: the service's.
        code: of its error (google.rpc.Code), where it has one.
        may_be_preempted: whether the job had started on machines that may be taken away. The service then tries to get
            others, and reports that there are none.
    """
    words = _in_one_line(message)
    if match := _exit(words):  # the rest is the program's, whatever words it uses
        return _cause_of_exit(match)
    if may_be_preempted and _STOCKOUT.search(words):
        return FailureCause.PREEMPTED
    for cause, pattern in _CAUSES:
        if pattern.search(words):
            return cause
    return _CODES.get(code, FailureCause.UNKNOWN) if isinstance(code, int) else FailureCause.UNKNOWN


def exit_code(message: str | None) -> int | None:
    """Return the exit status of the program that a message names.

    None for a program that was not started, and for a number with the name of a signal behind it, which is no status.
    """
    match = _exit(_in_one_line(message))
    if match is None or not match["code"] or match["signal"] or _cause_of_exit(match) is FailureCause.IMAGE:
        return None
    return int(match["code"])


def summary(message: str) -> str:
    """Return an error's message without the traceback in it, but with the exception that it ends with.

    The hint at its end where the job's log is, is left out, too: ``caliban logs`` shows it.
    """
    text = message[:_MAX_READ].partition(_SEE_LOGS)[0].strip()
    head, mark, traceback = text.partition(_TRACEBACK)
    exceptions = _EXCEPTION.findall(traceback)
    if not mark or not exceptions:
        return text
    return ": ".join(part for part in (head.strip().rstrip("."), exceptions[-1].strip()) if part)


def _exit(words: str) -> re.Match[str] | None:
    """Return what is said of the replica that failed: of several, the one that ran out of memory, or else the first
    that was not just ended with the others.
    """
    first = _EXIT.search(words)
    if first is None:
        return None
    matches = [match for start in _REPLICA.finditer(words) if (match := _EXIT.match(words, start.end()))] or [first]
    for is_it in (_is_out_of_memory, _ended_by_itself):
        for match in matches:
            if is_it(match):
                return match
    return matches[0]


def _is_out_of_memory(match: re.Match[str]) -> bool:
    return _cause_of_exit(match) is FailureCause.OUT_OF_MEMORY


def _ended_by_itself(match: re.Match[str]) -> bool:
    return not match["signal"] and bool(match["code"]) and int(match["code"]) not in _KILLED


def _cause_of_exit(match: re.Match[str]) -> FailureCause:
    if match["oom"]:
        return FailureCause.OUT_OF_MEMORY
    return _REASONS.get(match["reason"] or "", FailureCause.CODE_ERROR)


def _in_one_line(message: str | None) -> str:
    return " ".join((message or "")[:_MAX_READ].split())


@dataclass(frozen=True)
class TimeLimits:
    """How long a job may run, and wait for its machines, in seconds; None for any time.

    Attributes:
        run: since it started.
        wait: until it starts, since it was submitted.
        run_name: the setting, for messages.
        wait_name: likewise.
    """

    run: float | None
    wait: float | None
    run_name: str
    wait_name: str

    def exceeded(self, job: JsonObject) -> str | None:
        """Return why the service itself cancelled a job; None where the job was cancelled before any limit.

        Both services cancel a job that reaches a limit, and report it as one that a user cancelled
        (https://github.com/tensorflow/tfx/issues/6223).

        Args:
            job: as the service reports it.
        """
        created, started, ended = (parse_time(job.get(key)) for key in ("createTime", "startTime", "endTime"))
        since, limit, what = (started, self.run, f"ran for {{}}, the time limit ({self.run_name})")
        if started is None:
            since, limit, what = (created, self.wait, f"waited for {{}}, the time limit ({self.wait_name})")
        if ended is None or since is None or not limit:
            return None
        took = (ended - since).total_seconds()
        return what.format(_duration_text(limit)) if limit <= took <= limit + _LATE else None


def seconds(duration: object) -> float | None:
    """Return a duration of an API (``7200s``) in seconds, without fractions; None for anything else."""
    match = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    return float(match[1]) if match else None


def _duration_text(duration: float) -> str:
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        count, rest = divmod(duration, unit)
        if count >= 1 and not rest:
            return f"{count:.0f} {name}{'' if count == 1 else 's'}"
    return f"{duration:.0f} seconds"
