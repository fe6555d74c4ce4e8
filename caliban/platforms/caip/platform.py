"""Jobs on AI Platform Training (CAIP), by ml v1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from caliban.attempts import Submission
from caliban.errors import CalibanError, PlatformError
from caliban.platforms.base import MaySend, ServiceRetiredError
from caliban.platforms.caip import details, job_spec
from caliban.platforms.caip.client import CaipClient
from caliban.platforms.caip.details import CaipDestination
from caliban.platforms.caip.resource_changes import CaipResources
from caliban.platforms.context import PlatformContext
from caliban.platforms.google.details import TimeLimits
from caliban.platforms.google.jobs_client import job_image
from caliban.platforms.google.labels import candidate_names, common_prefix, has_token, request_body
from caliban.platforms.google.training_platform import TrainingPlatform, refusal
from caliban.platforms.retry import RetryPolicy
from caliban.records import (
    Destination,
    ImageRef,
    JobDetails,
    JobRecord,
    JobStatus,
    JsonObject,
    NewJob,
    StatusUnavailable,
)


class CaipPlatform(CaipResources, TrainingPlatform[CaipDestination]):
    """AI Platform Training, in any number of projects. Its methods may be called on several threads."""

    id = "CAIP"
    service_name = "AI Platform"
    api = "ml"
    known_settings = job_spec.KNOWN_SETTINGS
    place_type = CaipDestination
    not_recorded = "its name or its project is not recorded"
    is_run_by_digest = False  # by tag, as in caliban 0.4.2, which uses the same store
    states: ClassVar[Mapping[str, JobStatus]] = {
        "QUEUED": JobStatus.SUBMITTED,
        "PREPARING": JobStatus.SUBMITTED,
        "RUNNING": JobStatus.RUNNING,
        "SUCCEEDED": JobStatus.SUCCEEDED,
        "FAILED": JobStatus.FAILED,
        "CANCELLING": JobStatus.RUNNING,
        "CANCELLED": JobStatus.STOPPED,
    }
    """Source: ``GoogleCloudMlV1__Job.state`` in the discovery document."""

    def __init__(self, context: PlatformContext, retry_policy: RetryPolicy | None = None) -> None:
        super().__init__(context, retry_policy)
        self.client: CaipClient = CaipClient(self.google)

    @classmethod
    def parse_details(cls, status: JobStatus, raw: JsonObject) -> JobDetails:
        """See :func:`caliban.platforms.caip.details.parse_details`."""
        return details.parse_details(status, raw)

    @classmethod
    def usage(cls, spec: JsonObject) -> Mapping[str, int]:
        """See :meth:`caliban.platforms.base.Platform.usage`."""
        return job_spec.usage(spec)

    @classmethod
    def details_at(cls, destination: JsonObject) -> JobDetails:
        """See :meth:`caliban.platforms.base.Platform.details_at`."""
        return details.details_at(destination)

    def connect(self, destination: Destination) -> None:
        """Fetch an access token, and check once that the service is still there.

        Raises:
            ServiceRetiredError: ``service-gone``.
            CalibanError: there are no credentials, Google does not accept them, or it cannot be reached.
        """
        super().connect(destination)
        assert isinstance(destination, CaipDestination)
        self.client.check(destination)

    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        """Return the same job with another image, also in its label."""
        return job_spec.with_image(spec, image)

    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        """Return a job on the same hardware with another image and other arguments."""
        return job_spec.with_arguments(spec, image, arguments)

    def destination(self, latest: JobRecord | None) -> CaipDestination:
        """Return the project of ``--project_id``, or of the last attempt, or :meth:`Google.project`.

        Raises:
            UsageError: ``no-project``.
            CredentialsError: ``no-credentials``.
        """
        return CaipDestination(self._project(latest))

    def submit(self, spec: JsonObject, submission: Submission, may_send: MaySend) -> NewJob:
        """Create a job under the submission's name, or under the next one if another job has that name.

        Names are unique and never free again, so that two requests create one job: an existing one is adopted if it
        carries the submission's token. After a lost answer the job is looked up before it is requested again.
        """
        place = CaipDestination.from_json(submission.destination)
        image = job_spec.image_of(spec)
        for name in candidate_names(submission.name, submission.token):
            job = self._submit_once(
                place,
                request_body(spec, self.client.name_key, name, submission.token),
                lambda name=name: self.client.get(place, name),  # type: ignore[misc]  # mypy infers no lambda with defaults
                may_send=may_send,
                details=details.new_details(place, name),
            )
            if has_token(job, submission.token):
                return self._new_job(place, name, image, self._status(job, job) or JobStatus.SUBMITTED)
        error = PlatformError(
            "job-name-taken",
            f"cannot submit the job {submission.name}: other jobs of {place} have its names",
            hint="try again: names contain the time of submission",
        )
        raise refusal(error, details.new_details(place, submission.name))

    def find(self, submission: Submission) -> NewJob | None:
        """Return the job with the submission's token, under one of the names that :meth:`submit` tries.

        A service that was shut down runs no job, so that an interrupted submission to it can be run elsewhere. Only
        the service itself can say so: an HTML page may come from a proxy.
        """
        place = CaipDestination.from_json(submission.destination)
        for name in candidate_names(submission.name, submission.token):
            try:
                job = self.client.get(place, name)
            except ServiceRetiredError as error:
                if not error.is_certain:
                    raise
                return None
            if job is None:
                return None
            if has_token(job, submission.token):
                return self._new_job(
                    place, name, job_image(job_spec.image_of, job), self._status(job, job) or JobStatus.UNKNOWN
                )
        return None

    def _new_job(self, place: CaipDestination, name: str, image: ImageRef, status: JobStatus) -> NewJob:
        return NewJob(image, status, self.parse_details(status, details.new_details(place, name)))

    def _filter(self, jobs: Sequence[JobRecord]) -> str:
        prefix = common_prefix([str(job.details.id) for job in jobs])
        return f"jobId:{prefix}*" if prefix else ""

    def _details_of(self, job: JobRecord, status: JobStatus, found: JsonObject) -> JsonObject:
        return details.updated_details(job.details.raw, status, found, job.spec)

    def _time_limits(self, spec: JsonObject) -> TimeLimits:
        return details.time_limits(spec)

    def _has_several_machines(self, spec: JsonObject) -> bool:
        return details.has_several_machines(spec)

    def _unavailable(self, error: CalibanError) -> StatusUnavailable:
        """Report a service that was shut down once, not for each job."""
        if not isinstance(error, ServiceRetiredError):
            return super()._unavailable(error)
        self.context.announce(
            f"{error.message}; resubmit its jobs with --platform {error.successor} to run them on Vertex AI, and with "
            "--all_jobs if their end is not recorded"
        )
        return StatusUnavailable("the service was shut down", error.is_permanent)
