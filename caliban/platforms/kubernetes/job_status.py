"""Derive the state of a job, and why it is in it, from what a cluster reports of the job and its pods. No I/O.

Sources: https://kubernetes.io/docs/concepts/workloads/controllers/job/#terminal-job-conditions and
https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from caliban.platforms.kubernetes.details import JobState, object_at
from caliban.platforms.kubernetes.job_spec import own_container
from caliban.platforms.kubernetes.pod_status import (
    Explanation,
    conditions,
    exit_code_of,
    is_preparing,
    is_started,
    lacks_image,
    of_condition,
    pod_failure,
    pod_wait,
)
from caliban.platforms.stored_json import utc_text
from caliban.records import FailureCause, JobStatus, JsonObject

_FINAL: Mapping[str, JobStatus] = {"Complete": JobStatus.SUCCEEDED, "Failed": JobStatus.FAILED}
_INTERIM = frozenset({"SuccessCriteriaMet", "FailureTarget"})
_EXPLAINED_BY_PODS = frozenset(
    {"", "BackoffLimitExceeded", "PodFailurePolicy", "FailedIndexes", "MaxFailedIndexesExceeded"}
)
"""Reasons of failed jobs for which the pods have a better one."""
_JOB_CONTROLLER = "kubernetes.io/job-controller"
_UNKNOWN_CODE = "exit code unknown, the pods of the job are deleted"
_MATCHED_CODE = re.compile(r"Container (\S+) for pod \S+ failed with exit code (\d{1,3}) matching ")
"""The message of the condition PodFailurePolicy (pkg/controller/job/pod_failure_policy.go of kubernetes/kubernetes)."""
_MATCHED_DISRUPTION = "has condition DisruptionTarget matching "


def status_of(job: JsonObject, pods: Sequence[JsonObject] = ()) -> JobStatus:
    """Return the state of a job. An interim condition announces an end that has not come: pods may still run.

    Args:
        job: as the cluster returned it.
        pods: of the job, if they are known: a job whose pods all wait for a node or an image does not run yet.
    """
    holding = {str(condition.get("type")) for condition in conditions(job)}
    for kind, status in _FINAL.items():
        if kind in holding:
            return status
    if holding & _INTERIM:
        return JobStatus.RUNNING
    if not _count(job, "active") and not _count(job, "terminating"):
        return JobStatus.SUBMITTED
    return JobStatus.SUBMITTED if pods and not any(map(is_started, pods)) else JobStatus.RUNNING


def is_suspended(job: JsonObject) -> bool:
    """Return whether a job is suspended: no pods are created for it."""
    return object_at(job, "spec").get("suspend") is True or any(True for _ in conditions(job, "Suspended"))


def needs_pods(job: JsonObject) -> bool:
    """Return whether the pods of a job may explain its state: it failed, or none of its pods is ready."""
    status = status_of(job)
    if status.is_final:
        return status is JobStatus.FAILED
    has_pods = any(_count(job, name) > 0 for name in ("active", "terminating", "failed"))
    return has_pods and not _count(job, "ready") and not is_suspended(job)


def needs_events(job: JsonObject) -> bool:
    """Return whether only events can explain the state of a job: the cluster has created no pod for it."""
    counts = ("active", "terminating", "failed", "succeeded", "ready")
    if any(_count(job, name) for name in counts) or is_suspended(job):
        return False
    return status_of(job) in (JobStatus.SUBMITTED, JobStatus.FAILED)


def needs_events_of_next_pod(job: JsonObject) -> bool:
    """Return whether only events can explain why a job has no pod for its next attempt."""
    counts = ("active", "terminating", "succeeded", "ready")
    is_between = _count(job, "failed") > 0 and not any(_count(job, name) for name in counts)
    return is_between and status_of(job) is JobStatus.SUBMITTED and not is_suspended(job)


def pods_to_explain(job: JsonObject, pods: Sequence[JsonObject]) -> list[JsonObject]:
    """Return the pods of a job that does not run yet of which only events can say why."""
    current = _current(pods)
    is_waiting = status_of(job, current) is JobStatus.SUBMITTED
    return current if is_waiting and all(is_preparing(pod) or lacks_image(pod) for pod in current) else []


def lacks_pods(job: JsonObject, pods: Sequence[JsonObject], container: str | None = None) -> bool:
    """Return whether a job failed for a reason that its pods have, and none of them tells yet.

    A list may be older than the end of the job; or they are deleted.
    """
    if status_of(job) is not JobStatus.FAILED or not _is_explained_by_pods(next(conditions(job, "Failed"))):
        return False
    own = own_container(job, container)
    return not any(pod_failure(pod, own) for pod in pods)


def state_of(
    job: JsonObject,
    pods: Sequence[JsonObject] | None = (),
    container: str | None = None,
    events: Sequence[Explanation] = (),
) -> JobState:
    """Return the state of a job; the reason comes from the newest of its pods that has one, else from the job.

    Args:
        job: as the cluster returned it.
        pods: of the job, where :func:`needs_pods` says so; None if they could not be listed.
        container: the name of its own container, if that is recorded.
        events: what events say of the job or its pods, newest first, where the pods say nothing; of a suspended job,
            what its queue says.
    """
    newest_first = sorted(pods or (), key=_age, reverse=True)
    own = own_container(job, container)
    if status_of(job) is JobStatus.FAILED:
        why = _failure(job, newest_first, own, events, are_known=pods is not None)
        code = None if why.foreign else why.exit_code
        return JobState(JobStatus.FAILED, why.text, code, why.cause, _start_time(job), _end_time(job))
    current = _current(newest_first)
    status = status_of(job, current)
    reason = None if status is JobStatus.SUCCEEDED else _pending_reason(job, newest_first, current, own, events)
    return JobState(status, reason, started=_start_time(job), ended=_end_time(job))


def _pending_reason(
    job: JsonObject,
    pods: Sequence[JsonObject],
    current: Sequence[JsonObject],
    own: str | None,
    events: Sequence[Explanation],
) -> str | None:
    """Return why a job does not run, or does not end."""
    if is_suspended(job):
        return f"suspended: {events[0].text}" if events else "suspended"
    for pod in current:
        why = pod_wait(pod, own)
        if why:
            return "; ".join(str(each.text) for each in (*events[:1], why))
    if current:
        return events[0].text if events else None
    return None if _count(job, "active") else _why_no_pod(job, pods, own, events)


def _why_no_pod(
    job: JsonObject, pods: Sequence[JsonObject], own: str | None, events: Sequence[Explanation]
) -> str | None:
    """Return why a job has no pod: none could be created, the last one failed, or another controller has the job."""
    failure = next(filter(None, (pod_failure(pod, own) for pod in pods)), None)
    if failure:
        last = f"waiting for the next attempt after: {failure.text}"
        since = str(object_at(pods[0], "metadata").get("creationTimestamp") or "")[:19]
        return f"{last}; {events[0].text}" if events and events[0].time > since else last
    if events:
        return events[0].text
    manager = object_at(job, "spec").get("managedBy")
    return f"managed by {manager}" if isinstance(manager, str) and manager not in ("", _JOB_CONTROLLER) else None


def _failure(
    job: JsonObject,
    pods: Sequence[JsonObject],
    own: str | None,
    events: Sequence[Explanation],
    *,
    are_known: bool,
) -> Explanation:
    condition = next(conditions(job, "Failed"))
    of_job = of_condition(condition)
    if not _is_explained_by_pods(condition):
        code = next((code for pod in pods if (code := exit_code_of(pod, own))), None)
        if code is not None and of_job.cause is FailureCause.TIMEOUT:
            return replace(of_job, exit_code=code)
        also = f"{of_job.message}; {events[0].text}" if events and not pods else of_job.message
        return replace(of_job, message=also)
    found = next(filter(None, (pod_failure(pod, own) for pod in pods)), None)
    if found or pods or not are_known:
        return found or of_job
    return _without_pods(of_job, own, events)


def _without_pods(of_job: Explanation, own: str | None, events: Sequence[Explanation]) -> Explanation:
    """Return why a job failed whose pods are deleted: by its condition, then by events."""
    matched = _MATCHED_CODE.search(of_job.message)
    if matched and matched[1] == own:
        return Explanation("", exit_code=int(matched[2]))
    if matched:
        return Explanation("", of_job.message, int(matched[2]), matched[1])
    cause = FailureCause.INFRASTRUCTURE if _MATCHED_DISRUPTION in of_job.message else None
    if events:
        cause = events[0].cause
    said = [of_job.message, *(each.text for each in events[:1]), _UNKNOWN_CODE]
    return replace(of_job, message="; ".join(filter(None, said)), known_cause=cause)


def _is_explained_by_pods(failed: JsonObject) -> bool:
    return str(failed.get("reason") or "") in _EXPLAINED_BY_PODS


def _current(pods: Sequence[JsonObject]) -> list[JsonObject]:
    """Return the pods that have not ended."""
    return [pod for pod in pods if object_at(pod, "status").get("phase") not in ("Succeeded", "Failed")]


def _start_time(job: JsonObject) -> str | None:
    return utc_text(object_at(job, "status").get("startTime"))


def _end_time(job: JsonObject) -> str | None:
    """Return when a job ended. ``completionTime`` is set for jobs that succeeded only."""
    final: Iterator[JsonObject] = (condition for kind in _FINAL for condition in conditions(job, kind))
    found = next(final, {})
    return utc_text(object_at(job, "status").get("completionTime")) or utc_text(found.get("lastTransitionTime"))


def _age(pod: JsonObject) -> tuple[str, str]:
    """Return what pods are sorted by: several may be created in one second."""
    created = object_at(pod, "metadata").get("creationTimestamp")
    return str(created or ""), str(object_at(pod, "status").get("startTime") or "")


def _count(job: JsonObject, name: str) -> int:
    value = object_at(job, "status").get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
