"""Derive the state of a job, and why it is in it, from what a cluster reports of the job and its pods. No I/O.

Sources: https://kubernetes.io/docs/concepts/workloads/controllers/job/#terminal-job-conditions,
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and
https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from caliban.platforms.kubernetes.details import JobState, cause_of, object_at
from caliban.platforms.kubernetes.job_spec import own_container
from caliban.platforms.stored_json import one_line, utc_text
from caliban.records import FailureCause, JobStatus, JsonObject

_FINAL: Mapping[str, JobStatus] = {"Complete": JobStatus.SUCCEEDED, "Failed": JobStatus.FAILED}
_INTERIM = frozenset({"SuccessCriteriaMet", "FailureTarget"})
_EXPLAINED_BY_PODS = frozenset({"BackoffLimitExceeded", "PodFailurePolicy"})
"""Reasons of failed jobs for which the pods have a better one."""
_NORMAL_WAITS = frozenset({"ContainerCreating", "PodInitializing"})
"""Why a container waits that nothing is wrong with."""


@dataclass(frozen=True)
class _Explanation:
    """Why a job failed or waits.

    Attributes:
        reason: Kubernetes' name for it: ``OOMKilled``, ``Evicted``, ``unschedulable``; "" for a plain exit code.
        message: more about it, or "".
        exit_code: of the container that it is about, or None.
        foreign: the name of that container, where it is not the job's own, but one that a policy or service mesh added.
    """

    reason: str
    message: str = ""
    exit_code: int | None = None
    foreign: str | None = None

    @property
    def text(self) -> str | None:
        """``OOMKilled, exit code 137``, ``Evicted: The node was low on resource: memory.``, in one line."""
        place = f"in the container {self.foreign}" if self.foreign else ""
        code = "" if self.exit_code is None else f"exit code {self.exit_code}"
        what = ", ".join(filter(None, (self.reason, code)))
        return one_line(": ".join(filter(None, (place, what, self.message))))

    @property
    def cause(self) -> FailureCause:
        """The kind of failure."""
        if self.foreign is None:
            return cause_of(self.reason, self.exit_code)
        cause = cause_of(self.reason, None)
        return FailureCause.INFRASTRUCTURE if cause is FailureCause.UNKNOWN else cause


def status_of(job: JsonObject) -> JobStatus:
    """Return the state of a job. An interim condition announces an end that has not come: pods may still run."""
    holding = {str(condition.get("type")) for condition in _conditions(job)}
    for kind, status in _FINAL.items():
        if kind in holding:
            return status
    if holding & _INTERIM or _count(job, "active"):
        return JobStatus.RUNNING
    return JobStatus.SUBMITTED


def needs_pods(job: JsonObject) -> bool:
    """Return whether the pods of a job may explain its state: it failed, or none of its pods is ready."""
    status = status_of(job)
    is_waiting = not status.is_final and not _count(job, "ready") and not _is_suspended(job)
    return status is JobStatus.FAILED or (is_waiting and _count(job, "active") > 0)


def state_of(job: JsonObject, pods: Sequence[JsonObject] = (), container: str | None = None) -> JobState:
    """Return the state of a job; the reason comes from the newest of its pods that has one, else from the job.

    Args:
        job: as the cluster returned it.
        pods: of the job, where :func:`needs_pods` says so and they could be listed.
        container: the name of its own container, if that is recorded.
    """
    status = status_of(job)
    started, ended = utc_text(object_at(job, "status").get("startTime")), _end_time(job)
    newest_first = sorted(pods, key=_created, reverse=True)
    if status is JobStatus.FAILED:
        why = _failure(job, newest_first, own_container(job, container))
        code = None if why.foreign else why.exit_code
        return JobState(status, why.text, code, why.cause, started, ended)
    reason = None
    if status is not JobStatus.SUCCEEDED:
        reason = "suspended" if _is_suspended(job) else _first_text(map(_wait, newest_first))
    return JobState(status, reason, started=started, ended=ended)


def _failure(job: JsonObject, pods: Sequence[JsonObject], own: str | None) -> _Explanation:
    failed = next(_conditions(job, "Failed"))
    found = None
    if str(failed.get("reason")) in _EXPLAINED_BY_PODS:
        found = next(filter(None, (_pod_failure(pod, own) for pod in pods)), None)
    return found or _of_condition(failed)


def _pod_failure(pod: JsonObject, own: str | None) -> _Explanation | None:
    """Return how a pod failed: evicted, disrupted, by the exit code of a container, or never started."""
    status = object_at(pod, "status")
    if status.get("reason"):  # of the whole pod: Evicted, for example
        return _Explanation(str(status["reason"]), str(status.get("message") or ""))
    disruption = next(_conditions(pod, "DisruptionTarget"), None)
    if disruption is not None:
        return _of_condition(disruption)
    beside = _objects(status, "containerStatuses")
    is_alone = own is None and len(beside) == 1
    containers = [(each, not is_alone and each.get("name", own) != own) for each in beside]
    containers += [(each, True) for each in _objects(status, "initContainerStatuses")]
    for each, is_foreign in sorted(containers, key=lambda pair: pair[1]):
        ended = object_at(each, "state", "terminated") or object_at(each, "lastState", "terminated")
        code = ended.get("exitCode")
        if isinstance(code, int) and not isinstance(code, bool) and code != 0:
            reason = str(ended.get("reason") or "Error")
            message = str(ended.get("message") or "").strip()
            foreign = str(each.get("name") or "another one") if is_foreign else None
            return _Explanation("" if reason == "Error" else reason, message, code, foreign)
    return _wait(pod)


def _wait(pod: JsonObject) -> _Explanation | None:
    """Return what keeps a pod from running; None where nothing is wrong with it."""
    status = object_at(pod, "status")
    for container in (*_objects(status, "initContainerStatuses"), *_objects(status, "containerStatuses")):
        waiting = object_at(container, "state", "waiting")
        if waiting and str(waiting.get("reason")) not in _NORMAL_WAITS:
            return _Explanation(str(waiting.get("reason") or "waiting"), str(waiting.get("message") or ""))
    for condition in _objects(status, "conditions"):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _Explanation("unschedulable", str(condition.get("message") or ""))
    return None


def _first_text(explanations: Iterator[_Explanation | None]) -> str | None:
    return next((each.text for each in explanations if each), None)


def _of_condition(condition: JsonObject) -> _Explanation:
    return _Explanation(str(condition.get("reason") or condition.get("type")), str(condition.get("message") or ""))


def _end_time(job: JsonObject) -> str | None:
    """Return when a job ended. ``completionTime`` is set for jobs that succeeded only."""
    final = next((condition for kind in _FINAL for condition in _conditions(job, kind)), {})
    return utc_text(object_at(job, "status").get("completionTime")) or utc_text(final.get("lastTransitionTime"))


def _is_suspended(job: JsonObject) -> bool:
    return object_at(job, "spec").get("suspend") is True or any(True for _ in _conditions(job, "Suspended"))


def _conditions(of: JsonObject, kind: str | None = None) -> Iterator[JsonObject]:
    """Yield the conditions that hold, all or those of one type."""
    for condition in _objects(object_at(of, "status"), "conditions"):
        if condition.get("status") == "True" and kind in (None, condition.get("type")):
            yield condition


def _created(pod: JsonObject) -> str:
    return str(object_at(pod, "metadata").get("creationTimestamp") or "")


def _count(job: JsonObject, name: str) -> int:
    value = object_at(job, "status").get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _objects(parent: JsonObject, name: str) -> list[Mapping[str, object]]:
    value = parent.get(name)
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
