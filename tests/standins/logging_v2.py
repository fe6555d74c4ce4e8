"""A stand-in for Cloud Logging (logging v2): ``entries.list`` of some projects.

In a test by itself: ``with LoggingV2({"totoro-project"}) as logs: ...``; the stand-ins of the training services have
one (``service.logging``), which answers at their own address. The command finds it by
``CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timezone
from typing import Any, ClassVar

from caliban.clock import Clock, SystemClock
from tests.standins.discovery import ApiError, Method, bad_field
from tests.standins.google_api import GoogleApi
from tests.standins.log_filters import parse_filter, time_key
from tests.standins.oauth import ServiceAccount

_DEFAULT_PAGE, _LARGEST_PAGE = 50, 1000
_MOST_RESOURCES = 100
_FIRST_NUMBER = 123456789012
_ORDERS = ("", "timestamp asc", "timestamp desc")


@dataclass
class _Entry:
    """An entry, and when it can be read.

    Attributes:
        hidden_lists: from how many more lists it is missing.
    """

    project: str
    answer: dict[str, Any]
    visible_s: float
    hidden_lists: int

    @property
    def place(self) -> tuple[tuple[str, str], str]:
        return time_key(self.answer["timestamp"]), self.answer["insertId"]


class LoggingV2(GoogleApi):
    """The service: its entries, its quota, what was asked of it, and what is to go wrong.

    Attributes:
        disabled: projects in which the API is not enabled.
        lag_s: so long after it was written, an entry cannot be read; by the clock.
        hidden_lists: so many lists are made before a new entry shows up in one.
        empty_pages: so many pages at the beginning of each list have no entries, as of a search that takes long.
        quota: requests in a minute, of each project.
        without_scope: whether the token has not the scope for this API.
    """

    api, version = "logging", "v2"
    served: ClassVar = {"logging.entries.list": "logging.logEntries.list"}

    def __init__(
        self,
        projects: Collection[str] = ("totoro-project",),
        *,
        account: ServiceAccount | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(projects, account=account)
        self.clock = clock or SystemClock()
        self.numbers = {project: str(_FIRST_NUMBER + index) for index, project in enumerate(sorted(projects))}
        self.disabled: set[str] = set()
        self.lag_s = 0.0
        self.hidden_lists = 0
        self.empty_pages = 0
        self.quota = 60
        self.without_scope = False
        self._entries: list[_Entry] = []
        self._sent: dict[str, deque[float]] = {}
        self._lock = threading.RLock()
        self._count = 0

    def write(
        self,
        job_id: str,
        message: str | Mapping[str, Any],
        *,
        project: str | None = None,
        task: str = "workerpool0-0",
        severity: str = "INFO",
        time: str | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """Let a machine of a job write an entry, and return it.

        Args:
            job_id: the last part of its name.
            message: text, or a structured payload.
            project: whose entry; None for the first one's.
            task: the machine; ``service`` for the service itself.
            severity: of the entry.
            time: its timestamp; None for now. Entries may be written in any order.
            fields: more of the entry, or in place of the above.
        """
        project = project or sorted(self.projects)[0]
        with self._lock:
            self._count += 1
            now = f"{self.clock.utc_now().astimezone(timezone.utc):%Y-%m-%dT%H:%M:%S.%fZ}"
            entry = {
                "insertId": f"{self._count:08x}",
                "logName": f"projects/{project}/logs/{task}",
                "resource": {"type": "ml_job", "labels": {"job_id": job_id, "task_name": task, "project_id": project}},
                "severity": severity,
                "timestamp": time or now,
                "receiveTimestamp": now,
                **({"textPayload": message} if isinstance(message, str) else {"jsonPayload": dict(message)}),
                **fields,
            }
            self.discovery.check_schema("LogEntry", entry)
            visible_s = self.clock.monotonic() + self.lag_s
            self._entries.append(_Entry(project, entry, visible_s, self.hidden_lists))
        return entry

    def forget(self, job_id: str) -> None:
        """Let the entries of a job be gone, as after the time for which they are kept."""
        with self._lock:
            self._entries = [entry for entry in self._entries if _job_id(entry.answer) != job_id]

    def arrive(self) -> None:
        """Let all entries that were written be listed from now on."""
        with self._lock:
            self._entries = [_Entry(one.project, one.answer, 0.0, 0) for one in self._entries]

    def check_project(self, method: Method) -> None:
        """Projects are named in the body."""
        if self.without_scope:
            info = _info("ACCESS_TOKEN_SCOPE_INSUFFICIENT", {"service": "logging.googleapis.com"})
            raise ApiError(403, "Request had insufficient authentication scopes.", details=[info])

    def denied(self, permission: str, method: Method) -> ApiError:
        return ApiError(403, "Permission denied for all log views.")

    def serve(self, method: Method, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        self.discovery.check_body(method, body, "")
        project = self._project(body)
        self._check_quota(project)
        order, size = body.get("orderBy", ""), int(body.get("pageSize") or 0)
        if order not in _ORDERS:
            raise bad_field("order_by", f"order_by must be one of {', '.join(_ORDERS[1:])}, got {order}")
        if size < 0:
            raise bad_field("page_size", "page_size must not be negative")
        size = min(size or _DEFAULT_PAGE, _LARGEST_PAGE)
        matches = parse_filter(body.get("filter", ""))
        made_for = hashlib.sha256(json.dumps([project, order, body.get("filter", "")]).encode()).hexdigest()
        number, after = _position(body.get("pageToken", ""), made_for)
        if number < self.empty_pages:
            return {"nextPageToken": _token(number + 1, after, made_for)}
        is_newest_first = order == "timestamp desc"
        with self._lock:
            visible = [entry for entry in self._entries if self._is_visible(entry)]
            found = [entry for entry in visible if entry.project == project and matches(entry.answer)]
        found.sort(key=lambda entry: entry.place, reverse=is_newest_first)
        if after is not None:
            found = [one for one in found if (one.place < after if is_newest_first else one.place > after)]
        page = found[:size]
        answer: dict[str, Any] = {"entries": [entry.answer for entry in page]} if page else {}
        if len(found) > size:
            answer["nextPageToken"] = _token(number + 1, page[-1].place, made_for)
        self.discovery.check_schema("ListLogEntriesResponse", answer)
        return answer

    def control(self, path: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """``POST /_standin/logs``: the arguments of :meth:`write`; ``POST /_standin/logs/forget``: ``{"job_id": ...}``;
        ``POST /_standin/logs/lag``: ``{"seconds": ...}``.
        """
        if path == "/_standin/logs":
            return self.write(**given)
        if path == "/_standin/logs/forget":
            self.forget(given["job_id"])
        elif path == "/_standin/logs/lag":
            self.lag_s = float(given["seconds"])
        else:
            raise LookupError(path)
        return {}

    def _project(self, body: Mapping[str, Any]) -> str:
        names = body.get("resourceNames") or []
        if not names or len(names) > _MOST_RESOURCES:
            raise bad_field("resource_names", "Between 1 and 100 resource names are required.")
        kind, _, given = names[0].partition("/")
        if kind != "projects" or not given or len(names) != 1:
            raise bad_field("resource_names", f"Invalid resource name: {names[0]}")
        ids = {**{number: project for project, number in self.numbers.items()}, **{one: one for one in self.numbers}}
        if given not in ids:
            info = _info("CONSUMER_INVALID", {"consumer": f"projects/{given}", "service": "logging.googleapis.com"})
            raise ApiError(403, f"Permission denied on resource project {given}.", details=[info])
        project = ids[given]
        if project in self.disabled:
            number = self.numbers[project]
            info = _info("SERVICE_DISABLED", {"consumer": f"projects/{number}", "service": "logging.googleapis.com"})
            page = f"https://console.developers.google.com/apis/api/logging.googleapis.com/overview?project={number}"
            raise ApiError(
                403,
                f"Cloud Logging API has not been used in project {number} before or it is disabled. Enable it by "
                f"visiting {page} then retry.",
                details=[info],
            )
        return project

    def _check_quota(self, project: str) -> None:
        """The service sends no Retry-After."""
        with self._lock:
            sent, now = self._sent.setdefault(project, deque()), self.clock.monotonic()
            while sent and sent[0] <= now - 60:
                sent.popleft()
            if len(sent) >= self.quota:
                text = (
                    "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute' of service "
                    f"'logging.googleapis.com' for consumer 'project_number:{self.numbers[project]}'."
                )
                limits = {"quota_limit": "ReadRequestsPerMinutePerProject", "quota_limit_value": str(self.quota)}
                raise ApiError(429, text, details=[_info("RATE_LIMIT_EXCEEDED", limits)])
            sent.append(now)

    def _is_visible(self, entry: _Entry) -> bool:
        if entry.hidden_lists:
            entry.hidden_lists -= 1
            return False
        return entry.visible_s <= self.clock.monotonic()


def _job_id(entry: Mapping[str, Any]) -> str:
    return str(entry["resource"]["labels"].get("job_id"))


def _info(reason: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": dict(metadata),
    }


def _token(number: int, after: Any, made_for: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([number, after, made_for]).encode()).decode()


def _position(token: str, made_for: str) -> tuple[int, tuple[tuple[str, str], str] | None]:
    if not token:
        return 0, None
    try:
        number, after, given = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        number, after, given = 0, None, ""
    if given != made_for:
        raise bad_field("page_token", "page_token doesn't match arguments from the request")
    return int(number), ((after[0][0], after[0][1]), after[1]) if after else None
