"""The four calls of aiplatform v1 that are made: create, get, list and cancel a custom job.

Source: the discovery document that google-api-python-client ships, ``aiplatform.v1.json``. Each region has an endpoint
of its own: https://cloud.google.com/vertex-ai/docs/reference/rest#service-endpoint
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from caliban.platforms.google.client import PAGE_SIZE, Google
from caliban.platforms.google.errors import GoogleRefusedError, misunderstood
from caliban.platforms.google.transport import execute_once
from caliban.records import JsonObject


class CustomJobsService:
    """Custom jobs as Vertex AI has them. May be shared by threads.

    Every method raises :class:`~caliban.platforms.google.errors.GoogleError` or
    :class:`~caliban.platforms.google.errors.CredentialsError`, or :class:`~caliban.errors.UsageError` for a credentials
    file or endpoint that is of no use.
    """

    def __init__(self, google: Google) -> None:
        self._google = google

    def create(self, project: str, region: str, body: JsonObject) -> JsonObject:
        """Submit a job. Sent once, whatever happens.

        An answer that does not name the job is none of the service's: it leaves open whether there is one.
        """
        request = self._jobs(region).create(parent=_parent(project, region), body=body)
        doing = f"submit the job {body['displayName']} to project {project} in {region}"
        job = execute_once(request, doing)
        if not job.get("name"):
            raise misunderstood(doing, json.dumps(job))
        return job

    def get(self, region: str, name: str) -> JsonObject | None:
        """A job, by its whole name; None when the service has none of that name."""
        request = self._jobs(region).get(name=name)
        try:
            return self._google.execute(request, f"ask after the job {name}")
        except GoogleRefusedError as error:
            if error.code == 404:
                return None
            raise

    def pages(
        self, project: str, region: str, selection: str, fields: str | None = None
    ) -> Iterator[list[Mapping[str, object]]]:
        """Pages of the jobs that ``selection`` takes.

        Args:
            project: whose jobs.
            region: where.
            selection: a filter over ``display_name``, ``state``, ``create_time`` and ``labels``:
                ``labels.caliban_token=abc``, ``display_name:"caliban_*"``.
            fields: what to read of each, ``name,state``; None for everything.
        """
        jobs = self._jobs(region)
        mask = {"readMask": fields} if fields else {}
        token: object = None
        while True:
            request = jobs.list(
                parent=_parent(project, region), filter=selection, pageSize=PAGE_SIZE, pageToken=token, **mask
            )
            page = self._google.execute(request, f"list the jobs of project {project} in {region}")
            found = page.get("customJobs")
            yield found if isinstance(found, list) else []
            token = page.get("nextPageToken")
            if not token:
                return

    def cancel(self, region: str, name: str) -> None:
        """Ask for a job's end."""
        self._google.execute(self._jobs(region).cancel(name=name, body={}), f"stop the job {name}")

    def _jobs(self, region: str) -> Any:  # noqa: ANN401  # made at run time
        return self._google.service("aiplatform", "v1", region).projects().locations().customJobs()


def _parent(project: str, region: str) -> str:
    return f"projects/{project}/locations/{region}"
