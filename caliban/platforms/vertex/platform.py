"""Jobs on Vertex AI, as custom jobs of aiplatform v1."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

from caliban.attempts import Submission
from caliban.errors import CalibanError, PlatformError, one_line
from caliban.platforms.base import MaySend
from caliban.platforms.context import PlatformContext
from caliban.platforms.google.details import TimeLimits
from caliban.platforms.google.identifiers import REGION
from caliban.platforms.google.jobs_client import job_image
from caliban.platforms.google.labels import has_token, request_body
from caliban.platforms.google.training_platform import TrainingPlatform
from caliban.platforms.migration import Migration, MigrationTarget
from caliban.platforms.retry import RetryPolicy
from caliban.platforms.submit_once import poll_until
from caliban.platforms.vertex import details, from_caip, job_spec
from caliban.platforms.vertex.client import VertexClient
from caliban.platforms.vertex.details import VertexDestination
from caliban.platforms.vertex.machines import CATALOG
from caliban.platforms.vertex.resource_changes import VertexResources
from caliban.records import ImageRef, JobDetails, JobRecord, JobStatus, JsonObject, NewJob

REGION_VARIABLE = "REGION"

_OLD = timedelta(days=1)
"""So long after its submission, a job that lists do not show was not created, whatever two machines' clocks say."""

_READ_MASK = "name,displayName,state,error,createTime,startTime,endTime,updateTime"
_CANCELLABLE = frozenset({"JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_PAUSED"})


class VertexPlatform(VertexResources, TrainingPlatform[VertexDestination], MigrationTarget):
    """Vertex AI, in any number of projects and regions. Its methods may be called on several threads.

    The service names a job itself and accepts no request id, so that only the label ``caliban_token`` shows whether a
    submission became a job; and its lists may contain a new job only after some seconds. Google does not say how many.
    ``RetryPolicy.consistency_delay`` (half a minute) is assumed to be enough: processing a request takes a few seconds,
    and lists are seconds behind, so that it is several times the usual sum of both; and it starts when an answer did
    not arrive, which for a timeout is a minute after the request.
    """

    id = "VERTEX"
    service_name = "Vertex AI"
    api = "aiplatform"
    known_settings = job_spec.KNOWN_SETTINGS
    place_type = VertexDestination
    not_recorded = "its name, project or region is not recorded"
    list_options: ClassVar[Mapping[str, str]] = {"readMask": _READ_MASK}
    states: ClassVar[Mapping[str, JobStatus]] = {
        "JOB_STATE_QUEUED": JobStatus.SUBMITTED,
        "JOB_STATE_PENDING": JobStatus.SUBMITTED,
        "JOB_STATE_RUNNING": JobStatus.RUNNING,
        "JOB_STATE_CANCELLING": JobStatus.RUNNING,
        "JOB_STATE_PAUSED": JobStatus.RUNNING,
        "JOB_STATE_UPDATING": JobStatus.RUNNING,
        "JOB_STATE_SUCCEEDED": JobStatus.SUCCEEDED,
        "JOB_STATE_CANCELLED": JobStatus.STOPPED,
        "JOB_STATE_FAILED": JobStatus.FAILED,
        "JOB_STATE_EXPIRED": JobStatus.FAILED,
        "JOB_STATE_PARTIALLY_SUCCEEDED": JobStatus.FAILED,
    }
    """Source: ``GoogleCloudAiplatformV1CustomJob.state`` in the discovery document."""

    def __init__(self, context: PlatformContext, retry_policy: RetryPolicy | None = None) -> None:
        super().__init__(context, retry_policy)
        self.client: VertexClient = VertexClient(self.google)
        self._sent: set[str] = set()
        self._gone_since: dict[tuple[str, int, int | None], float] = {}

    @classmethod
    def parse_details(cls, status: JobStatus, raw: JsonObject) -> JobDetails:
        """See :func:`caliban.platforms.vertex.details.parse_details`."""
        return details.parse_details(status, raw)

    @classmethod
    def usage(cls, spec: JsonObject) -> Mapping[str, int]:
        """See :meth:`caliban.platforms.base.Platform.usage`."""
        return job_spec.usage(spec)

    @classmethod
    def details_at(cls, destination: JsonObject) -> JobDetails:
        """See :meth:`caliban.platforms.base.Platform.details_at`."""
        return details.details_at(destination)

    def effects(self, job: JobRecord) -> tuple[str, ...]:
        """Add the images that are not replaced."""
        return (*super().effects(job), *(f"run the image {image}, too" for image in job_spec.other_images(job.spec)))

    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        """Return the same job with another image, also in its label."""
        return job_spec.with_image(spec, image)

    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        """Return a job on the same hardware with another image and other arguments."""
        return job_spec.with_arguments(spec, image, arguments)

    def migrate(self, job: JobRecord) -> Migration:
        """Convert a job of AI Platform Training; see :func:`caliban.platforms.vertex.from_caip.migrate`."""
        return from_caip.migrate(job)

    def destination(self, latest: JobRecord | None) -> VertexDestination:
        """Return project and region of the last attempt, or ``--project_id`` and so on, and ``$REGION``.

        Raises:
            UsageError: ``no-project``, ``project-malformed``, ``region-malformed``.
            PlatformError: the recorded destination is malformed.
            CredentialsError: ``no-credentials``.
        """
        project, recorded = self._project(latest), self._recorded_place(latest) if latest else None
        if recorded is not None:
            return replace(recorded, project=project)
        region = self.context.environ.get(REGION_VARIABLE) or CATALOG.default_region
        return VertexDestination(project, REGION.check_given(region))

    def submit(self, spec: JsonObject, submission: Submission, may_send: MaySend) -> NewJob:
        """Create a custom job with the submission's token.

        After an answer that leaves the outcome unknown, the job is looked up by its token until lists can be assumed to
        contain it (see the class), and only then requested again. If two jobs carry the token in the end, the older one
        is kept and the other cancelled: when the second one is answered, and whenever the token is looked up later.

        What remains is a job that appears even later, after a second request succeeded. It runs beside the recorded one
        until the token is looked up.
        """
        image = job_spec.image_of(spec)
        place = VertexDestination.from_json(submission.destination)
        with self._lock:
            was_sent = submission.token in self._sent
            self._sent.add(submission.token)
        if was_sent and (there := self.find(submission)) is not None:
            return there
        job = self._submit_once(
            place,
            request_body(spec, self.client.name_key, submission.name, submission.token),
            lambda: self._oldest_with_token(place, submission.token),
            may_send=may_send,
            details=details.place_details(place, submission.name),
            consistency_delay=self.google.retry_policy.consistency_delay,
        )
        return self._new_job(place, job, image)

    def find(self, submission: Submission) -> NewJob | None:
        """Return the job with the submission's token; None only once lists would contain a job that was requested.

        The process that submitted it has ended, but may have sent a request at the very end: so the job is looked for
        until ``RetryPolicy.consistency_delay`` after the process was first found to have ended, unless the submission
        is a day old.

        Raises:
            PlatformError: ``look-up-interrupted``.
        """
        place = VertexDestination.from_json(submission.destination)
        clock, stopping = self.context.clock, self.context.stopping
        deadline = self._listed_at(submission)

        def look_up() -> JsonObject | None:
            return self._oldest_with_token(place, submission.token)

        is_settled = clock.monotonic() >= deadline
        job = look_up()
        if job is None and not is_settled:
            self.context.announce("Vertex AI may list new jobs late; looking for jobs of an interrupted command ...")
            job = poll_until(look_up, deadline, clock, stopping)
            if job is None and stopping.is_set():
                raise PlatformError("look-up-interrupted", f"the search for the job {submission.name} was interrupted")
        return self._new_job(place, job, job_image(job_spec.image_of, job)) if job else None

    def _listed_at(self, submission: Submission) -> float:
        """Return when lists would contain a job of the submission, by :meth:`caliban.clock.Clock.monotonic`.

        The clocks of two machines may differ by hours, so that only a submission of another day counts as old.
        """
        clock, delay = self.context.clock, self.google.retry_policy.consistency_delay
        now = clock.monotonic()
        if clock.utc_now() - submission.created > _OLD:
            return now
        batch_id = submission.batch.id if submission.batch else None
        owner = (submission.host, submission.pid, batch_id)
        with self._lock:
            gone = now if submission.pid == os.getpid() else self._gone_since.setdefault(owner, now)
        return gone + delay

    def _oldest_with_token(self, place: VertexDestination, token: str) -> JsonObject | None:
        """Return the oldest job with the token; cancel all others that have it."""
        pages = self.client.pages(place, job_spec.token_filter(token))
        jobs = [job for page in pages for job in page if has_token(job, token)]
        jobs.sort(key=lambda job: str(job.get("createTime")))
        for duplicate in jobs[1:]:
            if str(duplicate.get("state")) in _CANCELLABLE:
                self._cancel_duplicate(place, str(duplicate.get("name")))
        return jobs[0] if jobs else None

    def _cancel_duplicate(self, place: VertexDestination, name: str) -> None:
        try:
            self.client.cancel(place, name)
        except CalibanError as error:
            self.context.reporter.warn(f"the job {name} is a duplicate and still runs: {one_line(error)}")
        else:
            self.context.reporter.warn(f"the job {name} was a duplicate and is being cancelled")

    def _new_job(self, place: VertexDestination, job: JsonObject, image: ImageRef) -> NewJob:
        status = self._status(job, job) or JobStatus.UNKNOWN
        return NewJob(image, status, self.parse_details(status, details.new_details(place, status, job)))

    def _filter(self, jobs: Sequence[JobRecord]) -> str:
        return job_spec.names_filter([job.details.display_name or "" for job in jobs])

    def _details_of(self, job: JobRecord, status: JobStatus, found: JsonObject) -> JsonObject:
        return details.updated_details(job.details.raw, status, found, job.spec)

    def _time_limits(self, spec: JsonObject) -> TimeLimits:
        return details.time_limits(spec)

    def _has_several_machines(self, spec: JsonObject) -> bool:
        return details.has_several_machines(spec)
