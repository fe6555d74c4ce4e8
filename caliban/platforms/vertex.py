"""Jobs on Vertex AI, as custom jobs of aiplatform v1."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from caliban.errors import CalibanError, PlatformError
from caliban.platforms import vertex_jobs
from caliban.platforms.base import Observation, Surroundings, Unreachable
from caliban.platforms.delivery import look_until
from caliban.platforms.google_errors import one_line
from caliban.platforms.google_jobs import carries, letters
from caliban.platforms.google_platform import GooglePlatform
from caliban.platforms.patience import Patience
from caliban.platforms.vertex_catalog import CATALOG
from caliban.platforms.vertex_service import CustomJobsService
from caliban.records import ImageRef, JobStatus, JobView, JsonObject, NewJob, PlatformName, Submission

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


class VertexPlatform(GooglePlatform):
    """Vertex AI, in any number of projects and regions. Its methods may be called on several threads.

    The service names a job itself and takes no request id, so that the label ``caliban_token`` alone tells whether a
    submission has become a job; and its lists may show a job some seconds after it was made. How late, Google does not
    say. ``Patience.settle_s`` (half a minute) is believed to be enough: a request is worked off in a few seconds, and
    the lists are seconds behind, so that it is several times what both usually take together; and it is counted from
    the moment that an answer failed to come, which for a time-out is a minute after the request.
    """

    name = PlatformName.VERTEX
    service_name = "Vertex AI"
    named_by = ("project_id", "region", "name")
    nameless = "its project, its region and its name are not all recorded"

    def __init__(self, surroundings: Surroundings, patience: Patience | None = None) -> None:
        super().__init__(surroundings, patience)
        self._service = CustomJobsService(self.google)
        self._sent: set[str] = set()
        self._gone_since: dict[tuple[str, int], float] = {}

    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        """The same job with another image, in its label too."""
        return vertex_jobs.with_image(spec, image)

    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        """The same hardware with another image and other arguments."""
        return vertex_jobs.with_arguments(spec, image, arguments)

    def target(self, latest: JobView | None) -> JsonObject:
        """``{"project": ..., "region": ...}``: of the last attempt, else ``--project_id`` and so on, and ``$REGION``.

        Raises:
            UsageError: ``no-project``.
            CredentialsError: ``no-credentials``.
        """
        recorded = latest.details.get("region") if latest else None
        preset = self.surroundings.environ.get(REGION_VARIABLE) or CATALOG.default_region
        return {"project": self._project(latest), "region": recorded if isinstance(recorded, str) else preset}

    def whereabouts(self, job: JobView) -> Sequence[str]:
        """The job's page in the console, and gcloud's command that streams its log."""
        project, region, name = (str(job.details[key]) for key in self.named_by)
        return vertex_jobs.console_url(project, region, name), vertex_jobs.stream_logs_command(project, region, name)

    def job_name(self, spec: JsonObject, token: str) -> str:
        """``caliban_totoro_20200529_110259_1``: base and index of the spec, and the time.

        Raises:
            PlatformError: ``malformed-job-spec``.
        """
        name = vertex_jobs.display_name(spec, token, datetime.now())
        return self._fresh(name, lambda: f"{name}_{letters(token)[:6]}")

    def submit(self, spec: JsonObject, submission: Submission) -> NewJob:
        """``customJobs.create``, with the submission's token.

        After an answer that leaves doubt, the job is looked up by its token until the lists are believed to show it
        (see the class), and only then asked for again. If two jobs carry the token after all, the older one stays and
        the other is cancelled: when the second one is answered, and whenever the token is looked up later.

        What remains: a job that turns up later than that, after it was asked for again with success. It runs beside
        the one that is recorded until somebody looks.
        """
        image = vertex_jobs.image_of(spec)
        project, region = _place(submission.target)
        with self._lock:
            was_sent = submission.token in self._sent
            self._sent.add(submission.token)
        if was_sent and (there := self.find(submission)) is not None:
            return there
        body = vertex_jobs.request_body(spec, submission.name, submission.token)
        job = self._deliver(
            lambda: self._service.create(project, region, body),
            lambda: self._with_token(project, region, submission.token),
            details=_details(project, region, {"displayName": submission.name}),
            name=submission.name,
            settle_s=self.google.patience.settle_s,
        )
        return _new_job(project, region, job, image)

    def find(self, submission: Submission) -> NewJob | None:
        """The job with the submission's token. None is said only once a job that was asked for would be listed.

        The submission's owner is gone, but may have asked for the job at its very end: so it is looked for until
        ``Patience.settle_s`` after its owner was first known to be gone, unless the submission is so old that its
        owner's patience was at an end long before.

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
            self.surroundings.announce(
                "Vertex AI may show new jobs late; looking for those of an interrupted command ..."
            )
            job = look_until(look_up, deadline, self.surroundings.stopping)
            if job is None and self.surroundings.stopping.is_set():
                raise PlatformError("look-up-interrupted", f"the job {submission.name} was not looked for long enough")
        return _new_job(project, region, job, vertex_jobs.image_of(job)) if job else None

    def _settled_at(self, submission: Submission) -> float:
        """When a job of the submission would be listed, by :func:`time.monotonic`.

        The last request of a submission is begun within its patience, may first fetch a token, and may be given up on.
        """
        patience, now = self.google.patience, time.monotonic()
        owner = (submission.host, submission.pid)
        with self._lock:
            gone = now if submission.pid == os.getpid() else self._gone_since.setdefault(owner, now)
        at_work = max(patience.total_s, patience.quota_s) + 2 * (patience.connect_s + patience.read_s)
        age = (datetime.now() - submission.created).total_seconds()
        return min(gone, now + at_work - age) + patience.settle_s

    def _with_token(self, project: str, region: str, token: str) -> JsonObject | None:
        """The oldest job with the token; any other that has it is cancelled."""
        pages = self._service.pages(project, region, vertex_jobs.with_token(token))
        jobs = [job for page in pages for job in page if carries(job, token)]
        jobs.sort(key=lambda job: str(job.get("createTime")))
        for surplus in jobs[1:]:
            if str(surplus.get("state")) in _TO_BE_STOPPED:
                self._cancel_surplus(region, str(surplus.get("name")))
        return jobs[0] if jobs else None

    def _cancel_surplus(self, region: str, name: str) -> None:
        try:
            self._service.cancel(region, name)
        except CalibanError as error:
            self.surroundings.reporter.warn(f"the job {name} is one too many, and still runs: {one_line(error)}")
        else:
            self.surroundings.reporter.warn(f"the job {name} was one too many, and is stopped")

    def _place(self, job: JobView) -> tuple[str, str]:
        return str(job.details["project_id"]), str(job.details["region"])

    def _key(self, job: JobView) -> str:
        return vertex_jobs.resource_id(str(job.details["name"]))

    def _pages(self, jobs: Sequence[JobView]) -> Iterator[Mapping[str, JsonObject]]:
        names = [str(job.details.get("displayName") or "") for job in jobs]
        selection = vertex_jobs.with_names(names)
        for page in self._service.pages(*self._place(jobs[0]), selection, _READ_FOR_STATES):
            yield {vertex_jobs.resource_id(str(job.get("name"))): job for job in page}

    def _get(self, job: JobView) -> JsonObject | None:
        return self._service.get(str(job.details["region"]), str(job.details["name"]))

    def _cancel(self, job: JobView) -> None:
        self._service.cancel(str(job.details["region"]), str(job.details["name"]))

    def _observation(self, job: JobView, there: JsonObject) -> Observation | Unreachable:
        """A job's state as the service tells it; what it says beyond our state is kept in the details."""
        status = _STATUSES.get(str(there.get("state")))
        if status is None:
            return Unreachable(f"Vertex AI tells an unknown state: {there.get('state')}")
        details = {key: value for key, value in job.details.items() if key not in ("state", "reason")}
        details.update(_beyond(there))
        return Observation(status, None if details == job.details else details)


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
