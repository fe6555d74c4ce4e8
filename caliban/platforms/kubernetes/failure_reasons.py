"""What Kubernetes' names for failures mean (``OOMKilled``, ``Evicted``), in the causes that all platforms share.

Sources: https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions,
https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/ and kubernetes/kubernetes
(pkg/kubelet/images/types.go, pkg/kubelet/container/sync_result.go, pkg/kubelet/kuberuntime/kuberuntime_container.go,
pkg/kubelet/lifecycle/predicate.go, pkg/util/node/node.go).
"""

from __future__ import annotations

from collections.abc import Mapping

from caliban.records import FailureCause

_CAUSES: Mapping[str, FailureCause] = {
    "OOMKilled": FailureCause.OUT_OF_MEMORY,
    "DeadlineExceeded": FailureCause.TIMEOUT,
    # a pod of higher priority, or a node that shuts down, as a Spot VM does when it is preempted: its pods have the
    # reason Terminated (NodeShutdown and Shutdown before Kubernetes 1.22)
    "Preempted": FailureCause.PREEMPTED,
    "Preempting": FailureCause.PREEMPTED,
    "PreemptionByScheduler": FailureCause.PREEMPTED,
    "NodeShutdown": FailureCause.PREEMPTED,
    "Shutdown": FailureCause.PREEMPTED,
    "Terminated": FailureCause.PREEMPTED,
    "ContainerStatusUnknown": FailureCause.INFRASTRUCTURE,
    "DeletionByPodGC": FailureCause.INFRASTRUCTURE,
    "DeletionByTaintManager": FailureCause.INFRASTRUCTURE,
    "Evicted": FailureCause.INFRASTRUCTURE,
    "EvictionByEvictionAPI": FailureCause.INFRASTRUCTURE,
    "NodeAffinity": FailureCause.INFRASTRUCTURE,
    "NodeLost": FailureCause.INFRASTRUCTURE,
    "NodeNotReady": FailureCause.INFRASTRUCTURE,
    "TaintManagerEviction": FailureCause.INFRASTRUCTURE,
    "TerminationByKubelet": FailureCause.INFRASTRUCTURE,
    "UnexpectedAdmissionError": FailureCause.INFRASTRUCTURE,
    "ContainerCannotRun": FailureCause.IMAGE,
    "CreateContainerConfigError": FailureCause.IMAGE,
    "CreateContainerError": FailureCause.IMAGE,
    "ErrImageNeverPull": FailureCause.IMAGE,
    "ErrImagePull": FailureCause.IMAGE,
    "ImageInspectError": FailureCause.IMAGE,
    "ImagePullBackOff": FailureCause.IMAGE,
    "InvalidImageName": FailureCause.IMAGE,
    "PostStartHookError": FailureCause.IMAGE,
    "PreCreateHookError": FailureCause.IMAGE,
    "PreStartHookError": FailureCause.IMAGE,
    "RegistryUnavailable": FailureCause.IMAGE,
    "RunContainerError": FailureCause.IMAGE,
    "SignatureValidationFailed": FailureCause.IMAGE,
    "StartError": FailureCause.IMAGE,
}
"""Reasons of containers, pods, disruption conditions, jobs and events."""

NODE_LOSSES = frozenset(
    {
        *("DeletionByPodGC", "DeletionByTaintManager", "NodeLost", "NodeNotReady", "NodeShutdown", "Shutdown"),
        *("TaintManagerEviction", "Terminated"),
    }
)
"""Reasons of pods whose node went away: on a Spot VM, that is how it is taken back."""

_SPOT_NODES = frozenset(
    {
        ("cloud.google.com/gke-spot", "true"),
        ("cloud.google.com/gke-preemptible", "true"),
        ("cloud.google.com/gke-provisioning", "spot"),
        ("eks.amazonaws.com/capacitytype", "spot"),
        ("karpenter.sh/capacity-type", "spot"),
        ("kubernetes.azure.com/scalesetpriority", "spot"),
    }
)
"""Labels of nodes that the cloud may take back at any time, in lower case."""


def cause_of(reason: str, exit_code: int | None) -> FailureCause:
    """Return the kind of a failure.

    Args:
        reason: Kubernetes' name for it (``OOMKilled``), or "".
        exit_code: of the job's own container, or None.
    """
    return _CAUSES.get(reason) or (FailureCause.CODE_ERROR if exit_code else FailureCause.UNKNOWN)


def cluster_cause_of(reason: str) -> FailureCause:
    """Return the kind of a failure that was not the program's: of a whole pod, or of a container beside its own."""
    return _CAUSES.get(reason, FailureCause.INFRASTRUCTURE)


def is_spot_selector(selector: Mapping[str, object]) -> bool:
    """Return whether a node selector chooses Spot nodes."""
    return any((key.lower(), str(value).lower()) in _SPOT_NODES for key, value in selector.items())
