"""Destinations of jobs on clusters, and the stored details of such jobs (``jobs.details``), read and written.

caliban 0.4.2 stores ``cluster_name``, ``cluster_zone``, ``project_id`` and ``job``, a Job of batch/v1. This version
stores ``context`` in place of the first three for a cluster of a kubeconfig, and in addition the state of the job:

    reason             why the job is in its state
    ret_code, cause    how it failed (since ``cause``; rows without it have the exit code in ``reason``)
    started, ended     ISO 8601, in UTC
    error              why the cluster refused the submission

Listings read the details of thousands of jobs: nothing heavy is imported.
"""

from __future__ import annotations

import re
import shlex
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import ClassVar, TypeVar
from urllib.parse import quote

from caliban.platforms.stored_json import failure_cause, integer, one_line, text, timestamp
from caliban.records import Destination, FailureCause, JobDetails, JobExit, JobStatus, JsonObject

_D = TypeVar("_D", bound="ClusterDestination")

_KEPT_METADATA = ("name", "namespace", "uid", "creationTimestamp", "labels")
_REASON = re.compile(r"(?:(?P<name>\w+)(?:, |: |$))?(?:exit code (?P<code>\d+))?")

_CAUSES: Mapping[str, FailureCause] = {
    "OOMKilled": FailureCause.OUT_OF_MEMORY,
    "DeadlineExceeded": FailureCause.TIMEOUT,
    "Preempted": FailureCause.PREEMPTED,
    "Preempting": FailureCause.PREEMPTED,
    "PreemptionByScheduler": FailureCause.PREEMPTED,
    "NodeShutdown": FailureCause.PREEMPTED,
    "Terminated": FailureCause.PREEMPTED,
    "Evicted": FailureCause.INFRASTRUCTURE,
    "NodeAffinity": FailureCause.INFRASTRUCTURE,
    "NodeLost": FailureCause.INFRASTRUCTURE,
    "UnexpectedAdmissionError": FailureCause.INFRASTRUCTURE,
    "DeletionByPodGC": FailureCause.INFRASTRUCTURE,
    "DeletionByTaintManager": FailureCause.INFRASTRUCTURE,
    "EvictionByEvictionAPI": FailureCause.INFRASTRUCTURE,
    "TerminationByKubelet": FailureCause.INFRASTRUCTURE,
    "ErrImagePull": FailureCause.IMAGE,
    "ErrImageNeverPull": FailureCause.IMAGE,
    "ImageInspectError": FailureCause.IMAGE,
    "ImagePullBackOff": FailureCause.IMAGE,
    "InvalidImageName": FailureCause.IMAGE,
    "ContainerCannotRun": FailureCause.IMAGE,
    "CreateContainerError": FailureCause.IMAGE,
    "RunContainerError": FailureCause.IMAGE,
    "StartError": FailureCause.IMAGE,
}
"""Reasons of containers, pods, disruption conditions and jobs. A node that shuts down, as a Spot VM does when it is
preempted, gives its pods the reason ``Terminated`` (``NodeShutdown`` before Kubernetes 1.22).

Sources: https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions,
https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/ and kubernetes/kubernetes
(pkg/kubelet/images/types.go, pkg/kubelet/container/sync_result.go)."""


@dataclass(frozen=True)
class ClusterDestination(Destination):
    """A namespace of a cluster.

    Attributes:
        namespace: of the jobs.
        stored_as: the name of each other field in ``jobs.details``.
    """

    namespace: str = field(kw_only=True)
    stored_as: ClassVar[Mapping[str, str]]

    def to_json(self) -> JsonObject:
        """See :meth:`Destination.to_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls: type[_D], stored: JsonObject) -> _D:
        """Read what :meth:`to_json` returned."""
        return cls(**{each.name: str(stored[each.name]) for each in fields(cls)})

    def to_details(self) -> dict[str, object]:
        """Return what ``jobs.details`` stores of the cluster."""
        return {key: getattr(self, name) for name, key in self.stored_as.items()}

    @classmethod
    def from_details(cls: type[_D], raw: JsonObject) -> _D | None:
        """Read the destination from ``jobs.details``; None where it is not stored in full."""
        found = {name: raw.get(key) for name, key in cls.stored_as.items()}
        found["namespace"] = object_at(raw, "job", "metadata").get("namespace")
        return (
            cls(**{name: str(value) for name, value in found.items()})
            if all(text(found, name) for name in found)
            else None
        )

    @abstractmethod
    def links(self, job_name: str) -> tuple[str, ...]:
        """Return URLs and commands that show a job."""


@dataclass(frozen=True)
class GkeDestination(ClusterDestination):
    """A namespace of a GKE cluster.

    Attributes:
        project: the id of the cluster's project.
        location: its zone (``us-central1-a``) or region (``us-central1``).
        cluster: its name there.
    """

    project: str
    location: str
    cluster: str
    stored_as: ClassVar[Mapping[str, str]] = {
        "cluster": "cluster_name",
        "location": "cluster_zone",
        "project": "project_id",
    }

    def links(self, job_name: str) -> tuple[str, ...]:
        """Return the job's page in the Google Cloud console, and the command that streams its log."""
        path = "/".join(quote(part, safe="") for part in (self.location, self.cluster, self.namespace, job_name))
        project = quote(self.project, safe="")
        page = f"https://console.cloud.google.com/kubernetes/job/{path}/details?project={project}"
        return page, _logs_command(f"gke_{self.project}_{self.location}_{self.cluster}", self.namespace, job_name)


@dataclass(frozen=True)
class KubeconfigDestination(ClusterDestination):
    """A namespace of a cluster in the user's kubeconfig.

    Attributes:
        context: the name of the context.
    """

    context: str
    stored_as: ClassVar[Mapping[str, str]] = {"context": "context"}

    def links(self, job_name: str) -> tuple[str, ...]:
        """Return the command that streams the job's log."""
        return (_logs_command(self.context, self.namespace, job_name),)


@dataclass(frozen=True)
class JobState:
    """The state of a job as its cluster reports it.

    Attributes:
        status: the state.
        reason: why the job is in it, in one line, or None.
        exit_code: of the job's own container, if the job failed with one.
        cause: the kind of failure, if the job failed.
        started: when the job started (``2026-11-25T13:00:00+00:00``), or None.
        ended: when it ended, or None.
    """

    status: JobStatus
    reason: str | None = None
    exit_code: int | None = None
    cause: FailureCause | None = None
    started: str | None = None
    ended: str | None = None


def parse_gke_details(status: JobStatus, raw: JsonObject) -> JobDetails:
    """Read the stored details of a job on GKE."""
    return parse_details(GkeDestination, status, raw)


def parse_kubeconfig_details(status: JobStatus, raw: JsonObject) -> JobDetails:
    """Read the stored details of a job on a cluster of a kubeconfig."""
    return parse_details(KubeconfigDestination, status, raw)


def parse_details(kind: type[ClusterDestination], status: JobStatus, raw: JsonObject) -> JobDetails:
    """Read stored details, whatever version wrote them.

    Args:
        kind: the destinations of the platform.
        status: ``jobs.status``.
        raw: ``jobs.details``.
    """
    metadata = object_at(raw, "job", "metadata")
    uid, name = text(metadata, "uid"), text(metadata, "name")
    destination = kind.from_details(raw)
    reason = one_line(text(raw, "reason") or text(raw, "error"))
    return JobDetails(
        raw=raw,
        id=uid,
        display_name=name,
        destination=destination,
        exit=_exit(status, raw, reason),
        pending_reason=None if status.is_final else reason,
        started=timestamp(raw, "started"),
        ended=timestamp(raw, "ended"),
        links=destination.links(name) if destination and name and uid else (),
    )


def job_details(destination: ClusterDestination, job: JsonObject) -> dict[str, object]:
    """Return what is stored of a job that the cluster accepted."""
    metadata = object_at(job, "metadata")
    kept = {key: metadata[key] for key in _KEPT_METADATA if key in metadata}
    return {**destination.to_details(), "job": {"apiVersion": "batch/v1", "kind": "Job", "metadata": kept}}


def refused_details(destination: ClusterDestination, name: str, reason: str) -> dict[str, object]:
    """Return what is stored of a job that the cluster refused: where it was to run, and why it does not."""
    metadata = {"name": name, "namespace": destination.namespace}
    return {**destination.to_details(), "job": {"metadata": metadata}, "reason": reason}


def with_state(raw: JsonObject, state: JobState) -> dict[str, object]:
    """Return stored details with the state that a cluster reported, in place of what they say of an earlier one."""
    values = {
        "reason": state.reason,
        "ret_code": state.exit_code,
        "cause": str(state.cause) if state.cause else None,
        "started": state.started,
        "ended": state.ended,
    }
    kept = {key: value for key, value in raw.items() if key not in values}
    return {**kept, **{key: value for key, value in values.items() if value is not None}}


def stored_labels(raw: JsonObject) -> Mapping[str, object]:
    """Return the labels that a job was submitted with; {} for a job of caliban 0.4.2, which has none."""
    return object_at(raw, "job", "metadata", "labels")


def cause_of(reason: str, exit_code: int | None) -> FailureCause:
    """Return the kind of a failure.

    Args:
        reason: Kubernetes' name for it (``OOMKilled``), or "".
        exit_code: of the job's own container, or None.
    """
    return _CAUSES.get(reason) or (FailureCause.CODE_ERROR if exit_code else FailureCause.UNKNOWN)


def object_at(parent: JsonObject, *path: str) -> Mapping[str, object]:
    """Return the object at a path of keys; {} where there is none."""
    value: object = parent
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _exit(status: JobStatus, raw: JsonObject, reason: str | None) -> JobExit | None:
    if status is JobStatus.SUCCEEDED:
        return JobExit(0)
    if status is JobStatus.STOPPED:
        return JobExit(cause=FailureCause.STOPPED, message=reason)
    if status is not JobStatus.FAILED:
        return None
    if text(raw, "error"):
        return JobExit(cause=FailureCause.REFUSED, message=reason)
    if text(raw, "cause"):
        return JobExit(integer(raw, "ret_code"), failure_cause(raw) or FailureCause.UNKNOWN, reason)
    return None if reason is None else _exit_of_reason(reason)


def _exit_of_reason(reason: str) -> JobExit:
    """Return how a job ended whose details have no ``cause``: ``OOMKilled, exit code 137``, ``Evicted: ...``."""
    match = _REASON.match(reason)
    assert match is not None  # everything in it is optional
    code = int(match["code"]) if match["code"] else None
    return JobExit(code, cause_of(match["name"] or "", code), reason)


def _logs_command(context: str, namespace: str, job_name: str) -> str:
    return f"kubectl --context {shlex.quote(context)} --namespace {namespace} logs --follow job/{job_name}"
