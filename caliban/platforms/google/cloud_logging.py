"""Read entries from Cloud Logging (``entries.list`` of logging v2), within its limits.

Source: the discovery document that google-api-python-client ships, ``logging.v2.json``.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event

from caliban.clock import Clock
from caliban.errors import CalibanError, PlatformError
from caliban.platforms.context import PlatformContext
from caliban.platforms.google.client import Google
from caliban.platforms.google.errors import ForeignAnswerError, GoogleError, GoogleRefusedError
from caliban.platforms.google.log_entries import LogEntry, read_entry
from caliban.platforms.google.transport import execute_once
from caliban.platforms.retry import Backoff, ServiceError
from caliban.records import JsonObject

MAX_PAGE_SIZE = 1000
_MAX_PAGES = 2000
"""Two million entries. A list that does not end is an error."""
_WINDOW, _REQUESTS = 60.0, 50
"""So many requests in so many seconds: ten fewer than a project has, so that a person can look at logs meanwhile.

Source: https://docs.cloud.google.com/logging/quotas ("entries.list requests").
"""
_STEP = 0.5
"""Seconds after which a wait notices that it is to end."""


class Stop:
    """Ends a wait once the output is not wanted any more: its iterator was closed, or the user wants to stop."""

    def __init__(self, clock: Clock, stopping: Event) -> None:
        self.closed = Event()
        self._clock = clock
        self._stopping = stopping

    def is_set(self) -> bool:
        """Return whether it is not wanted any more."""
        return self.closed.is_set() or self._stopping.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait; return whether the output is not wanted any more, as soon as it is not."""
        left = seconds
        while left > 0 and not self.is_set():
            self._clock.wait(self.closed, min(_STEP, left))
            left -= _STEP
        return self.is_set()


@dataclass(frozen=True)
class LogQuery:
    """Which entries are wanted.

    Attributes:
        project: whose entries.
        filter: in the Logging query language.
        what: whose output that is, for messages: ``the job 42``.
        newest_first: the order.
        page_size: how many entries a page has at most.
    """

    project: str
    filter: str
    what: str
    newest_first: bool = False
    page_size: int = MAX_PAGE_SIZE


@dataclass
class _Pace:
    """When requests of one project were sent."""

    sent: deque[float] = field(default_factory=deque)

    def seconds_to_wait(self, now: float) -> float:
        while self.sent and self.sent[0] <= now - _WINDOW:
            self.sent.popleft()
        return 0.0 if len(self.sent) < _REQUESTS else self.sent[0] + _WINDOW - now


class CloudLogging:
    """The logs of any projects. May be shared by threads, which then share the requests that a minute has."""

    def __init__(self, google: Google, context: PlatformContext) -> None:
        self._google = google
        self._context = context
        self._lock = threading.Lock()
        self._paces: dict[str, _Pace] = {}

    def pages(self, query: LogQuery, stop: Stop) -> Iterator[list[LogEntry]]:
        """Yield pages of entries, until there are no more or ``stop`` is set. A page may be empty.

        Raises:
            PlatformError: ``output-refused``.
            CalibanError: Cloud Logging cannot be asked.
        """
        action = f"read the output of {query.what}"
        token, seen = None, set[str]()
        while self._may_send(query.project, stop):
            page = self._page(query, token, action, stop)
            if page is None:
                return
            yield _entries_of(page, action)
            token = _next_page(page, action)
            if not token:
                return
            if token in seen or len(seen) >= _MAX_PAGES:
                raise GoogleError("google-list-endless", f"cannot {action}: the list does not end")
            seen.add(token)

    def _page(self, query: LogQuery, token: str | None, action: str, stop: Stop) -> JsonObject | None:
        body: dict[str, object] = {
            "resourceNames": [f"projects/{query.project}"],
            "filter": query.filter,
            "orderBy": f"timestamp {'desc' if query.newest_first else 'asc'}",
            "pageSize": query.page_size,
        }
        if token:
            body["pageToken"] = token
        request = self._google.resource("logging", "v2", "entries").list(body=body)
        context, policy = self._context, self._google.retry_policy
        backoff = Backoff(policy, context.clock, context.stopping, self._announce_quota, self._google.on_retry)
        while True:
            try:
                return execute_once(request, action)
            except ServiceError as error:
                self._wait(backoff, error, query, stop)
            if stop.is_set():
                return None

    @staticmethod
    def _wait(backoff: Backoff, error: ServiceError, query: LogQuery, stop: Stop) -> None:
        """Wait before the next attempt, if there is one and it is wanted."""
        if stop.is_set():
            return
        try:
            backoff.wait(error)
        except GoogleRefusedError as last:
            if not stop.is_set():
                raise _refusal(last, query) from last
        except ServiceError:
            if not stop.is_set():
                raise

    def _may_send(self, project: str, stop: Stop) -> bool:
        """Wait until a request is within the quota; return False where it is not wanted any more."""
        clock = self._context.clock
        while not stop.is_set():
            with self._lock:
                pace = self._paces.setdefault(project, _Pace())
                seconds = pace.seconds_to_wait(clock.monotonic())
                if seconds <= 0:
                    pace.sent.append(clock.monotonic())
                    return True
            self._announce_quota()
            stop.wait(seconds)
        return False

    def _announce_quota(self) -> None:
        self._context.announce("Cloud Logging limits the number of requests per minute; waiting ...")


def quoted(text: str) -> str:
    """Return a string of the Logging query language.

    Source: https://docs.cloud.google.com/logging/docs/view/logging-query-language#syntax-notes
    """
    return '"{}"'.format(text.replace("\\", "\\\\").replace('"', '\\"'))


def _refusal(error: GoogleRefusedError, query: LogQuery) -> CalibanError:
    """Return the error for an answer with an error; that of a caller who may not read says what is needed."""
    if error.code != 403:
        return error
    cause = error.cause or ""
    if "SERVICE_DISABLED" in cause or "has not been used in project" in cause:
        hint = f"run: gcloud services enable logging.googleapis.com --project {query.project}"
    elif "SCOPE" in cause or "insufficient authentication scopes" in cause:
        hint = "use credentials with the scope https://www.googleapis.com/auth/logging.read or cloud-platform"
    else:
        hint = (
            f"ask the owner of the project {query.project} for the permission logging.logEntries.list (role "
            "roles/logging.viewer; for a private log or a log view, roles/logging.privateLogViewer or "
            "roles/logging.viewAccessor)"
        )
    message = f"cannot read the output of {query.what}: Cloud Logging does not permit it"
    return PlatformError("output-refused", message, cause=error.cause, hint=hint)


def _entries_of(page: JsonObject, action: str) -> list[LogEntry]:
    entries = page.get("entries", [])
    is_odd = "entries" not in page and page.keys() - {"nextPageToken"}
    if is_odd or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ForeignAnswerError(action, 200, json.dumps(page))
    return [read_entry(entry) for entry in entries]


def _next_page(page: JsonObject, action: str) -> str | None:
    token = page.get("nextPageToken")
    if token is not None and not isinstance(token, str):
        raise ForeignAnswerError(action, 200, json.dumps(page))
    return token
