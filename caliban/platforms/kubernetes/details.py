"""Destinations of jobs on clusters, and the stored details of such jobs (``jobs.details``), read and written.

caliban 0.4.2 stores ``cluster_name``, ``cluster_zone``, ``project_id`` and ``job``, a Job of batch/v1. This version
stores ``context`` in place of the first three for a cluster of a kubeconfig, and in addition the state of the job:

    reason             why the job is in its state
    ret_code, cause    how it failed (since ``cause``; rows without it have the exit code in ``reason``)
    started, ended     ISO 8601, in UTC
    error              why the cluster refused the submission
    container          the name of the job's own container; policies and service meshes add others
    warning            what the cluster warned of when it created the job
    cluster_uid, cluster_server
                       what the cluster is recognised by; see :class:`ClusterDestination`

Listings read the details of thousands of jobs: nothing heavy is imported.
"""

from __future__ import annotations

import json
import re
import shlex
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import ClassVar, TypeVar
from urllib.parse import quote

from caliban.errors import PlatformError, UsageError
from caliban.platforms.kubernetes.failure_reasons import cause_of
from caliban.platforms.kubernetes.names import CONTEXT, GKE_CLUSTER, GKE_LOCATION, GKE_PROJECT, IN_CLUSTER, NAMESPACE
from caliban.platforms.stored_json import failure_cause, integer, one_line, text, timestamp
from caliban.records import Destination, FailureCause, JobDetails, JobExit, JobStatus, JsonObject

_D = TypeVar("_D", bound="ClusterDestination")

_IDENTITY = ("cluster_uid", "cluster_server")
_KEPT_METADATA = ("name", "namespace", "uid", "creationTimestamp")
_MAX_WARNING = 2000
_REASON = re.compile(r"(?:(?P<name>\w+)(?:, |: |$))?(?:exit code (?P<code>\d+))?")


@dataclass(frozen=True)
class ClusterDestination(Destination):
    """A namespace of a cluster.

    Names of contexts and clusters may come to mean another cluster: k3s and RKE call every context ``default``, and a
    cluster may be created again. What it is recognised by is recorded with them; rows of earlier versions have neither.

    Attributes:
        namespace: of the jobs.
        cluster_uid: the uid of the cluster's namespace ``kube-system``; "" where it is not readable.
        cluster_server: the URL of its server, with a hash of its CA; see :attr:`Connection.identity`.
        stored_as: the name of each field of a subclass in ``jobs.details``.
        patterns: what the value of each field has to look like.
    """

    namespace: str = field(kw_only=True)
    cluster_uid: str = field(default="", kw_only=True)
    cluster_server: str = field(default="", kw_only=True)
    stored_as: ClassVar[Mapping[str, str]]
    patterns: ClassVar[Mapping[str, re.Pattern[str]]]

    @property
    def is_identified(self) -> bool:
        """Whether it says which cluster the names mean."""
        return bool(self.cluster_uid or self.cluster_server)

    @property
    def problem(self) -> str | None:
        """Why it is none: ``malformed namespace: "x?y"``; None for one that names and URLs can be made of."""
        for name, pattern in (("namespace", NAMESPACE), *self.patterns.items()):
            value = getattr(self, name)
            if not pattern.fullmatch(value):
                return f"malformed {name}: {json.dumps(value[:100])}"
        return None

    def check(self) -> None:
        """See :meth:`Destination.check`.

        Raises:
            UsageError: ``malformed-destination``.
        """
        if self.problem:
            raise UsageError("malformed-destination", self.problem, hint="choose another name")

    def is_same_cluster(self, uid: str, server: str) -> bool:
        """Return whether a cluster is the recorded one: by its uid, or by its server where that is not readable."""
        if self.cluster_uid and uid:
            return self.cluster_uid == uid
        return bool(self.cluster_server) and self.cluster_server == server

    def to_json(self) -> JsonObject:
        """See :meth:`Destination.to_json`."""
        return {key: value for key, value in asdict(self).items() if value or key not in _IDENTITY}

    @classmethod
    def from_json(cls: type[_D], stored: JsonObject) -> _D:
        """Read what :meth:`to_json` returned.

        Raises:
            PlatformError: ``malformed-destination``: it is something else, which must not become a part of a URL.
        """
        found = cls(**{each.name: text(stored, each.name) or "" for each in fields(cls)})
        if found.problem:
            raise PlatformError(
                "malformed-destination", "the recorded destination of a submission is malformed", cause=found.problem
            )
        return found

    def to_details(self) -> dict[str, object]:
        """Return what ``jobs.details`` stores of the cluster."""
        stored = {key: getattr(self, name) for name, key in self.stored_as.items()}
        return {**stored, **{key: getattr(self, key) for key in _IDENTITY if getattr(self, key)}}

    @classmethod
    def from_details(cls: type[_D], raw: JsonObject) -> _D | None:
        """Read the destination from ``jobs.details``; None where it is not stored in full, or malformed."""
        found = {name: text(raw, key) or "" for name, key in cls.stored_as.items()}
        found["namespace"] = text(object_at(raw, "job", "metadata"), "namespace") or ""
        made = cls(**found, **{key: text(raw, key) or "" for key in _IDENTITY})
        return None if made.problem else made

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
    patterns: ClassVar[Mapping[str, re.Pattern[str]]] = {
        "project": GKE_PROJECT,
        "location": GKE_LOCATION,
        "cluster": GKE_CLUSTER,
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
    patterns: ClassVar[Mapping[str, re.Pattern[str]]] = {"context": CONTEXT}

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


def job_details(
    destination: ClusterDestination, job: JsonObject, container: str | None = None, warnings: Sequence[str] = ()
) -> dict[str, object]:
    """Return what is stored of a job that the cluster accepted.

    Args:
        destination: where it is.
        job: as the cluster returned it; nothing is required of it.
        container: the name of its own container, if that is known.
        warnings: what the cluster said of it when it was created.
    """
    metadata = object_at(job, "metadata")
    kept: dict[str, object] = {key: metadata[key] for key in _KEPT_METADATA if isinstance(metadata.get(key), str)}
    labels = metadata.get("labels")
    if isinstance(labels, Mapping):
        kept["labels"] = {key: value for key, value in labels.items() if isinstance(value, str)}
    own = {"container": container} if container else {}
    if warnings:
        own["warning"] = "; ".join(warnings)[:_MAX_WARNING]
    stored = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": destination.namespace, **kept}}
    return {**destination.to_details(), **own, "job": stored}


def details_at(kind: type[ClusterDestination], destination: JsonObject) -> JobDetails:
    """See :meth:`caliban.platforms.base.Platform.details_at`."""
    try:
        return JobDetails(destination=kind.from_json(destination))
    except PlatformError:
        return JobDetails()


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


def with_warning(state: JobState, raw: JsonObject) -> JobState:
    """Return a state with the warning at the job's creation as its reason, where the job waits without another one.

    Of a job whose pods are refused, it may be all that is known: events need a permission, and are kept for an hour.
    """
    warning = text(raw, "warning")
    if state.status is not JobStatus.SUBMITTED or state.reason or not warning:
        return state
    return replace(state, reason=one_line(f"warning of the cluster: {warning}"))


def stored_labels(raw: JsonObject) -> Mapping[str, object]:
    """Return the labels that a job was submitted with; {} for a job of caliban 0.4.2, which has none."""
    return object_at(raw, "job", "metadata", "labels")


def object_at(parent: JsonObject, *path: str) -> Mapping[str, object]:
    """Return the object at a path of keys; {} where there is none."""
    value: object = parent
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def objects_in(parent: JsonObject, name: str) -> list[Mapping[str, object]]:
    """Return the objects of a list; [] where there is none."""
    value = parent.get(name)
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


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


def kubectl(context: str) -> str:
    """Return how kubectl is called for a context; in a pod, kubectl needs none."""
    return "kubectl" if context == IN_CLUSTER else f"kubectl --context {shlex.quote(context)}"


def _logs_command(context: str, namespace: str, job_name: str) -> str:
    return f"{kubectl(context)} --namespace {namespace} logs --follow job/{job_name}"
