"""The pods of Jobs as the API shows them at each step of their lives.

Sources: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/,
https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions, and the kubelet's words in
``pkg/kubelet/images/types.go``, ``pkg/kubelet/eviction/helpers.go`` and ``pkg/kubelet/status/generate.go`` of
kubernetes/kubernetes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.standins.kubernetes.names import generated_name
from tests.standins.kubernetes.schema import as_json
from tests.standins.kubernetes.state import Object, now

_LONGEST_MESSAGE = 4096
ACTIVE = ("Pending", "Running")


def new_pod(job: Mapping[str, Any]) -> Object:
    """The next pod of a Job, which is nowhere yet."""
    template, metadata = as_json(job["spec"]["template"]), job["metadata"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "metadata": {
            **(template.get("metadata") or {}),
            "name": generated_name(f"{metadata['name']}-"),
            "generateName": f"{metadata['name']}-",
            "namespace": metadata["namespace"],
            "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
        },
        "spec": template["spec"],
        "status": {"phase": "Pending", "qosClass": "BestEffort", "startTime": now()},
    }


def condition(kind: str, status: str, reason: str = "", message: str = "") -> Object:
    """One condition of a pod."""
    said = {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now()}
    return {key: value for key, value in said.items() if value}


def set_unschedulable(pod: Object, message: str) -> None:
    """No node takes the pod."""
    pod["status"].pop("startTime", None)
    pod["status"]["conditions"] = [condition("PodScheduled", "False", "Unschedulable", message)]


def set_waiting(pod: Object, reason: str, message: str = "") -> None:
    """The pod is on its node, and its container waits: for its image, say."""
    _place(pod)
    waiting = {"reason": reason, **({"message": message} if message else {})}
    _set_container(pod, {"waiting": waiting}, is_ready=False)
    names = _names(pod)
    words = f"containers with unready status: [{' '.join(names)}]"
    _set_conditions(pod, is_ready=False, reason="ContainersNotReady", message=words)


def set_running(pod: Object) -> None:
    """The pod's containers run."""
    _place(pod)
    pod["status"]["phase"] = "Running"
    _set_container(pod, {"running": {"startedAt": now()}}, is_ready=True)
    _set_conditions(pod, is_ready=True)


def set_lost(pod: Object) -> None:
    """The node does not report any more: all that the controller of nodes changes is the pod's readiness."""
    for known in pod["status"]["conditions"]:
        if known["type"] == "Ready":
            known["status"] = "False"


def set_ended(pod: Object, exit_code: int, reason: str, message: str = "", container: str | None = None) -> None:
    """The pod's containers have ended, for good; where ``container`` is named, the others ended well."""
    pod["status"]["phase"] = "Succeeded" if exit_code == 0 else "Failed"
    good = {"terminated": _terminated(pod, 0, "Completed", "")}
    _set_container(pod, {"terminated": _terminated(pod, exit_code, reason, message)}, is_ready=False)
    for status in pod["status"]["containerStatuses"]:
        if container is not None and status["name"] != container:
            status["state"] = as_json(good)
    is_success = exit_code == 0
    _set_conditions(pod, is_ready=False, reason="PodCompleted" if is_success else "PodFailed")


def set_restarting(pod: Object, exit_code: int, reason: str, message: str = "") -> None:
    """The pod's container has ended, and waits for being started again in the same pod."""
    status = pod["status"]["containerStatuses"][0]
    ended = {"terminated": _terminated(pod, exit_code, reason, message)}
    name = f"{pod['metadata']['name']}_{pod['metadata']['namespace']}({pod['metadata']['uid']})"
    words = f"back-off 10s restarting failed container={status['name']} pod={name}"
    count = status["restartCount"] + 1
    set_waiting(pod, "CrashLoopBackOff", words)
    pod["status"]["containerStatuses"][0].update(lastState=ended, restartCount=count)


def set_disrupted(pod: Object, *, reason: str, message: str, why: str) -> None:
    """Something other than the container ends the pod: ``why`` is the pod's own reason, the first two its condition's.

    The containers are killed; so are they shown, where they ran.
    """
    if pod["status"]["phase"] == "Running":
        set_ended(pod, 137, "Error")
    pod["status"]["phase"] = "Failed"
    others = [known for known in pod["status"].get("conditions", []) if known["type"] != "DisruptionTarget"]
    pod["status"]["conditions"] = [condition("DisruptionTarget", "True", reason, message), *others]
    if why:
        pod["status"].update(reason=why, message=message)


def _place(pod: Object) -> None:
    pod["spec"].setdefault("nodeName", "node-1")
    pod["status"].setdefault("hostIP", "10.0.0.1")
    pod["status"].setdefault("startTime", now())


def _names(pod: Mapping[str, Any]) -> list[str]:
    return [container["name"] for container in pod["spec"]["containers"]]


def _set_conditions(pod: Object, *, is_ready: bool, reason: str = "", message: str = "") -> None:
    ready = "True" if is_ready else "False"
    pod["status"]["conditions"] = [
        condition("Initialized", "True"),
        condition("Ready", ready, reason, message),
        condition("ContainersReady", ready, reason, message),
        condition("PodScheduled", "True"),
    ]


def _set_container(pod: Object, state: Object, *, is_ready: bool) -> None:
    before = {status["name"]: status for status in pod["status"].get("containerStatuses", [])}
    pod["status"]["containerStatuses"] = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": "" if "waiting" in state else f"{container['image'].partition('@')[0]}@sha256:{'0' * 64}",
            "ready": is_ready,
            "started": is_ready,
            "restartCount": before.get(container["name"], {}).get("restartCount", 0),
            "lastState": before.get(container["name"], {}).get("lastState", {}),
            "state": as_json(state),
        }
        for container in pod["spec"]["containers"]
    ]


def _terminated(pod: Mapping[str, Any], exit_code: int, reason: str, message: str) -> Object:
    running = pod["status"].get("containerStatuses", [{}])[0].get("state", {}).get("running", {})
    said: Object = {
        "exitCode": exit_code,
        "reason": reason,
        "startedAt": running.get("startedAt", now()),
        "finishedAt": now(),
        "containerID": f"containerd://{'0' * 64}",
    }
    if message:
        said["message"] = message[-_LONGEST_MESSAGE:]
    return said
