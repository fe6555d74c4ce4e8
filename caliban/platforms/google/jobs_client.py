"""The four requests to a training service that are made: create, get, list and cancel a job."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from caliban.errors import PlatformError
from caliban.platforms.google.client import PAGE_SIZE, Google
from caliban.platforms.google.details import ProjectDestination
from caliban.platforms.google.errors import ForeignAnswerError, GoogleError, GoogleRefusedError
from caliban.platforms.google.transport import ApiRequest, execute_once
from caliban.records import ImageRef, JsonObject
from caliban.redaction import hide_secrets

_Place = TypeVar("_Place", bound=ProjectDestination)

_MAX_PAGES = 1000
"""100,000 jobs. A list that does not end is an error."""
_MAX_MESSAGE = 20_000
"""Characters of a job's error that are read; services limit them to a few thousand."""
_LIST_DEADLINE = 600
"""Seconds for all pages of a list."""


class JobsClient(ABC, Generic[_Place]):
    """The jobs of a training service. May be shared by threads.

    Every method raises :class:`~caliban.platforms.google.errors.GoogleError` or
    :class:`~caliban.platforms.google.errors.CredentialsError`, or :class:`~caliban.errors.UsageError` for a credentials
    file or endpoint that cannot be used, or :class:`~caliban.errors.PlatformError` for a malformed destination or id,
    which is checked before a token is fetched.

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

    def check_name(self, place: _Place, job_id: str) -> None:
        """Check the destination and the id of a job, before they become part of a request to another service."""
        self._name(place, job_id)

    @abstractmethod
    def _collection(self, place: _Place) -> Any:  # noqa: ANN401 - created at run time
        """Return the API client's methods for jobs."""

    def _name(self, place: _Place, job_id: str) -> str:
        """Return the resource name of a job, once the destination and the id have been checked."""
        place.check()
        return self._resource(place, job_id)

    def _jobs(self, place: _Place) -> Any:  # noqa: ANN401 - created at run time
        """Return the API client's methods for jobs, once the destination has been checked."""
        place.check()
        return self._collection(place)

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
        request = self._jobs(place).create(parent=self._parent(place), body=body)
        action = f"submit the job {body[self.name_key]} to {place}"
        job = self._send(execute_once, request, action)
        if not self._is_identity(job.get(self.id_key), body, place):
            raise _foreign(action, job)
        return job

    @abstractmethod
    def _is_identity(self, job_id: object, body: JsonObject, place: _Place) -> bool:
        """Return whether a job that was created from ``body`` can have this id."""

    def get(self, place: _Place, job_id: str) -> JsonObject | None:
        """Return a job; None when the service has none of that name."""
        name = self._name(place, job_id)
        request = self._jobs(place).get(name=name)
        action = f"get the job {short_id(job_id)} of {place}"
        try:
            job = self._execute(request, action)
        except GoogleRefusedError as error:
            if error.code == 404:
                return None
            raise
        if short_id(str(job.get(self.id_key))) != short_id(job_id):
            raise _foreign(action, job)
        return job

    def pages(self, place: _Place, filter: str, **options: str) -> Iterator[list[Mapping[str, object]]]:
        """Yield pages of jobs, the newest first.

        Args:
            place: whose jobs.
            filter: in the service's own language; "" for all jobs.
            options: more of the list method's parameters.
        """
        jobs = self._jobs(place)
        selected = {**options, **({"filter": filter} if filter else {})}
        action = f"list the jobs of {place}"
        token: str | None = None
        seen: set[str] = set()
        clock = self._google.clock
        deadline = clock.monotonic() + _LIST_DEADLINE
        while True:
            request = jobs.list(parent=self._parent(place), pageSize=PAGE_SIZE, pageToken=token, **selected)
            page = self._execute(request, action)
            yield _jobs_of(page, self.list_key, action)
            token = _next_page(page, action)
            if not token:
                return
            if token in seen or len(seen) >= _MAX_PAGES or clock.monotonic() > deadline:
                raise _endless(action, len(seen) + 1, is_repeated=token in seen)
            seen.add(token)

    def cancel(self, place: _Place, job_id: str) -> None:
        """Request that a job ends."""
        name = self._name(place, job_id)
        request = self._jobs(place).cancel(name=name, body={})
        self._execute(request, f"stop the job {short_id(job_id)} of {place}")

    def _execute(self, request: ApiRequest, action: str) -> JsonObject:
        return self._send(self._google.execute, request, action)

    def _send(self, execute: Callable[[ApiRequest, str], JsonObject], request: ApiRequest, action: str) -> JsonObject:
        """Send a request; a service may recognize more errors than Google's usual ones."""
        return execute(request, action)


def _jobs_of(page: JsonObject, key: str, action: str) -> list[Mapping[str, object]]:
    """Return the jobs of a page. One without the key has none.

    Raises:
        ForeignAnswerError: it is no page: what is listed there would be taken for missing.
    """
    jobs = page.get(key, [])
    is_odd = key not in page and page.keys() - {"nextPageToken"}
    if is_odd or not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise _foreign(action, page)
    return jobs


def _foreign(action: str, answer: JsonObject) -> ForeignAnswerError:
    return ForeignAnswerError(action, 200, json.dumps(answer))


def _endless(action: str, count: int, *, is_repeated: bool) -> GoogleError:
    cause = "its next page was listed before" if is_repeated else f"it goes on after {count} pages"
    return GoogleError("google-list-endless", f"cannot {action}: the list does not end", cause=cause)


def _next_page(page: JsonObject, action: str) -> str | None:
    token = page.get("nextPageToken")
    if token is not None and not isinstance(token, str):
        raise _foreign(action, page)
    return token


def short_id(name: str) -> str:
    """Return the last part of a resource name: ``projects/1/locations/us-central1/customJobs/42`` -> ``42``."""
    return name.rpartition("/")[2]


def without_secrets(found: JsonObject) -> JsonObject:
    """Return a job as the service reports it, with no secret in its error, which may repeat what the program wrote."""
    message, error = found.get("errorMessage"), found.get("error")
    hidden: dict[str, object] = {}
    if isinstance(message, str):
        hidden["errorMessage"] = hide_secrets(message[:_MAX_MESSAGE])
    if isinstance(error, Mapping) and isinstance(error.get("message"), str):
        hidden["error"] = {**error, "message": hide_secrets(error["message"][:_MAX_MESSAGE])}
    return {**found, **hidden}


def job_image(image_of: Callable[[JsonObject], ImageRef], job: JsonObject) -> ImageRef:
    """Return the image of a job with our token; ``unknown`` where none is reported: the job is ours all the same.

    Args:
        image_of: the service's.
        job: as the service reports it.
    """
    try:
        return image_of(job)
    except PlatformError:
        return "unknown"
