"""Jobs on Vertex AI, as custom jobs of aiplatform v1."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from caliban.errors import CalibanError, PlatformError
from caliban.platforms.base import JobUpdate, MigrationTarget, PlatformContext, StatusUnavailable, Translation
from caliban.platforms.google.errors import one_line
from caliban.platforms.google.labels import has_token, slugify
from caliban.platforms.google.training_platform import GooglePlatform
from caliban.platforms.retry import RetryPolicy
from caliban.platforms.submit_once import poll_until
from caliban.platforms.vertex import from_caip, job_spec
from caliban.platforms.vertex.client import CustomJobsService
from caliban.platforms.vertex.machines import CATALOG
from caliban.records import ImageRef, JobRecord, JobStatus, JsonObject, NewJob, PlatformName, Submission

REGION_VARIABLE = "REGION"

_STATUSES: Mapping[str, JobStatus] = {
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
"""State of aiplatform v1 -> ours. Source: ``GoogleCloudAiplatformV1CustomJob.state`` in the discovery document."""

_WORDS: Mapping[str, str] = {
    "JOB_STATE_CANCELLING": "cancelling",
    "JOB_STATE_PAUSED": "paused",
    "JOB_STATE_UPDATING": "updating",
    "JOB_STATE_EXPIRED": "expired",
    "JOB_STATE_PARTIALLY_SUCCEEDED": "partially succeeded",
}
"""The states that say more than ours, for people."""

_TO_BE_STOPPED = frozenset({"JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_PAUSED"})

_READ_FOR_STATES = "name,displayName,state,error"


class VertexPlatform(GooglePlatform, MigrationTarget):
    """Vertex AI, in any number of projects and regions. Its methods may be called on several threads.

    The service names a job itself and takes no request id, so that the label ``caliban_token`` alone tells whether a
    submission has become a job; and its lists may show a job some seconds after it was made. How late, Google does not
    say. ``RetryPolicy.consistency_delay`` (half a minute) is believed to be enough: a request is worked off in a few
    seconds, and
    the lists are seconds behind, so that it is several times what both usually take together; and it is counted from
    the moment that an answer failed to come, which for a time-out is a minute after the request.
    """

    name = PlatformName.VERTEX
    service_name = "Vertex AI"
    named_by = ("project_id", "region", "name")
    nameless = "its project, its region and its name are not all recorded"

    def __init__(self, platform_context: PlatformContext, retry_policy: RetryPolicy | None = None) -> None:
        super().__init__(platform_context, retry_policy)
        self._service = CustomJobsService(self.google)
        self._sent: set[str] = set()
        self._gone_since: dict[tuple[str, int], float] = {}

    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        """The same job with another image, in its label too."""
        return job_spec.with_image(spec, image)

    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        """The same hardware with another image and other arguments."""
        return job_spec.with_arguments(spec, image, arguments)

    def translate(self, job: JobRecord) -> Translation:
        """A job of AI Platform Training as a custom job; see :func:`caliban.platforms.vertex.from_caip.translate`."""
        return from_caip.translate(job)

    def target(self, latest: JobRecord | None) -> JsonObject:
        """``{"project": ..., "region": ...}``: of the last attempt, else ``--project_id`` and so on, and ``$REGION``.

        Raises:
            UsageError: ``no-project``.
            CredentialsError: ``no-credentials``.
        """
        recorded = latest.details.get("region") if latest else None
        preset = self.context.environ.get(REGION_VARIABLE) or CATALOG.default_region
        return {"project": self._project(latest), "region": recorded if isinstance(recorded, str) else preset}

    def links(self, job: JobRecord) -> Sequence[str]:
        """The job's page in the console, and gcloud's command that streams its log."""
        project, region, name = (str(job.details[key]) for key in self.named_by)
        return job_spec.console_url(project, region, name), job_spec.stream_logs_command(project, region, name)

    def job_name(self, spec: JsonObject, token: str) -> str:
        """``caliban_totoro_20200529_110259_1``: base and index of the spec, and the time.

        Raises:
            PlatformError: ``malformed-job-spec``.
        """
        name = job_spec.display_name(spec, token, datetime.now())
        return self._fresh(name, lambda: f"{name}_{slugify(token)[:6]}")

    def submit(self, spec: JsonObject, submission: Submission) -> NewJob:
        """``customJobs.create``, with the submission's token.

        After an answer that leaves doubt, the job is looked up by its token until the lists are believed to show it
        (see the class), and only then asked for again. If two jobs carry the token after all, the older one stays and
        the other is cancelled: when the second one is answered, and whenever the token is looked up later.

        What remains: a job that turns up later than that, after it was asked for again with success. It runs beside
        the one that is recorded until somebody looks.
        """
        image = job_spec.image_of(spec)
        project, region = _place(submission.target)
        with self._lock:
            was_sent = submission.token in self._sent
            self._sent.add(submission.token)
        if was_sent and (there := self.find(submission)) is not None:
            return there
        body = job_spec.request_body(spec, submission.name, submission.token)
        job = self._submit_once(
            lambda: self._service.create(project, region, body),
            lambda: self._with_token(project, region, submission.token),
            details=_details(project, region, {"displayName": submission.name}),
            name=submission.name,
            consistency_delay=self.google.retry_policy.consistency_delay,
        )
        return _new_job(project, region, job, image)

    def find(self, submission: Submission) -> NewJob | None:
        """The job with the submission's token. None is said only once a job that was asked for would be listed.

        The submission's owner is gone, but may have asked for the job at its very end: so it is looked for until
        ``RetryPolicy.consistency_delay`` after its owner was first known to be gone, unless the submission is so old
        that its
        owner's retry_policy was at an end long before.

        Raises:
            PlatformError: ``look-up-interrupted``.
        """
        project, region = _place(submission.target)
        deadline = self._settled_at(submission)

        def look_up() -> JsonObject | None:
            return self._with_token(project, region, submission.token)

        is_settled = time.monotonic() >= deadline
        job = look_up()
        if job is None and not is_settled:
            self.context.announce("Vertex AI may show new jobs late; looking for those of an interrupted command ...")
            job = poll_until(look_up, deadline, self.context.stopping)
            if job is None and self.context.stopping.is_set():
                raise PlatformError("look-up-interrupted", f"the job {submission.name} was not looked for long enough")
        return _new_job(project, region, job, job_spec.image_of(job)) if job else None

    def _settled_at(self, submission: Submission) -> float:
        """When a job of the submission would be listed, by :func:`time.monotonic`.

        The last request of a submission is begun within its retry_policy, may first fetch a token, and may be given
        up on.
        """
        retry_policy, now = self.google.retry_policy, time.monotonic()
        owner = (submission.host, submission.pid)
        with self._lock:
            gone = now if submission.pid == os.getpid() else self._gone_since.setdefault(owner, now)
        at_work = max(retry_policy.deadline, retry_policy.quota_deadline) + 2 * (
            retry_policy.connect_timeout + retry_policy.read_timeout
        )
        age = (datetime.now() - submission.created).total_seconds()
        return min(gone, now + at_work - age) + retry_policy.consistency_delay

    def _with_token(self, project: str, region: str, token: str) -> JsonObject | None:
        """The oldest job with the token; any other that has it is cancelled."""
        pages = self._service.pages(project, region, job_spec.with_token(token))
        jobs = [job for page in pages for job in page if has_token(job, token)]
        jobs.sort(key=lambda job: str(job.get("createTime")))
        for surplus in jobs[1:]:
            if str(surplus.get("state")) in _TO_BE_STOPPED:
                self._cancel_surplus(region, str(surplus.get("name")))
        return jobs[0] if jobs else None

    def _cancel_surplus(self, region: str, name: str) -> None:
        try:
            self._service.cancel(region, name)
        except CalibanError as error:
            self.context.reporter.warn(f"the job {name} is one too many, and still runs: {one_line(error)}")
        else:
            self.context.reporter.warn(f"the job {name} was one too many, and is stopped")

    def _place(self, job: JobRecord) -> tuple[str, str]:
        return str(job.details["project_id"]), str(job.details["region"])

    def _key(self, job: JobRecord) -> str:
        return job_spec.resource_id(str(job.details["name"]))

    def _pages(self, jobs: Sequence[JobRecord]) -> Iterator[Mapping[str, JsonObject]]:
        names = [str(job.details.get("displayName") or "") for job in jobs]
        selection = job_spec.with_names(names)
        for page in self._service.pages(*self._place(jobs[0]), selection, _READ_FOR_STATES):
            yield {job_spec.resource_id(str(job.get("name"))): job for job in page}

    def _get(self, job: JobRecord) -> JsonObject | None:
        return self._service.get(str(job.details["region"]), str(job.details["name"]))

    def _cancel(self, job: JobRecord) -> None:
        self._service.cancel(str(job.details["region"]), str(job.details["name"]))

    def _observation(self, job: JobRecord, there: JsonObject) -> JobUpdate | StatusUnavailable:
        """A job's state as the service tells it; what it says beyond our state is kept in the details."""
        status = _STATUSES.get(str(there.get("state")))
        if status is None:
            return StatusUnavailable(f"Vertex AI tells an unknown state: {there.get('state')}")
        details = {key: value for key, value in job.details.items() if key not in ("state", "reason")}
        details.update(_beyond(there))
        return JobUpdate(status, None if details == job.details else details)


def _place(target: JsonObject) -> tuple[str, str]:
    return str(target["project"]), str(target["region"])


def _details(project: str, region: str, job: JsonObject) -> dict[str, object]:
    named = {key: job[key] for key in ("name", "displayName") if key in job}
    return {"project_id": project, "region": region, **named, **_beyond(job)}


def _new_job(project: str, region: str, job: JsonObject, image: ImageRef) -> NewJob:
    return NewJob(image, _STATUSES.get(str(job.get("state")), JobStatus.UNKNOWN), _details(project, region, job))


def _beyond(job: JsonObject) -> dict[str, object]:
    """What the service says of a job beyond our state: its own word, and why it failed."""
    state = str(job.get("state"))
    word = _WORDS.get(state)
    told = [word] if word else []
    error = job.get("error")
    if _STATUSES.get(state) is JobStatus.FAILED and isinstance(error, Mapping):
        told += str(error.get("message") or "").strip().splitlines()[:1]
    return {**({"state": state} if word else {}), **({"reason": ": ".join(told)} if told else {})}
