"""What a cluster says of a job and its pods -> the job's state, and why it is in it; pure.

Sources: https://kubernetes.io/docs/concepts/workloads/controllers/job/#terminal-job-conditions,
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and
https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from caliban.records import JobStatus, JsonObject

_FINAL: Mapping[str, JobStatus] = {"Complete": JobStatus.SUCCEEDED, "Failed": JobStatus.FAILED}
_INTERIM = frozenset({"SuccessCriteriaMet", "FailureTarget"})
_SHOWN_BY_PODS = frozenset({"BackoffLimitExceeded", "PodFailurePolicy"})
"""Why a job failed, where its pods know better."""
_SUSPENDED = "suspended"
_REASON_LENGTH = 300
# What a container waits for that has not gone wrong.
_USUAL_WAITS = frozenset({"ContainerCreating", "PodInitializing"})


def status_of(job: JsonObject) -> JobStatus:
    """A job's state. An interim condition promises an end that has not come: pods may still run."""
    holding = {str(condition["type"]) for condition in _holding(job)}
    for kind, status in _FINAL.items():
        if kind in holding:
            return status
    if holding & _INTERIM or _count(job, "active"):
        return JobStatus.RUNNING
    return JobStatus.SUBMITTED


def needs_pods(job: JsonObject) -> bool:
    """Whether its pods may tell more than the job does: it failed, or nothing of it runs."""
    status = status_of(job)
    is_waiting = not status.is_final and not _count(job, "ready") and not _is_suspended(job)
    return status is JobStatus.FAILED or (is_waiting and _count(job, "active") > 0)


def reason_of(job: JsonObject, pods: Sequence[JsonObject]) -> str | None:
    """Why a job is in its state, in a line: of its pods, the last one first, else of the job; None for nothing odd."""
    status = status_of(job)
    if status is JobStatus.SUCCEEDED:
        return None
    if status is not JobStatus.FAILED and _is_suspended(job):
        return _SUSPENDED
    newest_first = sorted(pods, key=_created, reverse=True)
    if status is not JobStatus.FAILED:
        return _line(next(filter(None, map(_waiting, newest_first)), ""))
    failed = next(_holding(job, "Failed"))
    of_pods = next(filter(None, map(_failure, newest_first)), "") if failed.get("reason") in _SHOWN_BY_PODS else ""
    return _line(of_pods or _words(failed))


def _is_suspended(job: JsonObject) -> bool:
    return _object(job, "spec").get("suspend") is True or any(True for _ in _holding(job, "Suspended"))


def _failure(pod: JsonObject) -> str:
    """How a pod failed: thrown out, ended from outside, by its program's exit, or never begun."""
    status = _object(pod, "status")
    if status.get("reason"):  # of the whole pod: Evicted, for example
        return _told(str(status["reason"]), str(status.get("message") or ""))
    disruption = next(_holding(pod, "DisruptionTarget"), None)
    if disruption is not None:
        return _words(disruption)
    for container in _containers(status):
        state, before = _object(container, "state"), _object(container, "lastState")
        ended = _object(state, "terminated") or _object(before, "terminated")
        if ended and ended.get("exitCode") != 0:
            return _exit(ended)
    return _waiting(pod)


def _exit(ended: JsonObject) -> str:
    """``OOMKilled, exit code 137``."""
    reason = str(ended.get("reason") or "Error")
    code = f"exit code {ended.get('exitCode')}"
    return _told(code if reason == "Error" else f"{reason}, {code}", str(ended.get("message") or "").strip())


def _waiting(pod: JsonObject) -> str:
    """What keeps a pod from running."""
    status = _object(pod, "status")
    for container in _containers(status):
        waits = _object(_object(container, "state"), "waiting")
        if waits and waits.get("reason") not in _USUAL_WAITS:
            return _told(str(waits.get("reason") or "waiting"), str(waits.get("message") or ""))
    for condition in _objects(status, "conditions"):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _told("unschedulable", str(condition.get("message") or ""))
    return ""


def _containers(status: JsonObject) -> Iterator[JsonObject]:
    """What is said of a pod's containers, those first that prepare it: a mesh or a policy may add such."""
    yield from _objects(status, "initContainerStatuses")
    yield from _objects(status, "containerStatuses")


def _holding(of: JsonObject, kind: str | None = None) -> Iterator[JsonObject]:
    """The conditions that hold, all or those of one type."""
    for condition in _objects(_object(of, "status"), "conditions"):
        if condition.get("status") == "True" and kind in (None, condition.get("type")):
            yield condition


def _words(condition: JsonObject) -> str:
    return _told(str(condition.get("reason") or condition.get("type")), str(condition.get("message") or ""))


def _told(reason: str, message: str) -> str:
    return f"{reason}: {message}" if message else reason


def _line(words: str) -> str | None:
    return " ".join(words.split())[:_REASON_LENGTH] or None


def _created(pod: JsonObject) -> str:
    return str(_object(pod, "metadata").get("creationTimestamp") or "")


def _count(job: JsonObject, name: str) -> int:
    value = _object(job, "status").get(name)
    return value if isinstance(value, int) else 0


def _object(parent: JsonObject, name: str) -> Mapping[str, object]:
    value = parent.get(name)
    return value if isinstance(value, Mapping) else {}


def _objects(parent: JsonObject, name: str) -> list[Mapping[str, object]]:
    value = parent.get(name)
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
