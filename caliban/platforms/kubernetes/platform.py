"""Jobs on Kubernetes clusters: what is the same however a cluster is named and reached."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timezone
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from caliban.attempts import Submission
from caliban.causes import reason_of
from caliban.config import ProjectConfig
from caliban.errors import CalibanError, PlatformError, one_line
from caliban.platforms.base import (
    GROUP_LABEL,
    LogRequest,
    LogSource,
    MaySend,
    Platform,
    RefusedError,
    RemotePlatform,
    unavailable,
)
from caliban.platforms.context import PlatformContext
from caliban.platforms.effects import unknown_settings
from caliban.platforms.google.client import Google
from caliban.platforms.google.image_registry import image_registry
from caliban.platforms.kubernetes import details, job_spec
from caliban.platforms.kubernetes.choice import ClusterChoice
from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.clusters import RecognisedClusters
from caliban.platforms.kubernetes.details import ClusterDestination, JobState
from caliban.platforms.kubernetes.env_secrets import without_secrets
from caliban.platforms.kubernetes.job_output import JobOutput
from caliban.platforms.kubernetes.job_states import JobStates, ListedJob, container_of, is_recorded, selector_of
from caliban.platforms.kubernetes.security import check_image_user
from caliban.platforms.kubernetes.tpu_hosts import of_one_host
from caliban.platforms.retry import DEFAULT, Backoff, RetryPolicy
from caliban.platforms.submit_once import submit_once
from caliban.records import (
    Destination,
    ImageRef,
    JobDetails,
    JobRecord,
    JobStatus,
    JobUpdate,
    JsonObject,
    NewJob,
    OutputLine,
    StatusUnavailable,
)
from caliban.threads import side_by_side

if TYPE_CHECKING:
    from caliban.images.registry.push import Registry

_D = TypeVar("_D", bound=ClusterDestination)

_STOP_ATTEMPTS = 5
_NOT_FOUND = "the job no longer exists on the cluster"


class ClusterPlatform(RecognisedClusters[_D], Platform, RemotePlatform, LogSource, Generic[_D]):
    """Jobs of batch/v1 in namespaces of clusters. Its methods may be called on several threads.

    Attributes:
        destination_type: the class of its destinations.
        google: Google's APIs, for a registry of Google's, and for GKE.
    """

    destination_type: ClassVar[type[ClusterDestination]]

    def __init__(self, context: PlatformContext, retry_policy: RetryPolicy | None = None) -> None:
        RecognisedClusters.__init__(self, context, retry_policy or DEFAULT)
        Platform.__init__(self, context)
        self.google = Google(context, retry_policy)

    @abstractmethod
    def choose(self, choice: ClusterChoice) -> _D:
        """Return the destination that the user chose with flags; may ask Google.

        Raises:
            CalibanError: there is no such cluster, or it cannot be looked up.
        """

    @classmethod
    def parse_details(cls, status: JobStatus, raw: JsonObject) -> JobDetails:
        """See :meth:`Platform.parse_details`."""
        return details.parse_details(cls.destination_type, status, raw)

    @classmethod
    def usage(cls, spec: JsonObject) -> Mapping[str, int]:
        """See :meth:`caliban.platforms.base.Platform.usage`."""
        return job_spec.usage(spec)

    @classmethod
    def details_at(cls, destination: JsonObject) -> JobDetails:
        """See :meth:`caliban.platforms.base.Platform.details_at`."""
        return details.details_at(cls.destination_type, destination)

    def destination(self, latest: JobRecord | None) -> _D:
        """Return the cluster and namespace of the latest attempt, recognised by what is recorded of the cluster.

        Raises:
            PlatformError: ``malformed-job-details``: they are not recorded.
            CalibanError: the cluster cannot be asked, or is another one (``another-cluster``).
        """
        recorded = self._recorded(latest)
        return recorded if recorded.is_identified else self._identified(recorded)

    def _recorded(self, job: JobRecord | None) -> _D:
        if job is None or job.details.destination is None:
            raise PlatformError(
                "malformed-job-details",
                f"cannot determine where job {job.id} ran" if job else "no cluster is selected",
                cause="its cluster or namespace is not recorded" if job else None,
                hint="submit the experiment again",
            )
        return self._own(job.details.destination)

    def image_platform(self, config: ProjectConfig, spec: JsonObject) -> str | None:
        """See :meth:`Platform.image_platform`; a job may forbid to run as root, as images do that root builds."""
        check_image_user(spec)
        return super().image_platform(config, spec)

    def image_registry(self, config: ProjectConfig, destination: Destination | None) -> Registry | None:
        """See :meth:`Platform.image_registry`."""
        project = None if destination is None else self._project(self._own(destination))
        return image_registry(config.registry, project, self.context, self.google, config_repository=config.repository)

    def _project(self, destination: _D) -> str | None:
        """Return the Google Cloud project whose registry is the default, or None."""
        return None

    def connect(self, destination: Destination) -> None:
        """Find the cluster, log in, and check that the namespace exists.

        Raises:
            CalibanError: no cluster, no credentials, no response, or no such namespace.
        """
        own = self._own(destination)
        self.cluster(own).check_namespace(own.namespace)

    def statuses(self, jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        """List the jobs of each cluster and namespace once, and the pods of those that failed or wait.

        Clusters are asked side by side.
        """
        found: dict[int, JobUpdate | StatusUnavailable] = {}
        by_destination: dict[_D, list[JobRecord]] = {}
        for job in jobs:
            try:
                by_destination.setdefault(self._recorded(job), []).append(job)
            except CalibanError as error:
                found[job.id] = unavailable(error)
        calls = {place: partial(self._statuses_at, place, group) for place, group in by_destination.items()}
        for destination, updates in side_by_side(calls).items():
            if isinstance(updates, CalibanError):
                answer = unavailable(updates)
                found.update({job.id: answer for job in by_destination[destination]})
            else:
                found.update(updates)
        return found

    def listing(self, destination: _D) -> list[ListedJob]:
        """Return every job of a namespace, caliban's and others', newest first.

        Raises:
            CalibanError: the cluster cannot be queried.
        """
        jobs = list(self.cluster(destination).jobs(destination.namespace, None))
        states = self._states(destination).of(jobs, {}, waits=False)
        listed = [
            ListedJob(
                name=job_spec.name_of(job),
                state=self._in_shared_words(states[job_spec.name_of(job)]),
                created=str(details.object_at(job, "metadata").get("creationTimestamp") or ""),
                group=job_spec.label_of(job, GROUP_LABEL),
            )
            for job in jobs
        ]
        return sorted(listed, key=lambda job: job.created, reverse=True)

    def _in_shared_words(self, state: JobState) -> JobState:
        """Return a state whose reason is what ``status`` would show."""
        found = self.parse_details(state.status, details.with_state({}, state))
        job = JobRecord(0, self.id, 0, {}, "", state.status, found, self.context.clock.now())
        return replace(state, reason=reason_of(job))

    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        """See :meth:`Platform.with_image`."""
        return job_spec.with_image(of_one_host(spec), image)

    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        """See :meth:`Platform.with_arguments`."""
        return job_spec.with_arguments(of_one_host(spec), image, arguments)

    def effects(self, job: JobRecord) -> tuple[str, ...]:
        """Return the settings that caliban does not make, and the cluster that is recorded."""
        lines = tuple(unknown_settings(without_secrets(job.spec), job_spec.KNOWN_SETTINGS))
        place = job.details.destination
        if not isinstance(place, self.destination_type):
            return lines
        where = ", ".join(f"{name} {value}" for name, value in place.to_json().items())
        return (*lines, f"run in the {where}, with your credentials")

    def job_name(self, spec: JsonObject, token: str) -> str:
        """Return the base of the spec with the beginning of the token: ``caliban-totoro-0f1e2d3c4b``."""
        return job_spec.job_name(spec, token)

    def submit(self, spec: JsonObject, submission: Submission, may_send: MaySend) -> NewJob:
        """Create the job under the submission's name or, where another job has it, under the next one.

        A job with the submission's token is adopted. After a lost response it is looked up before it is sent again.
        """
        job_spec.image_of(spec)
        destination = self._destination_of(submission)
        try:
            cluster = self.cluster(destination)
        except CalibanError as error:
            raise _refused(error, destination, submission) from error
        labels = job_spec.submission_labels(submission)
        for name in job_spec.candidate_names(submission.name, submission.token):
            body = job_spec.manifest(spec, name, labels)
            warnings: list[str] = []
            job, is_new = self._create(cluster, destination, body, submission, may_send, warnings)
            if is_new or job_spec.has_token(job, submission.name, submission.token):
                return self._new_job(destination, job, spec, warnings)
        taken = PlatformError(
            "job-name-taken",
            f"cannot submit the job {submission.name}: the {cluster.name} already has jobs of its names",
            hint="try again: the job will get a new name",
        )
        raise _refused(taken, destination, submission)

    def find(self, submission: Submission) -> NewJob | None:
        """Return the job with the submission's token, under any of the names that :meth:`submit` tries, or another.

        All of them: the job of another user that had the first name may have been deleted since.
        """
        destination = self._destination_of(submission)
        cluster = self.cluster(destination)
        for name in job_spec.candidate_names(submission.name, submission.token):
            job = cluster.get_job(destination.namespace, name)
            if job is not None and job_spec.has_token(job, submission.name, submission.token):
                return self._new_job(destination, job, {})
        return None

    def stop(self, job: JobRecord) -> JobUpdate:
        """Delete the job and its pods, unless it has ended."""
        destination = self._recorded(job)
        cluster = self.cluster(destination)
        for _ in range(_STOP_ATTEMPTS):
            found = cluster.get_job(destination.namespace, str(job.details.display_name or ""))
            if found is None or not is_recorded(job, found):
                return self._update(job, None)
            state = self._states(destination).of_one(found, container_of(job))
            if state.status.is_final:
                return self._update(job, state)
            if cluster.delete_job(destination.namespace, found):
                now = self.context.clock.now().astimezone(timezone.utc)
                ended = now.isoformat(timespec="seconds")
                return self._update(job, JobState(JobStatus.STOPPED, started=state.started, ended=ended))
        raise PlatformError(
            "job-keeps-changing", f"cannot stop job {job.id}: the cluster changes it all the time", hint="try again"
        )

    def logs(self, job: JobRecord, request: LogRequest) -> Iterator[OutputLine]:
        """Yield the output of the job's own container in all of its pods; see :meth:`LogSource.logs`."""
        destination = self._recorded(job)
        cluster = self.cluster(destination)
        output = JobOutput(cluster, destination.namespace, job, container_of(job), self.context)
        yield from output.lines(request)

    def links(self, job: JobRecord) -> Sequence[str]:
        """See :meth:`RemotePlatform.links`."""
        return job.details.links

    def _own(self, destination: Destination) -> _D:
        assert isinstance(destination, self.destination_type)
        return destination  # type: ignore[return-value]  # a class variable cannot have a type variable

    def _destination_of(self, submission: Submission) -> _D:
        return self._own(self.destination_type.from_json(submission.destination))

    def _create(
        self,
        cluster: Cluster,
        destination: _D,
        body: JsonObject,
        submission: Submission,
        may_send: MaySend,
        warnings: list[str],
    ) -> tuple[JsonObject, bool]:
        """Return the job that has the name of ``body``, and whether it certainly is the one that was sent.

        The others were there already: the submission's own, after a lost response, or another user's.

        Raises:
            RefusedError: it was not created.
            CalibanError: whether it was is unknown.
        """
        name = job_spec.name_of(body)
        busy = f"the {cluster.name} is busy; jobs are submitted as soon as it accepts requests again ..."
        created: list[JsonObject] = []

        def send() -> JsonObject:
            made = cluster.create_job(destination.namespace, body, partial(self._report, cluster, name, warnings))
            created.append(made)
            return made

        job = submit_once(
            send,
            lambda: cluster.get_job(destination.namespace, name),
            may_send=may_send,
            name=name,
            backoff=Backoff(
                self._retry_policy,
                self.context.clock,
                self.context.stopping,
                partial(self.context.announce, busy),
                self.google.on_retry,
            ),
            context=self.context,
            refused=lambda error: _refused(error, destination, submission),
        )
        return job, any(job is each for each in created)

    def _report(self, cluster: Cluster, name: str, warnings: list[str], warning: str) -> None:
        """Report what a cluster says of a new job, once for all jobs, and add it to ``warnings``."""
        warnings.append(warning)
        self.context.warn(f"the {cluster.name} warns: {warning.replace(name, 'JOB')}")

    def _new_job(self, destination: _D, job: JsonObject, spec: JsonObject, warnings: Sequence[str] = ()) -> NewJob:
        """Return an accepted job. Nothing but its identity is required of it.

        Args:
            destination: where it is.
            job: as the cluster returned it.
            spec: its job spec; {} where that is not known.
            warnings: what the cluster said of it when it was created.
        """
        container = job_spec.container_name(spec)
        own = job_spec.own_container(job, container)
        state = self._states(destination).of_one(job, own)
        raw = details.with_state(details.job_details(destination, job, own or container, warnings), state)
        image = job_spec.image_in(job, own) or job_spec.image_in({"spec": spec}, container)
        return NewJob(image, state.status, self.parse_details(state.status, raw))

    def _statuses_at(self, destination: _D, jobs: Sequence[JobRecord]) -> dict[int, JobUpdate]:
        cluster = self.cluster(destination)
        selector = selector_of(jobs)
        by_name = {job_spec.name_of(job): job for job in cluster.jobs(destination.namespace, selector)}
        for job in jobs if selector else ():
            name = job.details.display_name or ""
            # the labels that the list was selected by may have been changed since
            if name not in by_name and name and (again := cluster.get_job(destination.namespace, name)):
                by_name[name] = again
        found = {job.id: by_name.get(job.details.display_name or "") for job in jobs}
        same = {job.id: each for job in jobs if (each := found[job.id]) and is_recorded(job, each)}
        own = {job_spec.name_of(same[job.id]): container_of(job) for job in jobs if job.id in same}
        states = self._states(destination).of(list(same.values()), own)
        return {
            job.id: self._update(job, states[job_spec.name_of(same[job.id])] if job.id in same else None)
            for job in jobs
        }

    def _states(self, destination: _D) -> JobStates:
        return JobStates(self.cluster(destination), destination.namespace, self.context)

    def _update(self, job: JobRecord, state: JobState | None) -> JobUpdate:
        """Return the update for a state; None is that of a job that the cluster does not have."""
        if state is None:
            started = job.details.raw.get("started")
            state = JobState(JobStatus.UNKNOWN, _NOT_FOUND, started=started if isinstance(started, str) else None)
        state = details.with_warning(state, job.details.raw)
        updated = self.parse_details(state.status, details.with_state(job.details.raw, state))
        return JobUpdate(state.status, None if updated == job.details else updated)


def _refused(error: CalibanError, destination: ClusterDestination, submission: Submission) -> RefusedError:
    """Return the error for a job that certainly does not run."""
    raw = details.refused_details(destination, submission.name, one_line(error))
    return RefusedError(error.id, error.message, cause=error.cause, hint=error.hint, details=raw)
