"""Jobs on AI Platform Training (CAIP), by ml v1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from caliban.errors import CalibanError, PlatformError
from caliban.platforms.base import JobUpdate, PlatformContext, ServiceRetiredError, StatusUnavailable
from caliban.platforms.caip import job_spec
from caliban.platforms.caip.client import JobsService
from caliban.platforms.google.labels import common_prefix, has_token
from caliban.platforms.google.training_platform import GooglePlatform, refusal
from caliban.platforms.retry import RetryPolicy
from caliban.records import ImageRef, JobRecord, JobStatus, JsonObject, NewJob, PlatformName, Submission

_STATUSES: Mapping[str, JobStatus] = {
    "QUEUED": JobStatus.SUBMITTED,
    "PREPARING": JobStatus.SUBMITTED,
    "RUNNING": JobStatus.RUNNING,
    "SUCCEEDED": JobStatus.SUCCEEDED,
    "FAILED": JobStatus.FAILED,
    "CANCELLING": JobStatus.RUNNING,
    "CANCELLED": JobStatus.STOPPED,
}
"""State of ml v1 -> ours. Source: ``GoogleCloudMlV1__Job.state`` in the discovery document."""


class CaipPlatform(GooglePlatform):
    """AI Platform Training, in any number of projects. Its methods may be called on several threads."""

    name = PlatformName.CAIP
    service_name = "AI Platform"
    named_by = ("project_id", "jobId")
    nameless = "its name and its project are not both recorded"
    is_run_by_digest = False  # by tag, as caliban 0.4.2 has them, which shares the store

    def __init__(self, platform_context: PlatformContext, retry_policy: RetryPolicy | None = None) -> None:
        super().__init__(platform_context, retry_policy)
        self._service = JobsService(self.google)

    def connect(self, target: JsonObject) -> None:
        """Fetch an access token, and ask once whether the service is still there.

        Raises:
            ServiceRetiredError: ``service-gone``.
            CalibanError: there are no credentials, Google does not accept them, or it cannot be reached.
        """
        super().connect(target)
        self._service.check(str(target["project"]))

    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        """The same job with another image, in its label too."""
        return job_spec.with_image(spec, image)

    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        """The same hardware with another image and other arguments."""
        return job_spec.with_arguments(spec, image, arguments)

    def target(self, latest: JobRecord | None) -> JsonObject:
        """``{"project": ...}``: of ``--project_id``, else of the last attempt, else :meth:`Google.project`.

        Raises:
            UsageError: ``no-project``.
            CredentialsError: ``no-credentials``.
        """
        return {"project": self._project(latest)}

    def links(self, job: JobRecord) -> Sequence[str]:
        """The job's page in the console, and gcloud's command that streams its log."""
        project, job_id = str(job.details["project_id"]), str(job.details["jobId"])
        return job_spec.console_url(project, job_id), job_spec.stream_logs_command(project, job_id)

    def job_name(self, spec: JsonObject, token: str) -> str:
        """``caliban_totoro_20200529_110259_1``: base and index of the spec, and the time.

        Raises:
            PlatformError: ``malformed-job-spec``.
        """
        name = job_spec.job_id(spec, token, datetime.now())
        return self._fresh(name, lambda: job_spec.candidate_names(name, token)[1])

    def submit(self, spec: JsonObject, submission: Submission) -> NewJob:
        """``projects.jobs.create`` under the submission's name, or where another job has it, the next one.

        A job's name is taken once for all, so asking twice starts one job: the one there is adopted if it has_token
        our token. After a lost answer it is looked up before it is asked for again.
        """
        project = str(submission.target["project"])
        image = job_spec.image_of(spec)
        for name in job_spec.candidate_names(submission.name, submission.token):
            job = self._create(project, job_spec.request_body(spec, name, submission.token))
            if has_token(job, submission.token):
                return NewJob(image, _status(job) or JobStatus.SUBMITTED, _details(project, name))
        error = PlatformError(
            "job-name-taken",
            f"cannot submit the job {submission.name}: other jobs of project {project} have its names",
            hint="try again: the new name will have another time in it",
        )
        raise refusal(error, _details(project, submission.name))

    def find(self, submission: Submission) -> NewJob | None:
        """The job with the submission's token, under the names that :meth:`submit` tries.

        A service that is gone runs no job, so that what was interrupted before its end may be run elsewhere. It has to
        say so itself: a page in its place may be a proxy's.
        """
        project = str(submission.target["project"])
        for name in job_spec.candidate_names(submission.name, submission.token):
            try:
                job = self._service.get(project, name)
            except ServiceRetiredError as error:
                if not error.is_certain:
                    raise
                return None
            if job is None:
                return None
            if has_token(job, submission.token):
                return NewJob(job_spec.image_of(job), _status(job) or JobStatus.UNKNOWN, _details(project, name))
        return None

    def _create(self, project: str, body: JsonObject) -> JsonObject:
        """The job of that name: started, or whoever's has it.

        Raises:
            RefusedError: it was not started.
            CalibanError: whether it was is not known.
        """
        name = str(body["jobId"])
        return self._submit_once(
            lambda: self._service.create(project, body),
            lambda: self._service.get(project, name),
            details=_details(project, name),
            name=name,
        )

    def _place(self, job: JobRecord) -> str:
        return str(job.details["project_id"])

    def _key(self, job: JobRecord) -> str:
        return str(job.details["jobId"])

    def _pages(self, jobs: Sequence[JobRecord]) -> Iterator[Mapping[str, JsonObject]]:
        for page in self._service.pages(self._place(jobs[0]), common_prefix([self._key(job) for job in jobs])):
            yield {str(job.get("jobId")): job for job in page}

    def _get(self, job: JobRecord) -> JsonObject | None:
        return self._service.get(self._place(job), self._key(job))

    def _cancel(self, job: JobRecord) -> None:
        self._service.cancel(self._place(job), self._key(job))

    def _unreachable(self, error: CalibanError) -> StatusUnavailable:
        """The end of the service is told once, not for each job."""
        if not isinstance(error, ServiceRetiredError):
            return super()._unreachable(error)
        self.context.announce(
            f"{error.message}; caliban resubmit --xgroup NAME --platform {error.successor} runs its jobs again on "
            "Vertex AI, with --all_jobs those too that are not known to have ended"
        )
        return StatusUnavailable("the service is gone")

    def _observation(self, job: JobRecord, there: JsonObject) -> JobUpdate | StatusUnavailable:
        """A job's state as the service tells it; a failed job's reason is new, and kept."""
        status = _status(there)
        if status is None:
            return StatusUnavailable(f"AI Platform tells an unknown state: {there.get('state')}")
        words = there.get("errorMessage")
        if status in (JobStatus.FAILED, JobStatus.STOPPED) and words and words != job.details.get("errorMessage"):
            return JobUpdate(status, {**job.details, "errorMessage": words})
        return JobUpdate(status)


def _details(project: str, job_id: str) -> JsonObject:
    return {"jobId": job_id, "project_id": project}


def _status(job: JsonObject) -> JobStatus | None:
    return _STATUSES.get(str(job.get("state")))
