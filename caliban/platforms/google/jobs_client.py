"""The four requests to a training service that are made: create, get, list and cancel a job."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from caliban.platforms.google.client import PAGE_SIZE, Google
from caliban.platforms.google.errors import GoogleRefusedError, unexpected_answer
from caliban.platforms.google.transport import ApiRequest, execute_once
from caliban.records import Destination, JsonObject

_Place = TypeVar("_Place", bound=Destination)


class JobsClient(ABC, Generic[_Place]):
    """The jobs of a training service. May be shared by threads.

    Every method raises :class:`~caliban.platforms.google.errors.GoogleError` or
    :class:`~caliban.platforms.google.errors.CredentialsError`, or :class:`~caliban.errors.UsageError` for a credentials
    file or endpoint that cannot be used.

    Attributes:
        list_key: where a page of a list has its jobs.
        name_key: where the body of a job has its name.
        id_key: where a job has the service's id.
    """

    list_key: ClassVar[str]
    name_key: ClassVar[str]
    id_key: ClassVar[str]

    def __init__(self, google: Google) -> None:
        self._google = google

    @abstractmethod
    def _collection(self, place: _Place) -> Any:  # noqa: ANN401 - created at run time
        """Return the API client's methods for jobs."""

    @abstractmethod
    def _parent(self, place: _Place) -> str:
        """Return the resource name of what the jobs belong to."""

    @abstractmethod
    def _resource(self, place: _Place, job_id: str) -> str:
        """Return the resource name of a job."""

    def create(self, place: _Place, body: JsonObject) -> JsonObject:
        """Submit a job, with exactly one request, and return it.

        An answer without the job's id does not come from the service: whether the job exists is then unknown.
        """
        request = self._collection(place).create(parent=self._parent(place), body=body)
        action = f"submit the job {body[self.name_key]} to {place}"
        job = self._send(execute_once, request, action)
        if not job.get(self.id_key):
            raise unexpected_answer(action, json.dumps(job))
        return job

    def get(self, place: _Place, job_id: str) -> JsonObject | None:
        """Return a job; None when the service has none of that name."""
        request = self._collection(place).get(name=self._resource(place, job_id))
        try:
            return self._execute(request, f"get the job {short_id(job_id)} of {place}")
        except GoogleRefusedError as error:
            if error.code == 404:
                return None
            raise

    def pages(self, place: _Place, filter: str, **options: str) -> Iterator[list[Mapping[str, object]]]:
        """Yield pages of jobs, the newest first.

        Args:
            place: whose jobs.
            filter: in the service's own language; "" for all jobs.
            options: more of the list method's parameters.
        """
        jobs = self._collection(place)
        selected = {**options, **({"filter": filter} if filter else {})}
        token: object = None
        while True:
            request = jobs.list(parent=self._parent(place), pageSize=PAGE_SIZE, pageToken=token, **selected)
            page = self._execute(request, f"list the jobs of {place}")
            found = page.get(self.list_key)
            yield found if isinstance(found, list) else []
            token = page.get("nextPageToken")
            if not token:
                return

    def cancel(self, place: _Place, job_id: str) -> None:
        """Request that a job ends."""
        request = self._collection(place).cancel(name=self._resource(place, job_id), body={})
        self._execute(request, f"stop the job {short_id(job_id)} of {place}")

    def _execute(self, request: ApiRequest, action: str) -> JsonObject:
        return self._send(self._google.execute, request, action)

    def _send(self, execute: Callable[[ApiRequest, str], JsonObject], request: ApiRequest, action: str) -> JsonObject:
        """Send a request; a service may recognize more errors than Google's usual ones."""
        return execute(request, action)


def short_id(name: str) -> str:
    """Return the last part of a resource name: ``projects/1/locations/us-central1/customJobs/42`` -> ``42``."""
    return name.rpartition("/")[2]
