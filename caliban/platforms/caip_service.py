"""The four calls of ml v1 that are made: create, get, list and cancel a job.

Source: the discovery document that google-api-python-client ships, ``ml.v1.json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from caliban.platforms.google import PAGE_SIZE, Google
from caliban.platforms.google_errors import GoogleRefusedError
from caliban.platforms.google_http import execute_once
from caliban.records import JsonObject

if TYPE_CHECKING:
    from collections.abc import Mapping


class JobsService:
    """Jobs as AI Platform Training has them. May be shared by threads.

    Every method raises :class:`~caliban.platforms.google_errors.GoogleError` or
    :class:`~caliban.platforms.google_errors.CredentialsError`, or :class:`~caliban.errors.UsageError` for a credentials
    file or endpoint that is of no use.
    """

    def __init__(self, google: Google) -> None:
        self._google = google

    def create(self, project: str, body: JsonObject) -> JsonObject:
        """Submit a job. Sent once, whatever happens."""
        request = self._jobs().create(parent=f"projects/{project}", body=body)
        return execute_once(request, f"submit the job {body['jobId']} to project {project}")

    def get(self, project: str, job_id: str) -> JsonObject | None:
        """A job; None when the service has none of that name."""
        request = self._jobs().get(name=_name(project, job_id))
        try:
            return self._google.execute(request, f"ask project {project} after the job {job_id}")
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
            page = self._google.execute(request, f"list the jobs of project {project}")
            found = page.get("jobs")
            yield found if isinstance(found, list) else []
            token = page.get("nextPageToken")
            if not token:
                return

    def cancel(self, project: str, job_id: str) -> None:
        """Ask for a job's end."""
        request = self._jobs().cancel(name=_name(project, job_id), body={})
        self._google.execute(request, f"stop the job {job_id} of project {project}")

    def _jobs(self) -> Any:  # noqa: ANN401  # made at run time
        return self._google.service("ml", "v1").projects().jobs()


def _name(project: str, job_id: str) -> str:
    return f"projects/{project}/jobs/{job_id}"
