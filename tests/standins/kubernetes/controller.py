"""The controller of Jobs, step by step: a test says what befalls a pod, and the Job follows as it does on a cluster.

Sources: ``pkg/controller/job/job_controller.go`` and ``pod_failure_policy.go`` of kubernetes/kubernetes;
https://kubernetes.io/docs/concepts/workloads/controllers/job/ (``SuccessCriteriaMet`` and ``FailureTarget`` come
before ``Complete`` and ``Failed`` since 1.31).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.standins.kubernetes.logs import Logs
from tests.standins.kubernetes.pods import (
    ACTIVE,
    new_pod,
    set_disrupted,
    set_ended,
    set_lost,
    set_restarting,
    set_running,
    set_unschedulable,
    set_waiting,
)
from tests.standins.kubernetes.state import Object, State, now
from tests.standins.kubernetes.status import EVENTS, JOBS, PODS, Resource, StatusError

_INTERIM = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}
_INTERIM_SINCE = (1, 31)
_TERMINATING_SINCE = (1, 29)
_PREEMPTING = "default-scheduler: preempting to accommodate a higher priority pod"
_EVICTING = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "


class JobController:
    """The steps. Each names a Job, and its namespace where that is not ``default``.

    A step that ends something takes ``is_final``: without it, the Job stays at its interim condition until
    :meth:`conclude`, as it does on a cluster while pods still go.
    """

    def __init__(self, state: State, version: str, logs: Logs | None = None) -> None:
        self._state = state
        self._logs = logs or Logs(state)
        major, minor = version.split(".")
        self._version = (int(major), int(minor))
        self._has_interim = self._version >= _INTERIM_SINCE

    def step(self, step: str, name: str, **arguments: Any) -> None:
        """One of the steps below, by its name.

        Raises:
            ValueError: there is no such step, or no such Job, or it cannot be taken now.
            TypeError: the step takes other arguments.
        """
        if step not in _STEPS:
            raise ValueError(f"There is no step {step}, but {', '.join(_STEPS)}.")
        try:
            getattr(self, step)(name, **arguments)
        except StatusError as error:
            raise ValueError(str(error)) from error

    def get(self, name: str, namespace: str = "default") -> Object:
        """The Job, for a test to look at."""
        return self._state.get(JOBS, namespace, name)

    def pods(self, name: str, namespace: str = "default") -> list[Object]:
        """The Job's pods, the oldest first."""
        return self._state.pods_of(self.get(name, namespace))

    def goes_on(self, job: Mapping[str, Any]) -> bool:
        """Whether this very Job, not another one of its name, is still there and neither suspended nor ended."""
        metadata = job["metadata"]
        found = self._state.items(JOBS, metadata["namespace"], lambda item: item["metadata"]["uid"] == metadata["uid"])
        return bool(found) and not found[0]["spec"]["suspend"] and finished(found[0]) is None

    @contextmanager
    def only_for(self, job: Mapping[str, Any]) -> Iterator[None]:
        """Steps that are for this very Job: another one of its name cannot take its place meanwhile.

        Raises:
            ValueError: it does not go on.
        """
        with self._state.lock:
            if not self.goes_on(job):
                raise ValueError(f"The Job {job['metadata']['name']} does not go on.")
            yield

    def accepted(self, job: Mapping[str, Any]) -> None:
        """See a new Job: only one that is suspended changes by that."""
        if job["spec"]["suspend"] and job["spec"]["completionMode"] == "NonIndexed":
            self.suspend(job["metadata"]["name"], job["metadata"]["namespace"])

    def create_pod(self, name: str, namespace: str = "default") -> None:
        """Let there be a pod that waits for its node."""
        with self._job(name, namespace) as job:
            self._active_pod(job)

    def start(self, name: str, namespace: str = "default") -> None:
        """Let a pod's container run: that of the pod that waits, or of a new one."""
        self._with_pod(name, namespace, set_running)

    def write(self, name: str, data: str | bytes, namespace: str = "default") -> None:
        """Let the container of the Job's last pod write.

        Raises:
            ValueError: it has no pod.
        """
        pods = self.pods(name, namespace)
        if not pods:
            raise ValueError(f"The Job {name} has no pod.")
        self._logs.write(pods[-1], data.encode() if isinstance(data, str) else data)

    def image_pull_fails(
        self, name: str, message: str = "", namespace: str = "default", reason: str = "ImagePullBackOff"
    ) -> None:
        """Let the node not get the image."""

        def wait(pod: Object) -> None:
            image = pod["spec"]["containers"][0]["image"]
            words = f'Back-off pulling image "{image}"' if reason == "ImagePullBackOff" else ""
            set_waiting(pod, reason, ": ".join(filter(None, [words, message])))

        self._with_pod(name, namespace, wait)

    def cannot_create_pods(self, name: str, message: str, namespace: str = "default") -> None:
        """Let the API server refuse the Job's pods: a quota, a LimitRange, PodSecurity, a webhook."""
        with self._job(name, namespace) as job:
            self._report(JOBS, job, "FailedCreate", f"Error creating: {message}")

    def pod_event(self, name: str, reason: str, message: str, namespace: str = "default", type: str = "Normal") -> None:
        """Let the cluster report something of the Job's last pod."""
        self._report(PODS, self.pods(name, namespace)[-1], reason, message, type)

    def lose_node(self, name: str, namespace: str = "default") -> None:
        """Let the node of the running pod not report any more.

        Raises:
            ValueError: no pod runs.
        """
        with self._job(name, namespace) as job:
            pod = self._active_pod(job)
            if not _is_ready(pod):
                raise ValueError(f"The Job {name} has no pod that runs.")
            set_lost(pod)
            self._put(pod)

    def unschedulable(self, name: str, message: str, namespace: str = "default") -> None:
        """Let no node take the pod."""
        self._with_pod(name, namespace, lambda pod: set_unschedulable(pod, message))

    def succeed(self, name: str, namespace: str = "default", *, is_final: bool = True, message: str = "") -> None:
        """Let the running container end well, and with the last completion the Job."""
        with self._job(name, namespace) as job:
            pod = self._running_pod(job)
            set_ended(pod, 0, "Completed", message)
            self._put(pod)
            job["status"]["succeeded"] = job["status"].get("succeeded", 0) + 1
            wanted = job["spec"].get("completions", 1)
            if job["status"]["succeeded"] >= wanted:
                reason = ("CompletionsReached", "Reached expected number of succeeded pods")
                self._end(job, "Complete", *(reason if self._has_interim else ("", "")), is_final=is_final)

    def fail(
        self,
        name: str,
        exit_code: int = 1,
        reason: str = "Error",
        namespace: str = "default",
        *,
        message: str = "",
        is_final: bool = True,
        container: str | None = None,
    ) -> None:
        """Let the running container end badly; the Job starts over, or has reached its limit, as its spec says.

        Where ``container`` is named, the others end well.
        """
        with self._job(name, namespace) as job:
            pod = self._running_pod(job)
            if job["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure":
                set_restarting(pod, exit_code, reason, message)
                self._put(pod)
                restarts = pod["status"]["containerStatuses"][0]["restartCount"]
                if restarts >= max(1, job["spec"]["backoffLimit"]):
                    self._reach_limit(job, is_final=is_final)
                return
            set_ended(pod, exit_code, reason, message, container)
            self._put(pod)
            self._count_failure(job, pod, is_final=is_final)

    def preempt(
        self,
        name: str,
        namespace: str = "default",
        *,
        reason: str = "PreemptionByScheduler",
        message: str = _PREEMPTING,
    ) -> None:
        """Let the pod give way to one of higher priority."""
        self._disrupt(name, namespace, reason=reason, message=message, why="")

    def evict(self, name: str, message: str = _EVICTING, namespace: str = "default") -> None:
        """Let the kubelet end the pod, because its node is short of something."""
        self._disrupt(name, namespace, reason="TerminationByKubelet", message=message, why="Evicted")

    def shut_node_down(self, name: str, namespace: str = "default") -> None:
        """Let the pod's node go, as a spot node does."""
        words = "Pod was terminated in response to imminent node shutdown."
        self._disrupt(name, namespace, reason="TerminationByKubelet", message=words, why="Terminated")

    def finish_by_deadline(self, name: str, namespace: str = "default", *, is_final: bool = True) -> None:
        """Let the Job have been active for longer than it may.

        Raises:
            ValueError: it has no deadline.
        """
        with self._job(name, namespace) as job:
            if "activeDeadlineSeconds" not in job["spec"]:
                raise ValueError(f"The Job {name} has no activeDeadlineSeconds.")
            self._remove_active_pods(job, is_failure=True)
            words = "Job was active longer than specified deadline"
            self._end(job, "Failed", "DeadlineExceeded", words, is_final=is_final)

    def suspend(self, name: str, namespace: str = "default") -> None:
        """Let the Job be suspended: its pods go, and so does its start time."""
        with self._job(name, namespace) as job:
            job["spec"]["suspend"] = True
            self._remove_active_pods(job, is_failure=False)
            job["status"].pop("startTime", None)
            _set_condition(job, "Suspended", "True", "JobSuspended", "Job suspended")

    def resume(self, name: str, namespace: str = "default") -> None:
        """Let a suspended Job go on."""
        with self._job(name, namespace) as job:
            job["spec"]["suspend"] = False
            job["status"]["startTime"] = now()
            _set_condition(job, "Suspended", "False", "JobResumed", "Job resumed")

    def conclude(self, name: str, namespace: str = "default") -> None:
        """Let a Job that is at an interim condition come to its final one.

        Raises:
            ValueError: it is at none.
        """
        with self._job(name, namespace) as job:
            conditions = {known["type"]: known for known in job["status"].get("conditions", [])}
            for final, interim in _INTERIM.items():
                if interim in conditions:
                    said = conditions[interim]
                    self._end(job, final, said.get("reason", ""), said.get("message", ""), is_final=True)
                    return
        raise ValueError(f"The Job {name} is at no interim condition.")

    def remove_by_ttl(self, name: str, namespace: str = "default") -> None:
        """Let the Job's time after its end be over: it is removed, and its pods are.

        Raises:
            ValueError: it has not ended, or has no ``ttlSecondsAfterFinished``.
        """
        job = self.get(name, namespace)
        if finished(job) is None or "ttlSecondsAfterFinished" not in job["spec"]:
            raise ValueError(f"The Job {name} has not ended, or says nothing of its removal.")
        self.remove(name, namespace)

    def remove(self, name: str, namespace: str = "default") -> None:
        """Let somebody else have deleted the Job, and its pods."""
        with self._state.lock:
            for pod in self.pods(name, namespace):
                self._state.remove(PODS, namespace, pod["metadata"]["name"])
            self._state.remove(JOBS, namespace, name)

    def remove_pods(self, name: str, namespace: str = "default") -> None:
        """Let the pods that have ended be collected: a Job outlives what could tell why it failed."""
        with self._state.lock:
            for pod in self.pods(name, namespace):
                if pod["status"]["phase"] not in ACTIVE:
                    self._state.remove(PODS, namespace, pod["metadata"]["name"])

    @contextmanager
    def _job(self, name: str, namespace: str) -> Iterator[Object]:
        """The Job as the controller has seen it; its counts are right afterwards.

        Raises:
            ValueError: it has ended, or is indexed: of those only the sending is stood in for.
        """
        with self._state.change(JOBS, namespace, name) as job:
            if job["spec"]["completionMode"] == "Indexed":
                raise ValueError(f"The Job {name} is indexed, and such Jobs are not run here.")
            if finished(job) is not None:
                raise ValueError(f"The Job {name} has ended.")
            job["status"].setdefault("startTime", now())
            yield job
            active = [pod for pod in self._state.pods_of(job) if pod["status"]["phase"] in ACTIVE]
            running = [pod for pod in active if _is_ready(pod)]
            counts = {"active": len(active), "ready": len(running)}
            job["status"].pop("active", None)
            job["status"].update({key: count for key, count in counts.items() if count or key == "ready"})
            job["status"]["uncountedTerminatedPods"] = {}
            if self._version >= _TERMINATING_SINCE:
                job["status"]["terminating"] = 0

    def _report(self, resource: Resource, item: Object, reason: str, message: str, type: str = "Warning") -> None:
        metadata, stamp = item["metadata"], now()
        named = {key: metadata[key] for key in ("name", "namespace", "uid")}
        event = {
            "metadata": {"name": f"{metadata['name']}.{time.time_ns():x}", "namespace": metadata["namespace"]},
            "involvedObject": {"kind": resource.kind, "apiVersion": resource.api_version, **named},
            "reason": reason,
            "message": message,
            "type": type,
            "count": 1,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "reportingComponent": "job-controller",
        }
        self._state.add(EVENTS, event)

    def _with_pod(self, name: str, namespace: str, change: Callable[[Object], None]) -> None:
        with self._job(name, namespace) as job:
            pod = self._active_pod(job)
            change(pod)
            self._put(pod)

    def _active_pod(self, job: Object) -> Object:
        if job["spec"]["suspend"]:
            raise ValueError(f"The Job {job['metadata']['name']} is suspended.")
        for pod in self._state.pods_of(job):
            if pod["status"]["phase"] in ACTIVE:
                return pod
        return self._state.add(PODS, new_pod(job))

    def _running_pod(self, job: Object) -> Object:
        pod = self._active_pod(job)
        if not _is_ready(pod):
            set_running(pod)
        return pod

    def _put(self, pod: Object) -> None:
        metadata = pod["metadata"]
        with self._state.change(PODS, metadata["namespace"], metadata["name"]) as kept:
            kept.update(pod)

    def _disrupt(self, name: str, namespace: str, *, reason: str, message: str, why: str) -> None:
        with self._job(name, namespace) as job:
            pod = self._active_pod(job)
            set_disrupted(pod, reason=reason, message=message, why=why)
            self._put(pod)
            self._count_failure(job, pod, is_final=True)

    def _count_failure(self, job: Object, pod: Object, *, is_final: bool) -> None:
        action, words = matched_rule(job, pod)
        if action == "Ignore":
            return
        job["status"]["failed"] = job["status"].get("failed", 0) + 1
        if action == "FailJob":
            self._end(job, "Failed", "PodFailurePolicy", words, is_final=is_final, is_interim=True)
        elif job["status"]["failed"] > job["spec"]["backoffLimit"]:
            self._reach_limit(job, is_final=is_final)

    def _reach_limit(self, job: Object, *, is_final: bool) -> None:
        words = "Job has reached the specified backoff limit"
        self._remove_active_pods(job, is_failure=True)
        self._end(job, "Failed", "BackoffLimitExceeded", words, is_final=is_final)

    def _remove_active_pods(self, job: Object, *, is_failure: bool) -> None:
        for pod in self._state.pods_of(job):
            if pod["status"]["phase"] in ACTIVE:
                self._state.remove(PODS, job["metadata"]["namespace"], pod["metadata"]["name"])
                if is_failure:
                    job["status"]["failed"] = job["status"].get("failed", 0) + 1

    def _end(
        self, job: Object, kind: str, reason: str, message: str, *, is_final: bool, is_interim: bool = False
    ) -> None:
        if self._has_interim or is_interim:
            _set_condition(job, _INTERIM[kind], "True", reason, message)
        elif not is_final:
            raise ValueError("This version of Kubernetes sets no interim condition.")
        if is_final:
            _set_condition(job, kind, "True", reason, message)
            if kind == "Complete":
                job["status"]["completionTime"] = now()


_STEPS = (
    *(
        "create_pod",
        "start",
        "write",
        "image_pull_fails",
        "unschedulable",
        "lose_node",
        "cannot_create_pods",
        "pod_event",
        "succeed",
        "fail",
        "preempt",
        "evict",
    ),
    *(
        "shut_node_down",
        "finish_by_deadline",
        "suspend",
        "resume",
        "conclude",
        "remove_by_ttl",
        "remove",
        "remove_pods",
    ),
)


def finished(job: Mapping[str, Any]) -> str | None:
    """``Complete`` or ``Failed``; None for a Job that has not ended."""
    for known in job["status"].get("conditions", []):
        if known["type"] in _INTERIM and known["status"] == "True":
            return str(known["type"])
    return None


def matched_rule(job: Mapping[str, Any], pod: Mapping[str, Any]) -> tuple[str, str]:
    """What the Job's failure policy does about a failed pod, and how the controller words that; ``Count`` for none."""
    named = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    for index, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules", [])):
        tail = f"matching {rule['action']} rule at index {index}"
        codes = rule.get("onExitCodes")
        for status in pod["status"].get("containerStatuses", []) if codes else []:
            code = status["state"].get("terminated", {}).get("exitCode", 0)
            is_meant = code and codes.get("containerName") in (None, status["name"])
            if is_meant and (code in codes["values"]) == (codes["operator"] == "In"):
                return rule["action"], f"Container {status['name']} for pod {named} failed with exit code {code} {tail}"
        for wanted in rule.get("onPodConditions") or []:
            for known in pod["status"].get("conditions", []):
                if (known["type"], known["status"]) == (wanted["type"], wanted.get("status", "True")):
                    return rule["action"], f"Pod {named} has condition {known['type']} {tail}"
    return "Count", ""


def _is_ready(pod: Mapping[str, Any]) -> bool:
    return any((known["type"], known["status"]) == ("Ready", "True") for known in pod["status"].get("conditions", []))


def _set_condition(job: Object, kind: str, status: str, reason: str, message: str) -> None:
    stamp = now()
    times = {"lastProbeTime": stamp, "lastTransitionTime": stamp}
    said = {"type": kind, "status": status, **times, "reason": reason, "message": message}
    others = [known for known in job["status"].get("conditions", []) if known["type"] != kind]
    job["status"]["conditions"] = [*others, {key: value for key, value in said.items() if value}]
