"""The four calls of ml v1 that are made: create, get, list and cancel a job.

Source: the discovery document that google-api-python-client ships, ``ml.v1.json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from caliban.platforms.base import ServiceRetiredError
from caliban.platforms.google.client import PAGE_SIZE, Google
from caliban.platforms.google.errors import GoogleRefusedError
from caliban.platforms.google.transport import execute_once
from caliban.records import JsonObject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from caliban.platforms.google.transport import ApiRequest

GONE = "AI Platform Training is gone: Google shut it down on 2025-01-31, and Container Registry on 2025-03-18"
"""Sources: https://cloud.google.com/ai-platform/docs/deprecations and
https://cloud.google.com/artifact-registry/docs/transition/gcr-repositories#deprecation
"""

_SUCCESSOR = "vertex"
_WAY_OVER = (
    f"caliban resubmit --xgroup NAME --platform {_SUCCESSOR} runs its jobs again on Vertex AI; new jobs go there "
    'without --platform caip, and without "cloud_platform": "caip" in .calibanconfig.json'
)
_SAID_WHEN_GONE = ("has been deprecated. Please use Vertex AI", "SERVICE_DISABLED", "has not been used in project")
_NO_SUCH_METHOD = "Method not found"


class JobsService:
    """Jobs as AI Platform Training has them. May be shared by threads.

    Every method raises :class:`~caliban.platforms.google.errors.GoogleError` or
    :class:`~caliban.platforms.google.errors.CredentialsError`, or :class:`~caliban.errors.UsageError` for a credentials
    file or endpoint that is of no use; and :class:`~caliban.platforms.base.ServiceRetiredError` (``service-gone``)
    once the
    service is shut down, or disabled in the project.
    """

    def __init__(self, google: Google) -> None:
        self._google = google

    def check(self, project: str) -> None:
        """Ask whether the service is there, by a list of one job. Another refusal says nothing of that."""
        request = self._jobs().list(parent=f"projects/{project}", pageSize=1)
        with suppress(GoogleRefusedError):
            self._execute(request, f"list the jobs of project {project}")

    def create(self, project: str, body: JsonObject) -> JsonObject:
        """Submit a job. Sent once, whatever happens."""
        request = self._jobs().create(parent=f"projects/{project}", body=body)
        try:
            return execute_once(request, f"submit the job {body['jobId']} to project {project}")
        except GoogleRefusedError as error:
            if (gone := _gone(error)) is not None:
                raise gone from error
            raise

    def get(self, project: str, job_id: str) -> JsonObject | None:
        """A job; None when the service has none of that name."""
        request = self._jobs().get(name=_name(project, job_id))
        try:
            return self._execute(request, f"ask project {project} after the job {job_id}")
        except GoogleRefusedError as error:
            if error.code == 404:
                return None
            raise

    def pages(self, project: str, prefix: str) -> Iterator[list[Mapping[str, object]]]:
        """Pages of jobs whose names begin with ``prefix``, the newest first. Those of the last 90 days only.

        Source: https://cloud.google.com/ai-platform/training/docs/managing-models-jobs
        """
        jobs = self._jobs()
        selection = {"filter": f"jobId:{prefix}*"} if prefix else {}
        token: object = None
        while True:
            request = jobs.list(parent=f"projects/{project}", pageSize=PAGE_SIZE, pageToken=token, **selection)
            page = self._execute(request, f"list the jobs of project {project}")
            found = page.get("jobs")
            yield found if isinstance(found, list) else []
            token = page.get("nextPageToken")
            if not token:
                return

    def cancel(self, project: str, job_id: str) -> None:
        """Ask for a job's end."""
        request = self._jobs().cancel(name=_name(project, job_id), body={})
        self._execute(request, f"stop the job {job_id} of project {project}")

    def _execute(self, request: ApiRequest, doing: str) -> JsonObject:
        try:
            return self._google.execute(request, doing)
        except GoogleRefusedError as error:
            if (gone := _gone(error)) is not None:
                raise gone from error
            raise

    def _jobs(self) -> Any:  # noqa: ANN401  # made at run time
        return self._google.service("ml", "v1").projects().jobs()


def _gone(error: GoogleRefusedError) -> ServiceRetiredError | None:
    """What a refusal is that does not come of the request, but of the service's end; None for any other.

    Since the shutdown Google answers 400, "Cloud AI Platform has been deprecated. Please use Vertex AI"
    (https://github.com/hashicorp/terraform-provider-google/issues/22249), and 403, SERVICE_DISABLED, where the API is
    not enabled (https://cloud.google.com/apis/design/errors#error_info). An API that is taken down in the end answers
    404 with a page of HTML or without such a method, 410 or 501; a job that is not there, 404 with JSON.
    """
    words = error.cause or ""
    is_page = not error.status and words.lstrip().startswith("<")
    is_over = (
        error.code in (410, 501)
        or (error.code == 404 and (is_page or words.startswith(_NO_SUCH_METHOD)))
        or (error.code in (400, 403) and any(said in words for said in _SAID_WHEN_GONE))
    )
    if not is_over:
        return None
    cause = f"HTTP {error.code}, with a page instead of an answer" if is_page else error.cause
    return ServiceRetiredError(
        "service-gone", GONE, cause=cause, hint=_WAY_OVER, successor=_SUCCESSOR, is_certain=not is_page
    )


def _name(project: str, job_id: str) -> str:
    return f"projects/{project}/jobs/{job_id}"
