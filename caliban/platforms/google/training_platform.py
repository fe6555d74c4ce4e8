"""What Google's training services have in common as platforms: projects, batched status requests, quotas."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from caliban.errors import CalibanError, PlatformError
from caliban.platforms.base import (
    LogRequest,
    LogSource,
    MaySend,
    Platform,
    RefusedError,
    RemotePlatform,
    unavailable,
)
from caliban.platforms.context import PlatformContext
from caliban.platforms.effects import Known, unknown_settings
from caliban.platforms.flags import project_id
from caliban.platforms.google import labels
from caliban.platforms.google.client import PAGE_SIZE, Google
from caliban.platforms.google.cloud_logging import CloudLogging, LogQuery, Stop
from caliban.platforms.google.details import ProjectDestination, TimeLimits
from caliban.platforms.google.endpoints import check_logging_endpoint
from caliban.platforms.google.errors import GoogleRefusedError
from caliban.platforms.google.identifiers import PROJECT
from caliban.platforms.google.job_output import JobState, OutputOf, job_filter, read_output
from caliban.platforms.google.jobs_client import JobsClient, short_id, without_secrets
from caliban.platforms.google.projects import named_project
from caliban.platforms.retry import Backoff, RetryPolicy, ServiceError
from caliban.platforms.submit_once import submit_once
from caliban.records import (
    Destination,
    ImageRef,
    JobRecord,
    JobStatus,
    JobUpdate,
    JsonObject,
    OutputLine,
    StatusUnavailable,
)
from caliban.threads import side_by_side

if TYPE_CHECKING:
    from caliban.config import ProjectConfig
    from caliban.images.registry.push import Registry

_FEW = 2
"""So many jobs are requested one by one: a page of a list may contain none of them."""

_Place = TypeVar("_Place", bound=ProjectDestination)


class TrainingPlatform(Platform, RemotePlatform, LogSource, Generic[_Place]):
    """A training service of Google, in any number of projects. Its methods may be called on several threads.

    Attributes:
        service_name: for messages: ``Vertex AI``.
        states: state of the service -> ours.
        not_recorded: why a job cannot be queried whose id or destination is not recorded.
        is_run_by_digest: whether jobs name their image by its digest.
        api: of the service, in the discovery document.
        list_options: parameters of the list method.
        known_settings: the shape of the job specs that caliban makes.
        place_type: of its destinations.
        client: the service's jobs.
    """

    service_name: ClassVar[str]
    api: ClassVar[str]
    states: ClassVar[Mapping[str, JobStatus]]
    not_recorded: ClassVar[str]
    is_run_by_digest: ClassVar[bool] = True
    list_options: ClassVar[Mapping[str, str]] = {}
    known_settings: ClassVar[Mapping[str, Known]]
    place_type: type[_Place]
    client: JobsClient[_Place]

    def __init__(self, context: PlatformContext, retry_policy: RetryPolicy | None = None) -> None:
        super().__init__(context)
        self.google = Google(context, retry_policy)
        self._logging = CloudLogging(self.google, context)
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._is_over_quota = False

    @abstractmethod
    def _filter(self, jobs: Sequence[JobRecord]) -> str:
        """Return the filter of a list that contains ``jobs``, and few others."""

    @abstractmethod
    def _details_of(self, job: JobRecord, status: JobStatus, found: JsonObject) -> JsonObject:
        """Return what to record of a job, from what is recorded and what the service reports."""

    @abstractmethod
    def _time_limits(self, spec: JsonObject) -> TimeLimits:
        """Return how long a job may run and wait, from its spec or the job that the service reports."""

    @abstractmethod
    def _has_several_machines(self, spec: JsonObject) -> bool:
        """Return whether a job runs on more than one machine."""

    def connect(self, destination: Destination) -> None:
        """Check how the destination is spelled, and fetch an access token, before anything is built or journaled.

        Raises:
            CalibanError: it is malformed, there are no credentials, or Google does not accept them.
        """
        assert isinstance(destination, self.place_type)
        destination.check()
        self.google.access_token()

    def image_registry(self, config: ProjectConfig, destination: Destination | None) -> Registry | None:
        """Return the configured registry, or that of the destination's project."""
        from caliban.platforms.google.image_registry import image_registry

        project = destination.project if isinstance(destination, ProjectDestination) else None
        return image_registry(
            config.registry,
            project,
            self.context,
            self.google,
            by_digest=self.is_run_by_digest,
            config_repository=config.repository,
        )

    def links(self, job: JobRecord) -> Sequence[str]:
        """Return the job's page in the console, and gcloud's command that streams its log."""
        return job.details.links

    def logs(self, job: JobRecord, request: LogRequest) -> Iterator[OutputLine]:
        """See :meth:`LogSource.logs`. What the service itself logs of a job is left out.

        Raises:
            PlatformError: ``output-gone``, ``output-not-ready``, ``output-refused``, ``logging-endpoint-unknown``; or
                what is recorded of the job is malformed.
            CalibanError: Cloud Logging cannot be asked.
        """
        place, job_id = self._recorded_place(job), job.details.id
        if place is None or job_id is None:
            raise PlatformError("output-gone", f"job {job.id} has no output", cause=job.reason or self.not_recorded)
        self.client.check_name(place, job_id)
        check_logging_endpoint(self.context.environ, self.api)
        number = short_id(job_id)
        found = OutputOf(
            LogQuery(place.project, job_filter(number), f"the job {job.details.display_name or number}"),
            JobState(job.status.is_final, job.details.ended),
            self._has_several_machines(job.spec),
            job.details.ended or job.created.astimezone(),
            job.details.started is not None,
            partial(self._current_state, job),
            self.context.warn,
        )
        clock = self.context.clock
        return read_output(self._logging, found, request, clock, Stop(clock, self.context.stopping))

    def _current_state(self, job: JobRecord) -> JobState:
        update = self.statuses([job])[job.id]
        if isinstance(update, StatusUnavailable):
            return JobState(is_final=False, unavailable=update.reason)
        ended = update.details.ended if update.details else job.details.ended
        return JobState(update.status.is_final or update.status is JobStatus.UNKNOWN, ended)

    def job_name(self, spec: JsonObject, token: str) -> str:
        """Return ``caliban_totoro_20200529_110259_1``: base and index of the spec's name, and the time.

        Raises:
            PlatformError: ``malformed-job-spec``.
        """
        recorded = labels.text_at(spec, self.client.name_key)
        first, second, _ = labels.candidate_names(labels.full_name(recorded, token, self.context.clock.now()), token)
        with self._lock:
            name = second if first in self._names else first
            self._names.add(name)
        return name

    def statuses(self, jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        """Query the jobs of each destination: in pages of a list, or one by one where that is fewer requests."""
        found: dict[int, JobUpdate | StatusUnavailable] = {}
        by_place: dict[_Place, list[JobRecord]] = {}
        for job in jobs:
            place = self._recorded_place(job)
            if place is None or job.details.id is None:
                found[job.id] = StatusUnavailable(self.not_recorded, is_permanent=True)
            else:
                by_place.setdefault(place, []).append(job)
        queries = {place: partial(self._updates, place, group) for place, group in by_place.items()}
        for place, result in side_by_side(queries).items():
            if isinstance(result, CalibanError):
                reason = self._unavailable(result)
                found.update({job.id: reason for job in by_place[place]})
            else:
                found.update(result)
        return found

    def effects(self, job: JobRecord) -> tuple[str, ...]:
        """Return the settings that caliban does not make, and the project unless the user has named it."""
        lines = tuple(unknown_settings(job.spec, self.known_settings))
        place = self._recorded_place(job)
        named = named_project(self.context.options, self.context.environ)
        if place is None or (named and (named.source == "--project_id" or named.id == place.project)):
            return lines
        return (*lines, f"run in the project {place.project}, with your credentials")

    def stop(self, job: JobRecord) -> JobUpdate:
        """Cancel the job, and query its state afterwards."""
        place, job_id = self._recorded_place(job), job.details.id
        if place is None or job_id is None:
            raise PlatformError("malformed-job-details", f"cannot stop job {job.id}", cause=self.not_recorded)
        try:
            self.client.cancel(place, job_id)
        except GoogleRefusedError as error:
            if error.code not in (400, 404, 409):
                raise
            ended = self._query(place, job)  # a job that has ended, or does not exist, cannot be cancelled
            if isinstance(ended, JobUpdate) and (ended.status.is_final or ended.status is JobStatus.UNKNOWN):
                return ended
            raise
        after = self._query(place, job)
        return JobUpdate(JobStatus.RUNNING) if isinstance(after, StatusUnavailable) else after

    def _recorded_place(self, job: JobRecord) -> _Place | None:
        """Return where a job of this platform runs; None where that is not recorded."""
        destination = job.details.destination
        return destination if isinstance(destination, self.place_type) else None

    def _project(self, latest: JobRecord | None) -> str:
        """Return ``--project_id``, or the project of the last attempt, or :meth:`Google.project`.

        Raises:
            UsageError: ``no-project``, ``project-malformed``.
            PlatformError: ``project-malformed``, ``region-malformed``: the recorded destination is.
            CredentialsError: ``no-credentials``.
        """
        place = self._recorded_place(latest) if latest else None
        if place is None:
            return self.google.project()
        place.check()
        recorded, chosen = place.project, project_id(self.context.options)
        if chosen and PROJECT.check_given(chosen) != recorded:
            self.context.announce(f"re-running jobs of project {recorded} in project {chosen} (--project_id)")
            return chosen
        named = named_project(self.context.options, self.context.environ)
        if not chosen and named and named.id != recorded:
            self.context.announce(
                f"re-running jobs of project {recorded} there, not in {named.id}; use --project_id to change that"
            )
        return recorded

    def _submit_once(
        self,
        place: _Place,
        body: JsonObject,
        look_up: Callable[[], JsonObject | None],
        *,
        may_send: MaySend,
        details: JsonObject,
        consistency_delay: float = 0,
    ) -> JsonObject:
        """Create a job, exactly once, and return it; see :func:`~caliban.platforms.submit_once.submit_once`.

        Args:
            place: where.
            body: of the request.
            look_up: returns what the service has instead.
            may_send: see :meth:`Platform.submit`.
            details: what to record of a job that is refused.
            consistency_delay: how long ``look_up`` may not see a new job, in seconds.

        Raises:
            RefusedError: it was not created.
            CalibanError: whether it was is unknown.
        """

        def create() -> JsonObject:
            created = self.client.create(place, body)
            self._is_over_quota = False
            # Ours, whatever the service or a policy made of the labels that were sent.
            return {**created, "labels": {**labels.labels_of(created), **labels.labels_of(body)}}

        def refused(error: CalibanError) -> RefusedError:
            self._is_over_quota = isinstance(error, ServiceError) and error.is_over_quota
            return refusal(error, details)

        return submit_once(
            create,
            look_up,
            may_send=may_send,
            name=str(body[self.client.name_key]),
            backoff=self._backoff(),
            context=self.context,
            refused=refused,
            consistency_delay=consistency_delay,
        )

    def _backoff(self) -> Backoff:
        policy = self.google.retry_policy
        if self._is_over_quota:  # it stayed exceeded while an earlier job waited: do not wait for it again
            policy = replace(policy, quota_deadline=0)
        context = self.context
        return Backoff(policy, context.clock, context.stopping, self._announce_quota, self.google.on_retry)

    def _announce_quota(self) -> None:
        self.context.announce(
            f"{self.service_name} limits the number of requests per minute; the remaining jobs are waiting ..."
        )

    def _updates(self, place: _Place, jobs: Sequence[JobRecord]) -> dict[int, JobUpdate | StatusUnavailable]:
        """Return the states of the jobs of one destination."""
        listed = self._listed(place, jobs)
        found: dict[int, JobUpdate | StatusUnavailable] = {}
        rest: list[JobRecord] = []
        for job in jobs:
            there = listed.get(_key(job))
            if there is None:
                rest.append(job)
            else:
                found[job.id] = self._update(job, there)
        if rest:
            queries = {job.id: partial(self._query, place, job) for job in rest}
            found.update({job_id: self._answer(each) for job_id, each in side_by_side(queries).items()})
        return found

    def _answer(self, result: JobUpdate | StatusUnavailable | CalibanError) -> JobUpdate | StatusUnavailable:
        return self._unavailable(result) if isinstance(result, CalibanError) else result

    def _listed(self, place: _Place, jobs: Sequence[JobRecord]) -> dict[str, JsonObject]:
        """Return those of the jobs that pages of a list contain, while pages promise fewer requests."""
        wanted = {_key(job) for job in jobs}
        listed: dict[str, JsonObject] = {}
        if len(wanted) <= _FEW:
            return listed
        limit = -(-len(wanted) // PAGE_SIZE) + len(wanted) // 10
        try:
            for number, page in enumerate(self._pages(place, jobs), start=1):
                listed.update({key: job for key, job in page if key in wanted})
                if len(listed) == len(wanted) or number == limit:
                    break
        except GoogleRefusedError as error:
            if error.code != 400:  # a filter that the service does not accept must not hide the jobs
                raise
        return listed

    def _pages(self, place: _Place, jobs: Sequence[JobRecord]) -> Iterator[list[tuple[str, JsonObject]]]:
        for page in self.client.pages(place, self._filter(jobs), **self.list_options):
            yield [(short_id(str(job.get(self.client.id_key))), job) for job in page]

    def _query(self, place: _Place, job: JobRecord) -> JobUpdate | StatusUnavailable:
        try:
            found = self.client.get(place, str(job.details.id))
        except CalibanError as error:
            return self._unavailable(error)
        if found is not None:
            return self._update(job, found)
        reason = f"{self.service_name} no longer has the job"
        return self._changed(job, JobStatus.UNKNOWN, {**job.details.raw, "reason": reason})

    def _update(self, job: JobRecord, found: JsonObject) -> JobUpdate | StatusUnavailable:
        """Return a job's state, and what is new about it, from the job that the service reports."""
        status = self._status(found, job.spec)
        if status is None:
            return StatusUnavailable(f"{self.service_name} reports an unknown state: {found.get('state')}")
        return self._changed(job, status, self._details_of(job, status, without_secrets(found)))

    def _changed(self, job: JobRecord, status: JobStatus, raw: JsonObject) -> JobUpdate:
        details = self.parse_details(status, raw)
        return JobUpdate(status, None if details == job.details else details)

    def _status(self, found: JsonObject, spec: JsonObject) -> JobStatus | None:
        """Return the state of a job; FAILED for one that the service itself cancelled, at a time limit."""
        status = self.states.get(str(found.get("state")))
        if status is JobStatus.STOPPED and self._time_limits(spec).exceeded(found):
            return JobStatus.FAILED
        return status

    def _unavailable(self, error: CalibanError) -> StatusUnavailable:
        return unavailable(error)


def job_image(image_of: Callable[[JsonObject], ImageRef], job: JsonObject) -> ImageRef:
    """Return the image of a job with our token; ``unknown`` where none is reported: the job is ours all the same.

    Args:
        image_of: the service's.
        job: as the service reports it.
    """
    try:
        return image_of(job)
    except PlatformError:
        return "unknown"


def refusal(error: CalibanError, details: JsonObject) -> RefusedError:
    """Return ``error`` as that of a job which certainly does not run."""
    return RefusedError(error.id, error.message, cause=error.cause, hint=error.hint, details=details)


def _key(job: JobRecord) -> str:
    """Return what distinguishes a job from others of its destination; the list may spell its project differently."""
    return short_id(str(job.details.id))
