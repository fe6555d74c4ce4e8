"""Jobs on Kubernetes, whatever the way to the cluster: what its two platforms share."""

from __future__ import annotations

import json
import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from caliban.errors import CalibanError, PlatformError
from caliban.platforms.base import (
    GROUP_LABEL,
    TOKEN_LABEL,
    JobUpdate,
    Platform,
    PlatformContext,
    RefusedError,
    RemotePlatform,
    StatusUnavailable,
)
from caliban.platforms.google.client import Google
from caliban.platforms.google.errors import one_line
from caliban.platforms.kubernetes import job_spec, job_status
from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.errors import KubernetesError
from caliban.platforms.retry import Backoff, RetryPolicy
from caliban.platforms.submit_once import submit_once
from caliban.records import ImageRef, JobRecord, JobStatus, JsonObject, NewJob, Submission

if TYPE_CHECKING:
    from kubernetes.client import Configuration

_SELECTED_AT_ONCE = 50
"""So many values in one label selector: it is a part of a URL, which proxies bound."""

_KEPT_METADATA = ("name", "namespace", "uid", "creationTimestamp", "labels")
_STOP_ATTEMPTS = 5
_GONE = "the cluster has this job no longer"


@dataclass(frozen=True)
class ListedJob:
    """A job as its cluster shows it.

    Attributes:
        name: its name in the namespace.
        status: its state.
        created: when, by the cluster's clock, in UTC: ``2026-11-25T13:00:00Z``.
        group: the experiment group on its label; None for jobs without one.
        reason: why it is in its state, or None.
    """

    name: str
    status: JobStatus
    created: str
    group: str | None
    reason: str | None


class ClusterPlatform(Platform, RemotePlatform):
    """Jobs of batch/v1 in namespaces of clusters. Its methods may be called on several threads.

    What differs is how a cluster is named and reached.
    """

    def __init__(self, platform_context: PlatformContext, retry_policy: RetryPolicy | None = None) -> None:
        super().__init__(platform_context)
        self.google = Google(platform_context, retry_policy)
        self._lock = threading.RLock()
        self._clusters: dict[str, Cluster] = {}

    @abstractmethod
    def _reach(self, target: JsonObject) -> tuple[Configuration, str]:
        """How to reach the cluster of a place, and what to call it in messages.

        Raises:
            CalibanError: there is none, or no way to it.
        """

    @abstractmethod
    def _place(self, details: JsonObject) -> dict[str, str] | None:
        """The place of a recorded job, as a target: that of its cluster, without the namespace; None for none."""

    @abstractmethod
    def _place_details(self, target: JsonObject) -> dict[str, object]:
        """The same the other way round, for the record."""

    def cluster(self, target: JsonObject) -> Cluster:
        """The cluster of a place, looked up and made once.

        Raises:
            CalibanError: there is none, or no way to it.
        """
        key = json.dumps({name: value for name, value in target.items() if name != "namespace"}, sort_keys=True)
        with self._lock:
            if key not in self._clusters:
                configuration, name = self._reach(target)
                user_agent = f"caliban/{metadata.version('caliban')}"
                self._clusters[key] = Cluster(
                    configuration, name, self.google.retry_policy, user_agent, self.google.on_retry
                )
            return self._clusters[key]

    def connect(self, target: JsonObject) -> None:
        """Look the cluster up, log in, and see whether the namespace is there.

        Raises:
            CalibanError: no cluster, no credentials, no answer, or no such namespace.
        """
        self.cluster(target).check_namespace(str(target["namespace"]))

    def statuses(self, jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        """One list of jobs for each cluster and namespace, and one of the pods of those that failed or wait."""
        found: dict[int, JobUpdate | StatusUnavailable] = {}
        by_place: dict[str, list[JobRecord]] = {}
        for job in jobs:
            try:
                by_place.setdefault(json.dumps(self.target(job), sort_keys=True), []).append(job)
            except CalibanError as error:
                found[job.id] = StatusUnavailable(one_line(error))
        for place, group in by_place.items():
            try:
                found.update(self._observe(json.loads(place), group))
            except CalibanError as error:
                reason = StatusUnavailable(one_line(error))
                found.update({job.id: reason for job in group})
        return found

    def image_target(self) -> JsonObject:
        """What :meth:`publish` has to know of a place, where no cluster is chosen."""
        return {}

    def listing(self, target: JsonObject) -> list[ListedJob]:
        """Every job of a namespace, caliban's and others', the newest first.

        Raises:
            CalibanError: the cluster cannot be asked.
        """
        cluster, namespace = self.cluster(target), str(target["namespace"])
        jobs = list(cluster.jobs(namespace, None))
        asked = [job_spec.name_of(job) for job in jobs if job_status.needs_pods(job)]
        pods = self._pods(cluster, namespace, asked)
        found = [
            ListedJob(
                name=job_spec.name_of(job),
                status=job_status.status_of(job),
                created=text_at(job, "metadata", "creationTimestamp") or "",
                group=job_spec.label_of(job, GROUP_LABEL),
                reason=job_status.reason_of(job, pods.get(job_spec.name_of(job), ())),
            )
            for job in jobs
        ]
        return sorted(found, key=lambda job: job.created, reverse=True)

    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        """The same job with another image."""
        return job_spec.with_image(spec, image)

    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        """The same hardware with another image and other arguments."""
        return job_spec.with_arguments(spec, image, arguments)

    def target(self, latest: JobRecord | None) -> JsonObject:
        """The cluster and namespace of the last attempt.

        Raises:
            PlatformError: ``malformed-job-details``: they are not recorded.
        """
        details = latest.details if latest else {}
        place = self._place(details)
        namespace = text_at(details, "job", "metadata", "namespace")
        if place is None or namespace is None:
            raise PlatformError(
                "malformed-job-details",
                f"where job {latest.id} ran is not known" if latest else "which cluster is meant is not said",
                cause="its cluster and its namespace are not both recorded" if latest else None,
                hint="submit the experiment anew with caliban cluster job submit",
            )
        return {**place, "namespace": namespace}

    def job_name(self, spec: JsonObject, token: str) -> str:
        """``caliban-totoro-0f1e2d3c4b``: base of the spec, and the token's beginning."""
        return job_spec.job_name(spec, token)

    def submit(self, spec: JsonObject, submission: Submission) -> NewJob:
        """Create the job under the submission's name, or where another job has it, the next one.

        Asking twice starts one job: the one there is adopted if it carries our token. After a lost answer it is
        looked up before it is asked for again.
        """
        job_spec.image_of(spec)
        namespace = str(submission.target["namespace"])
        try:
            cluster = self.cluster(submission.target)
        except CalibanError as error:
            raise self._refused(error, submission) from error
        labels = job_spec.submission_labels(submission)
        for name in job_spec.candidate_names(submission.name, submission.token):
            job = self._create(cluster, namespace, job_spec.manifest(spec, name, labels), submission)
            if job_spec.has_token(job, submission.token):
                return self._new_job(job, submission.target)
        raise self._refused(
            PlatformError(
                "job-name-taken",
                f"cannot submit the job {submission.name}: other jobs of the {cluster.name} have its names",
                hint="try again: the new name will be another",
            ),
            submission,
        )

    def find(self, submission: Submission) -> NewJob | None:
        """The job with the submission's token, under the names that :meth:`submit` tries.

        All of them: the job of another that had the first name may have been deleted since.
        """
        cluster = self.cluster(submission.target)
        for name in job_spec.candidate_names(submission.name, submission.token):
            job = cluster.get_job(str(submission.target["namespace"]), name)
            if job is not None and job_spec.has_token(job, submission.token):
                return self._new_job(job, submission.target)
        return None

    def stop(self, job: JobRecord) -> JobUpdate:
        """Delete the job and its pods, unless it has ended meanwhile."""
        target = self.target(job)
        cluster, namespace = self.cluster(target), str(target["namespace"])
        for _ in range(_STOP_ATTEMPTS):
            there = cluster.get_job(namespace, str(text_at(job.details, "job", "metadata", "name")))
            if there is None or not _is_same(job, there):
                return self._with_reason(job, JobStatus.UNKNOWN, _GONE)
            status = job_status.status_of(there)
            if status.is_final:
                return self._with_reason(job, status, job_status.reason_of(there, ()))
            if cluster.delete_job(namespace, there):
                return self._with_reason(job, JobStatus.STOPPED, None)
        raise PlatformError(
            "job-keeps-changing", f"job {job.id} is not stopped: it changes faster than it can be", hint="try again"
        )

    def _create(self, cluster: Cluster, namespace: str, body: JsonObject, submission: Submission) -> JsonObject:
        """The job that has the name of ``body``: started, adopted, or somebody else's.

        Raises:
            RefusedError: it was not started.
            CalibanError: whether it was is not known.
        """
        name, stopping = job_spec.name_of(body), self.context.stopping
        return submit_once(
            lambda: cluster.create_job(namespace, body),
            lambda: cluster.get_job(namespace, name),
            name=name,
            backoff=Backoff(
                self.google.retry_policy, stopping, lambda: self._tell_of_queue(cluster), self.google.on_retry
            ),
            stopping=stopping,
            refused=lambda error: self._refused(error, submission),
        )

    def _tell_of_queue(self, cluster: Cluster) -> None:
        self.context.announce(f"the {cluster.name} takes no more requests just now; the jobs wait for their turn ...")

    def _new_job(self, job: JsonObject, target: JsonObject) -> NewJob:
        spec, found = job["spec"], job["metadata"]
        assert isinstance(spec, Mapping)
        assert isinstance(found, Mapping)
        kept = {key: found[key] for key in _KEPT_METADATA if key in found}
        recorded = {"apiVersion": "batch/v1", "kind": "Job", "metadata": kept}
        status = job_status.status_of(job)
        return NewJob(job_spec.image_of(spec), status, {**self._place_details(target), "job": recorded})

    def _refused(self, error: CalibanError, submission: Submission) -> RefusedError:
        """The error for a job that for certain does not run; what is recorded of it says where it was to run."""
        kept = {"name": submission.name, "namespace": submission.target["namespace"]}
        details = {**self._place_details(submission.target), "job": {"metadata": kept}, "reason": one_line(error)}
        return RefusedError(error.id, error.message, cause=error.cause, hint=error.hint, details=details)

    def _observe(self, target: JsonObject, jobs: Sequence[JobRecord]) -> dict[int, JobUpdate]:
        cluster, namespace = self.cluster(target), str(target["namespace"])
        there = {job_spec.name_of(job): job for job in cluster.jobs(namespace, _selector(jobs))}
        named = {job.id: there.get(str(text_at(job.details, "job", "metadata", "name"))) for job in jobs}
        asked = [job_spec.name_of(job) for job in named.values() if job and job_status.needs_pods(job)]
        pods = self._pods(cluster, namespace, asked)
        found = {}
        for job in jobs:
            seen = named[job.id]
            if seen is None or not _is_same(job, seen):
                found[job.id] = self._with_reason(job, JobStatus.UNKNOWN, _GONE)
            else:
                reason = job_status.reason_of(seen, pods.get(job_spec.name_of(seen), ()))
                found[job.id] = self._with_reason(job, job_status.status_of(seen), reason)
        return found

    def _pods(self, cluster: Cluster, namespace: str, names: Sequence[str]) -> dict[str, list[JsonObject]]:
        """The pods of some jobs, by the job's name; {} where they may not be seen: the jobs' own words have to do."""
        found: dict[str, list[JsonObject]] = {}
        try:
            for begin in range(0, len(names), _SELECTED_AT_ONCE):
                selector = f"job-name in ({','.join(names[begin : begin + _SELECTED_AT_ONCE])})"
                for pod in cluster.pods(namespace, selector):
                    found.setdefault(str(job_spec.label_of(pod, "job-name")), []).append(pod)
        except KubernetesError as error:
            self.context.announce(f"why jobs wait or failed is not known in full: {one_line(error)}")
        return found

    @staticmethod
    def _with_reason(job: JobRecord, status: JobStatus, reason: str | None) -> JobUpdate:
        """What was seen; details only where the reason is new, or no longer holds."""
        if reason == job.reason:
            return JobUpdate(status)
        details = {key: value for key, value in job.details.items() if key != "reason"}
        return JobUpdate(status, {**details, "reason": reason} if reason else details)


def _selector(jobs: Sequence[JobRecord]) -> str | None:
    """What selects these jobs, and few others: their groups, else whatever is ours; jobs of 0.4.2 have no labels."""
    labels = [object_at(job.details, "job", "metadata", "labels") for job in jobs]
    if not all(TOKEN_LABEL in each for each in labels):
        return None
    groups = {str(each.get(GROUP_LABEL, "")) for each in labels}
    if "" in groups or len(groups) > _SELECTED_AT_ONCE:
        return TOKEN_LABEL
    return f"{TOKEN_LABEL},{GROUP_LABEL} in ({','.join(sorted(groups))})"


def _is_same(job: JobRecord, there: JsonObject) -> bool:
    """Whether the cluster's job is the recorded one, not a later one of the same name."""
    uid = text_at(job.details, "job", "metadata", "uid")
    return uid is None or uid == text_at(there, "metadata", "uid")


def logs_command(context: str, details: JsonObject) -> str:
    """The command that streams a recorded job's log."""
    namespace, name = (text_at(details, "job", "metadata", key) for key in ("namespace", "name"))
    return f"kubectl --context {context} --namespace {namespace} logs --follow job/{name}"


def object_at(parent: JsonObject, *path: str) -> Mapping[str, object]:
    """The object at a path of keys; {} where there is none."""
    value: object = parent
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def text_at(parent: JsonObject, *path: str) -> str | None:
    """The text at a path of keys; None where there is none."""
    value = object_at(parent, *path[:-1]).get(path[-1])
    return value if isinstance(value, str) else None
