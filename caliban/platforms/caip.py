"""Jobs on AI Platform Training (CAIP), by ml v1."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from itertools import takewhile

from caliban.errors import CalibanError, PlatformError
from caliban.images.registry_names import repository
from caliban.platforms import caip_jobs
from caliban.platforms.base import Hosted, Observation, Platform, RefusedError, Surroundings, Unreachable
from caliban.platforms.caip_service import PAGE_SIZE, JobsService
from caliban.platforms.delivery import deliver
from caliban.platforms.google import PROJECT_VARIABLE, Google
from caliban.platforms.google_errors import (
    QUOTA_EXHAUSTED,
    GoogleRefusedError,
    one_line,
)
from caliban.platforms.patience import Patience, Pauses
from caliban.platforms.publishing import push_image
from caliban.records import ImageRef, JobStatus, JobView, JsonObject, NewJob, PlatformName, Submission

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

_NAMELESS = "its name and its project are not both recorded"

_THREADS = 8
_FEW = 2
"""So many jobs are asked after one by one: a page may hold none of them."""


class CaipPlatform(Platform, Hosted):
    """AI Platform Training, in any number of projects. Its methods may be called on several threads."""

    name = PlatformName.CAIP

    def __init__(self, surroundings: Surroundings, patience: Patience | None = None) -> None:
        super().__init__(surroundings)
        self.google = Google(surroundings, patience)
        self._service = JobsService(self.google)
        self._lock = threading.Lock()
        self._named: set[str] = set()
        self._announced: set[str] = set()
        self._is_quota_gone = False

    def connect(self, target: JsonObject) -> None:
        """Fetch an access token: to learn before anything is built or written down whether there is one.

        Raises:
            CalibanError: there are no credentials, or Google does not accept them.
        """
        self.google.access_token()

    def statuses(self, jobs: Sequence[JobView]) -> Mapping[int, Observation | Unreachable]:
        """By pages where that is fewer calls, else one by one on a few threads; project by project."""
        found: dict[int, Observation | Unreachable] = {}
        by_project: dict[str, list[JobView]] = {}
        for job in jobs:
            if _is_named(job):
                by_project.setdefault(str(job.details["project_id"]), []).append(job)
            else:
                found[job.id] = Unreachable(_NAMELESS)
        for project, group in by_project.items():
            try:
                found.update(self._observe(project, group))
            except CalibanError as error:
                reason = Unreachable(one_line(error))
                found.update({job.id: reason for job in group})
        return found

    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        """The same job with another image, in its label too."""
        return caip_jobs.with_image(spec, image)

    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        """The same hardware with another image and other arguments."""
        return caip_jobs.with_arguments(spec, image, arguments)

    def target(self, latest: JobView | None) -> JsonObject:
        """``{"project": ...}``: of ``--project_id``, else of the last attempt, else :meth:`Google.project`.

        Raises:
            UsageError: ``no-project``.
            CredentialsError: ``no-credentials``.
        """
        recorded = latest.details.get("project_id") if latest else None
        asked = self.surroundings.project_id
        if not isinstance(recorded, str):
            return {"project": self.google.project()}
        if asked and asked != recorded:
            self._announce(f"jobs of project {recorded} are re-run in project {asked}, as --project_id says")
            return {"project": asked}
        preset = self.surroundings.environ.get(PROJECT_VARIABLE)
        if not asked and preset and preset != recorded:
            self._announce(f"jobs of project {recorded} are re-run there, not in {preset}; --project_id moves them")
        return {"project": recorded}

    def publish(self, image: ImageRef, registry: str | None, target: JsonObject) -> ImageRef:
        """Push to ``registry``, else to the project's Container Registry, where it is not there already."""
        return push_image(image, repository(registry, str(target["project"])), self.surroundings, self.google)

    def whereabouts(self, job: JobView) -> Sequence[str]:
        """The job's page in the console, and gcloud's command that streams its log."""
        project, job_id = str(job.details["project_id"]), str(job.details["jobId"])
        return caip_jobs.console_url(project, job_id), caip_jobs.stream_logs_command(project, job_id)

    def job_name(self, spec: JsonObject, token: str) -> str:
        """``caliban_totoro_20200529_110259_1``: base and index of the spec, and the time.

        Raises:
            PlatformError: ``malformed-job-spec``.
        """
        name = caip_jobs.job_id(spec, token, datetime.now())
        with self._lock:
            if name in self._named:
                name = caip_jobs.candidates(name, token)[1]
            self._named.add(name)
        return name

    def submit(self, spec: JsonObject, submission: Submission) -> NewJob:
        """``projects.jobs.create`` under the submission's name, or where another job has it, the next one.

        A job's name is taken once for all, so asking twice starts one job: the one there is adopted if it carries
        our token. After a lost answer it is looked up before it is asked for again.
        """
        project = str(submission.target["project"])
        image = caip_jobs.image_of(spec)
        for name in caip_jobs.candidates(submission.name, submission.token):
            job = self._create(project, caip_jobs.request_body(spec, name, submission.token), submission.token)
            if job is not None:
                return NewJob(image, _status(job) or JobStatus.SUBMITTED, {"jobId": name, "project_id": project})
        raise _refused(
            PlatformError(
                "job-name-taken",
                f"cannot submit the job {submission.name}: other jobs of project {project} have its names",
                hint="try again: the new name will have another time in it",
            ),
            submission.name,
            project,
        )

    def find(self, submission: Submission) -> NewJob | None:
        """The job with the submission's token, under the names that :meth:`submit` tries."""
        project = str(submission.target["project"])
        for name in caip_jobs.candidates(submission.name, submission.token):
            job = self._service.get(project, name)
            if job is None:
                return None
            if caip_jobs.carries(job, submission.token):
                status = _status(job) or JobStatus.UNKNOWN
                return NewJob(caip_jobs.image_of(job), status, {"jobId": name, "project_id": project})
        return None

    def stop(self, job: JobView) -> Observation:
        """``projects.jobs.cancel``, and a look at what came of it."""
        if not _is_named(job):
            raise PlatformError("malformed-job-details", f"job {job.id} cannot be stopped", cause=_NAMELESS)
        project, job_id = str(job.details["project_id"]), str(job.details["jobId"])
        try:
            self._service.cancel(project, job_id)
        except GoogleRefusedError as error:
            if error.code not in (400, 409):
                raise
            ended = self._ask(job)  # there is nothing to cancel in a job that has ended
            if isinstance(ended, Unreachable) or not ended.status.is_final:
                raise
            return ended
        after = self._ask(job)
        return Observation(JobStatus.RUNNING) if isinstance(after, Unreachable) else after

    def _create(self, project: str, body: JsonObject, token: str) -> JsonObject | None:
        """The job that ``body`` describes, started or adopted; None when another job has its name.

        Raises:
            RefusedError: it was not started.
            CalibanError: whether it was is not known.
        """
        name = str(body["jobId"])
        stopping = self.surroundings.stopping
        # A quota by the minute passes; one that stayed used up for a whole job's patience is not waited for again.
        patience = replace(self.google.patience, quota_s=0) if self._is_quota_gone else self.google.patience

        def send() -> JsonObject:
            created = self._service.create(project, body)
            self._is_quota_gone = False
            return created

        def refused(error: CalibanError) -> RefusedError:
            self._is_quota_gone = error.id == QUOTA_EXHAUSTED
            return _refused(error, name, project)

        job = deliver(
            send,
            lambda: self._service.get(project, name),
            name=name,
            pauses=Pauses(patience, stopping, self._tell_of_quota),
            stopping=stopping,
            refused=refused,
        )
        return job if caip_jobs.carries(job, token) else None

    def _tell_of_quota(self) -> None:
        self._announce("AI Platform takes only so many requests a minute; the others wait for their turn ...")

    def _observe(self, project: str, jobs: Sequence[JobView]) -> dict[int, Observation | Unreachable]:
        listed = self._listed(project, [str(job.details["jobId"]) for job in jobs])
        found: dict[int, Observation | Unreachable] = {}
        rest: list[JobView] = []
        for job in jobs:
            there = listed.get(str(job.details["jobId"]))
            if there is None:
                rest.append(job)
            else:
                found[job.id] = _observation(job, there)
        if rest:
            with ThreadPoolExecutor(min(_THREADS, len(rest))) as pool:
                found.update(zip((job.id for job in rest), pool.map(self._ask, rest), strict=True))
        return found

    def _listed(self, project: str, job_ids: Sequence[str]) -> dict[str, JsonObject]:
        """Those of the jobs that turn up on pages, as long as asking for pages promises fewer calls."""
        wanted = set(job_ids)
        listed: dict[str, JsonObject] = {}
        if len(wanted) <= _FEW:
            return listed
        limit = -(-len(wanted) // PAGE_SIZE) + len(wanted) // 10
        try:
            for number, page in enumerate(self._service.pages(project, _shared_start(wanted)), start=1):
                listed.update({job_id: job for job in page if (job_id := str(job.get("jobId"))) in wanted})
                if len(listed) == len(wanted) or number == limit:
                    break
        except GoogleRefusedError as error:
            if error.code != 400:  # a filter that is not understood must not hide the jobs
                raise
        return listed

    def _ask(self, job: JobView) -> Observation | Unreachable:
        try:
            there = self._service.get(str(job.details["project_id"]), str(job.details["jobId"]))
        except CalibanError as error:
            return Unreachable(one_line(error))
        return Observation(JobStatus.UNKNOWN) if there is None else _observation(job, there)

    def _announce(self, line: str) -> None:
        with self._lock:
            is_new = line not in self._announced
            self._announced.add(line)
        if is_new:
            self.surroundings.reporter.say(line)


def _shared_start(job_ids: Collection[str]) -> str:
    """What all of the names begin with; between the first and the last of them lie the others."""
    first, last = min(job_ids), max(job_ids)
    pairs = zip(first, last, strict=False)
    same = takewhile(lambda pair: pair[0] == pair[1] and (pair[0].isalnum() or pair[0] == "_"), pairs)
    return "".join(letter for letter, _ in same)


def _is_named(job: JobView) -> bool:
    return all(isinstance(job.details.get(key), str) for key in ("project_id", "jobId"))


def _status(job: JsonObject) -> JobStatus | None:
    return _STATUSES.get(str(job.get("state")))


def _observation(job: JobView, there: JsonObject) -> Observation | Unreachable:
    """A job's state as the service tells it; a failed job's reason is new, and kept."""
    status = _status(there)
    if status is None:
        return Unreachable(f"AI Platform tells an unknown state: {there.get('state')}")
    words = there.get("errorMessage")
    if status in (JobStatus.FAILED, JobStatus.STOPPED) and words and words != job.details.get("errorMessage"):
        return Observation(status, {**job.details, "errorMessage": words})
    return Observation(status)


def _refused(error: CalibanError, name: str, project: str) -> RefusedError:
    return RefusedError(
        error.id,
        error.message,
        cause=error.cause,
        hint=error.hint,
        details={"jobId": name, "project_id": project},
    )
