"""Explain why a pod failed, or does not run, from what a cluster reports of it. No I/O.

Sources: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/,
https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/ and
https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from caliban.platforms.kubernetes.details import object_at, objects_in
from caliban.platforms.kubernetes.failure_reasons import NODE_LOSSES, cause_of, cluster_cause_of, is_spot_selector
from caliban.platforms.stored_json import one_line, parse_time
from caliban.records import FailureCause, JsonObject
from caliban.redaction import clean_text

_NORMAL_WAITS = frozenset({"ContainerCreating", "PodInitializing"})
"""Why a container waits that nothing is wrong with."""
_NOT_RUN_TO_ITS_END = frozenset({"ContainerStatusUnknown"})
"""Reasons of containers whose exit code the kubelet made up, as it lost them."""
_PULL_FAILURES = frozenset({"ErrImagePull", "ImagePullBackOff"})
_DEFAULT_SCHEDULER = "default-scheduler"
_KILLED = 137
_STOPPED_FROM_OUTSIDE = frozenset({_KILLED, 143})


@dataclass(frozen=True)
class Explanation:
    """Why a job failed or waits.

    Attributes:
        reason: Kubernetes' name for it: ``OOMKilled``, ``Evicted``, ``unschedulable``; "" for a plain exit code.
        message: more about it, or "".
        exit_code: of the container that it is about, or None.
        foreign: the name of that container, where it is not the job's own, but one that a policy or service mesh added.
        known_cause: the kind of failure, where more than the reason says which.
        time: when it was reported (``2026-11-25T13:00:00``), or "".
    """

    reason: str
    message: str = ""
    exit_code: int | None = None
    foreign: str | None = None
    known_cause: FailureCause | None = None
    time: str = ""

    @property
    def text(self) -> str | None:
        """``OOMKilled, exit code 137``, ``Evicted: The node was low on resource: memory.``, in one line.

        Without secrets: the message of a container may be the end of its output.
        """
        place = f"in the container {self.foreign}" if self.foreign else ""
        code = "" if self.exit_code is None else f"exit code {self.exit_code}"
        what = ", ".join(filter(None, (self.reason, code)))
        return one_line(clean_text(": ".join(filter(None, (place, what, self.message)))))

    @property
    def cause(self) -> FailureCause:
        """The kind of failure."""
        if self.known_cause is not None:
            return self.known_cause
        return cause_of(self.reason, self.exit_code) if self.foreign is None else cluster_cause_of(self.reason)


def pod_failure(pod: JsonObject, own: str | None) -> Explanation | None:
    """Return how a pod failed: evicted, disrupted, by the exit code of a container, or never started.

    Args:
        pod: as the cluster returned it.
        own: the name of the job's own container; None if it cannot be told from others.
    """
    by_own, by_others = _container_failures(pod, own)
    return _before_disruption(pod, own, by_own) or _pod_end(pod) or by_own or by_others or pod_wait(pod, own)


def pod_wait(pod: JsonObject, own: str | None = None) -> Explanation | None:
    """Return what keeps a pod from running, or from ending; None where nothing is wrong with it."""
    status = object_at(pod, "status")
    if status.get("reason") or _is_deleted(pod):
        end, lost = _pod_end(pod), _lost_node(pod)
        return replace(end, message=f"{end.message}; {lost.message}") if end and lost else end or lost
    for container, is_foreign in _containers(pod, own):
        waiting = object_at(container, "state", "waiting")
        if waiting and str(waiting.get("reason")) not in _NORMAL_WAITS:
            reason, message = str(waiting.get("reason") or "waiting"), str(waiting.get("message") or "")
            code = _exit_code(object_at(container, "lastState", "terminated"))
            named = isinstance(container.get("name"), str)
            return Explanation(reason, message, code, _foreign_name(container) if is_foreign and named else None)
    if not is_started(pod) and (failed := _container_failures(pod, own)[1]):
        return failed  # of an init container or native sidecar that will be restarted: so before Kubernetes 1.36
    for condition in objects_in(status, "conditions"):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            reason = str(condition.get("reason") or "Unschedulable")
            shown = "unschedulable" if reason == "Unschedulable" else reason
            return Explanation(shown, str(condition.get("message") or ""))
    return _kept_open(pod, own) or _lost_node(pod) or _unknown_scheduler(pod)


def is_preparing(pod: JsonObject) -> bool:
    """Return whether a pod has its node and does not run, and only events can say why.

    Its images are pulled, its volumes mounted, its network set up: ``ContainerCreating`` for all that.
    """
    is_placed = bool(object_at(pod, "spec").get("nodeName"))
    return is_placed and not is_started(pod) and not _is_deleted(pod) and pod_wait(pod) is None


def lacks_image(pod: JsonObject) -> bool:
    """Return whether an image of a pod that names pull secrets cannot be pulled: one of them may be missing."""
    why = pod_wait(pod)
    has_secrets = bool(objects_in(object_at(pod, "spec"), "imagePullSecrets"))
    return has_secrets and why is not None and why.reason in _PULL_FAILURES


def is_started(pod: JsonObject) -> bool:
    """Return whether a pod has its node, its images and its containers: whether the job runs."""
    return object_at(pod, "status").get("phase") != "Pending"


def conditions(of: JsonObject, kind: str | None = None) -> Iterator[JsonObject]:
    """Yield the conditions of a job or pod that hold, all or those of one type."""
    for condition in objects_in(object_at(of, "status"), "conditions"):
        if condition.get("status") == "True" and kind in (None, condition.get("type")):
            yield condition


def of_condition(condition: JsonObject) -> Explanation:
    """Return what a condition says."""
    return Explanation(str(condition.get("reason") or condition.get("type")), str(condition.get("message") or ""))


def exit_code_of(pod: JsonObject, own: str | None) -> int | None:
    """Return the exit code of the job's own container, also 0; None while it runs, or where it is not known."""
    for container, is_foreign in _containers(pod, own):
        ended = object_at(container, "state", "terminated")
        if not is_foreign and str(ended.get("reason")) not in _NOT_RUN_TO_ITS_END:
            return _exit_code(ended)
    return None


def _pod_end(pod: JsonObject) -> Explanation | None:
    """Return what the cluster did to a whole pod; on a Spot VM, a lost node was taken back."""
    status = object_at(pod, "status")
    if status.get("reason"):
        found = Explanation(str(status["reason"]), str(status.get("message") or ""))
    else:
        disruption = next(conditions(pod, "DisruptionTarget"), None)
        if disruption is None:
            return None
        found = of_condition(disruption)
    is_taken_back = found.reason in NODE_LOSSES and is_spot_selector(object_at(pod, "spec", "nodeSelector"))
    cause = FailureCause.PREEMPTED if is_taken_back else cluster_cause_of(found.reason)
    return replace(found, known_cause=cause)


def _before_disruption(pod: JsonObject, own: str | None, failure: Explanation | None) -> Explanation | None:
    """Return how the own container failed before the pod was ended: what happens to its sidecars is no cause."""
    since = _end_from_outside(pod)
    if failure is None or since is None or failure.exit_code in _STOPPED_FROM_OUTSIDE:
        return None
    for container, is_foreign in _containers(pod, own):
        ended = parse_time(object_at(container, "state", "terminated").get("finishedAt"))
        if not is_foreign:
            return failure if ended and ended < since else None
    return None


def _end_from_outside(pod: JsonObject) -> datetime | None:
    """Return when a pod was disrupted, or its deadline passed; None where neither is known."""
    disruption = next(conditions(pod, "DisruptionTarget"), None)
    if disruption is not None:
        return parse_time(disruption.get("lastTransitionTime"))
    status, seconds = object_at(pod, "status"), object_at(pod, "spec").get("activeDeadlineSeconds")
    started = parse_time(status.get("startTime"))
    if status.get("reason") != "DeadlineExceeded" or started is None or not isinstance(seconds, int):
        return None
    with suppress(OverflowError):
        return started + timedelta(seconds=seconds)
    return None


def _container_failures(pod: JsonObject, own: str | None) -> tuple[Explanation | None, Explanation | None]:
    """Return how the job's own container failed, and how another one did."""
    failures: list[Explanation] = []
    for container, is_foreign in _containers(pod, own):
        ended = object_at(container, "state", "terminated") or object_at(container, "lastState", "terminated")
        code = _exit_code(ended)
        if not code:
            continue
        reason, message = str(ended.get("reason") or "Error"), str(ended.get("message") or "").strip()
        shown = "" if reason == "Error" else reason
        known = None if reason in _NOT_RUN_TO_ITS_END else code
        failures.append(Explanation(shown, message, known, _foreign_name(container) if is_foreign else None))
    by_own = next((each for each in failures if each.foreign is None), None)
    by_others = [each for each in failures if each.foreign is not None]
    is_short = object_at(pod, "spec", "resources", "limits").get("memory") or any(
        each.reason == "OOMKilled" for each in by_others
    )
    if by_own and not by_own.reason and by_own.exit_code == _KILLED and is_short:
        by_own = replace(by_own, known_cause=FailureCause.OUT_OF_MEMORY)  # of the limit that all containers share
    return by_own, next(iter(by_others), None)


def _kept_open(pod: JsonObject, own: str | None) -> Explanation | None:
    """Return which container keeps a pod open although the job's own one has ended."""
    code = exit_code_of(pod, own)
    restarted = _restarted_init_containers(pod)
    running = [
        str(each.get("name") or "another one")
        for each, is_foreign in _containers(pod, own)
        if is_foreign and object_at(each, "state", "running") and each.get("name") not in restarted
    ]
    if code is None or not running:
        return None
    return Explanation(f"the program has ended with exit code {code}, but the container {running[0]} still runs")


def _lost_node(pod: JsonObject) -> Explanation | None:
    """Return that the node of a pod does not respond: its containers are ready by their last report, the pod is not.

    The node lifecycle controller sets nothing but the status of that condition (MarkPodsNotReady in
    pkg/controller/util/node/controller_utils.go of kubernetes/kubernetes); the kubelet would give a reason.
    """
    found = {str(condition.get("type")): condition for condition in objects_in(object_at(pod, "status"), "conditions")}
    ready, of_containers = found.get("Ready", {}), found.get("ContainersReady", {})
    is_marked = ready.get("status") in ("False", "Unknown") and not ready.get("reason")
    if not is_marked or of_containers.get("status") != "True":
        return None
    node = object_at(pod, "spec").get("nodeName")
    name = f"the node {node}" if isinstance(node, str) and node else "its node"
    return Explanation("NodeNotReady", f"{name} does not respond")


def _unknown_scheduler(pod: JsonObject) -> Explanation | None:
    """Return which scheduler has said nothing of a pod yet: where it is not installed, the pod waits forever."""
    spec, status = object_at(pod, "spec"), object_at(pod, "status")
    scheduler = spec.get("schedulerName")
    is_scheduled = spec.get("nodeName") or status.get("phase") != "Pending" or status.get("conditions")
    if is_scheduled or not isinstance(scheduler, str) or scheduler in ("", _DEFAULT_SCHEDULER):
        return None
    return Explanation(f"not scheduled yet by the scheduler {scheduler}")


def _containers(pod: JsonObject, own: str | None) -> list[tuple[Mapping[str, object], bool]]:
    """Return the status of each container, and whether it is foreign; the job's own first, native sidecars last."""
    status = object_at(pod, "status")
    beside = objects_in(status, "containerStatuses")
    is_alone = own is None and len(beside) == 1
    found = [(each, not is_alone and each.get("name", own) != own) for each in beside]
    restarted = _restarted_init_containers(pod)
    found += [(each, True) for each in objects_in(status, "initContainerStatuses")]
    return sorted(found, key=lambda pair: (pair[1], pair[0].get("name") in restarted))


def _restarted_init_containers(pod: JsonObject) -> list[object]:
    """Return the names of the native sidecars, whose ends mean nothing."""
    return [
        each.get("name")
        for each in objects_in(object_at(pod, "spec"), "initContainers")
        if each.get("restartPolicy") == "Always"
    ]


def _foreign_name(container: JsonObject) -> str:
    return str(container.get("name") or "another one")


def _exit_code(ended: JsonObject) -> int | None:
    code = ended.get("exitCode")
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def _is_deleted(pod: JsonObject) -> bool:
    return bool(object_at(pod, "metadata").get("deletionTimestamp"))
