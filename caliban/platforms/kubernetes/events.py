"""Read what events say of jobs that have no pods, or whose pods cannot start. No I/O.

Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/. A cluster keeps events for an
hour, unless it is configured otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from caliban.platforms.kubernetes.details import object_at
from caliban.platforms.kubernetes.failure_reasons import cluster_cause_of
from caliban.platforms.kubernetes.job_spec import own_container
from caliban.platforms.kubernetes.pod_status import Explanation, is_preparing
from caliban.records import JsonObject

JOB_EVENTS = "involvedObject.kind=Job,type=Warning"
POD_EVENTS = "involvedObject.kind=Pod"
"""Field selectors. Not only warnings: the scheduler reports a preemption as a normal event."""

_OF_JOBS = frozenset({"FailedCreate"})
_OF_PODS = frozenset({"Evicted", "Preempted", "Preempting", "TaintManagerEviction", "NodeNotReady"})
_OF_WAITING_PODS = frozenset(
    {
        *("FailedAttachVolume", "FailedMount", "FailedMapVolume", "FailedCreatePodSandBox", "NetworkNotReady"),
        *("FailedCreatePodContainer", "FailedPrepareDynamicResources", "NodeNotReady", "Pulling"),
        *("SuccessfulAttachVolume", "Pulled", "Created", "Started"),
    }
)
"""What is reported of pods that show nothing but ``ContainerCreating``: the newest counts.

Sources: pkg/kubelet/events/event.go, pkg/controller/volume/events/event.go and pkg/kubelet/kubelet.go of
kubernetes/kubernetes."""
_NO_PULL_SECRET = "FailedToRetrieveImagePullSecret"
"""Of a pod that names a secret which does not exist; the state of its container shows only that the pull failed."""
_NOTHING_WRONG = frozenset({"SuccessfulAttachVolume", "Pulled", "Created", "Started"})
_STOPPED = "Killing"
"""What a kubelet reports of a container that runs when its pod is deleted, as after an eviction through the API. It
says least, so other events come first."""


def explanations(events: Iterable[JsonObject], jobs: Sequence[JsonObject]) -> dict[str, list[Explanation]]:
    """Return what events say of each job or its pods, by the job's name, the newest and most telling first.

    Args:
        events: of a namespace.
        jobs: as the cluster returned them.
    """
    names = {str(object_at(job, "metadata").get("name")): object_at(job, "metadata").get("uid") for job in jobs}
    indexed = {str(object_at(job, "metadata").get("name")) for job in jobs if _is_indexed(job)}
    own = {str(object_at(job, "metadata").get("name")): own_container(job) for job in jobs}
    found: dict[str, list[tuple[bool, str, Explanation]]] = {}
    for event in events:
        about, reason = object_at(event, "involvedObject"), str(event.get("reason"))
        name, message = str(about.get("name") or ""), str(event.get("message") or "")
        if about.get("kind") == "Pod" and (reason in _OF_PODS or reason == _STOPPED):
            name = _job_of_pod(name, indexed)
            if reason == _STOPPED and message.rpartition(" ")[2] != own.get(name):
                continue
        elif about.get("kind") != "Job" or reason not in _OF_JOBS or about.get("uid") != names.get(name):
            continue
        if name in names:
            said = Explanation(reason, message, known_cause=cluster_cause_of(reason), time=_time(event))
            found.setdefault(name, []).append((reason != _STOPPED, _time(event), said))
    return {
        name: [said for *_, said in sorted(each, key=lambda one: one[:2], reverse=True)] for name, each in found.items()
    }


def of_waiting_pods(events: Iterable[JsonObject], pods: Mapping[str, Sequence[JsonObject]]) -> dict[str, Explanation]:
    """Return the newest event that says what the pods of a job wait for, by the job's name.

    Args:
        events: of the pods of a namespace.
        pods: by the name of their job. Of one whose image cannot be pulled only a missing secret says more.
    """
    jobs = {str(object_at(pod, "metadata").get("uid")): (name, pod) for name, each in pods.items() for pod in each}
    found: dict[str, Explanation] = {}
    for event in events:
        reason, message, time = str(event.get("reason")), str(event.get("message") or ""), _time(event)
        job, pod = jobs.get(str(object_at(event, "involvedObject").get("uid")), (None, {}))
        telling = _OF_WAITING_PODS if is_preparing(pod) else {_NO_PULL_SECRET}
        if job is not None and reason in telling and (job not in found or found[job].time <= time):
            found[job] = Explanation("" if reason == "Pulling" else reason, message, time=time)
    return {name: said for name, said in found.items() if said.reason not in _NOTHING_WRONG}


def _is_indexed(job: JsonObject) -> bool:
    return object_at(job, "spec").get("completionMode") == "Indexed"


def _job_of_pod(name: str, indexed: set[str]) -> str:
    """Return the job whose pods have names like this one: ``JOB-abcde``, of an indexed job ``JOB-0-abcde``."""
    job = name.rpartition("-")[0]
    return job.rpartition("-")[0] if job.rpartition("-")[0] in indexed else job


def _time(event: JsonObject) -> str:
    times = (
        object_at(event, "series").get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        object_at(event, "metadata").get("creationTimestamp"),
    )
    return str(next(filter(None, times), ""))[:19]
