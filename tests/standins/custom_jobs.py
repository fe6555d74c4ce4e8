"""The custom jobs of Vertex AI as the stand-in keeps them: names, states, lists that lag behind.

Source: the resource ``projects.locations.customJobs`` of ``aiplatform.v1.json``.
"""

from __future__ import annotations

import base64
import builtins
import json
import math
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from caliban.clock import Clock, SystemClock
from tests.standins.custom_job_rules import check_custom_job
from tests.standins.discovery import ApiError, bad_field
from tests.standins.filters import parse_filter

_PREFIX = "JOB_STATE_"
FINAL = frozenset(_PREFIX + end for end in ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED"))
_HAVE_END_TIME = frozenset(_PREFIX + end for end in ("SUCCEEDED", "FAILED", "CANCELLED"))
_HAVE_ERROR = frozenset({"JOB_STATE_FAILED", "JOB_STATE_CANCELLED"})
_LARGEST_PAGE = 100
_CODES = {"JOB_STATE_CANCELLED": 1, "JOB_STATE_FAILED": 3}
"""google.rpc.Code: CANCELLED, INVALID_ARGUMENT."""


@dataclass
class CustomJob:
    """One accepted job.

    Attributes:
        project: its id, not its number.
        location: ``us-central1``.
        id: the digits that the service gave it.
        name: ``projects/NUMBER/locations/LOCATION/customJobs/ID``.
        body: as it was sent.
        accepted_s: when, by the clock.
        outputs: what the service adds: ``state``, ``createTime``, ``startTime``, ``endTime``, ``updateTime``,
            ``error``.
        hidden_lists: from how many more lists of its location it is missing.
    """

    project: str
    location: str
    id: str
    name: str
    body: dict[str, Any]
    accepted_s: float
    outputs: dict[str, Any]
    is_cancelled: threading.Event = field(default_factory=threading.Event)
    hidden_lists: int = 0

    replica = "workerpool0-0"

    @property
    def state(self) -> str:
        return str(self.outputs["state"])

    @property
    def labels(self) -> Mapping[str, str]:
        return self.body.get("labels") or {}

    @property
    def image(self) -> str:
        return str(self._container["imageUri"])

    @property
    def options(self) -> list[str]:
        """What ``docker run`` needs for the container's entry point and variables."""
        variables = [f"--env={one['name']}={one.get('value', '')}" for one in self._container.get("env") or []]
        return [*variables, *(f"--entrypoint={word}" for word in self._command[:1])]

    @property
    def arguments(self) -> list[str]:
        return [*self._command[1:], *(self._container.get("args") or [])]

    @property
    def _command(self) -> Sequence[str]:
        return self._container.get("command") or []

    @property
    def _container(self) -> Mapping[str, Any]:
        container: Mapping[str, Any] = self.body["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]
        return container

    def answer(self) -> dict[str, Any]:
        """The job as the API tells it."""
        return {"name": self.name, **self.body, **self.outputs}


class CustomJobs:
    """The custom jobs of some projects, in all locations, and the four methods that deal with them.

    Attributes:
        lag_s: so long after its creation a job does not show up in lists; :meth:`get` knows it at once.
        hidden_lists: so many lists of its location are made before a new job shows up in one: a delay in time, which is
            the same for every job.
        any_registry: see :func:`~tests.standins.custom_job_rules.check_custom_job`.
    """

    def __init__(
        self,
        numbers: Mapping[str, str],
        on_accept: Callable[[CustomJob], None] = lambda job: None,
        on_end: Callable[[CustomJob, str], None] = lambda job, state: None,
        *,
        any_registry: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """``numbers``: of each project, by its id; ``on_end``: called with a job that has ended, and its last state."""
        self._clock = clock or SystemClock()
        self.lag_s = 0.0
        self.hidden_lists = 0
        self.any_registry = any_registry
        self._numbers = numbers
        self._jobs: dict[str, CustomJob] = {}
        self._lock = threading.RLock()
        self.on_accept = on_accept
        self.on_end = on_end

    def create(self, project: str, location: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Accept a job, PENDING, under a name that no other has: the same body twice makes two jobs."""
        check_custom_job(body, any_registry=self.any_registry)
        now = _stamp()
        job_id = str(10**18 + secrets.randbelow(8 * 10**18))
        name = f"projects/{self._numbers[project]}/locations/{location}/customJobs/{job_id}"
        outputs = {"state": "JOB_STATE_PENDING", "createTime": now, "updateTime": now}
        accepted_s, hidden = self._clock.monotonic(), self.hidden_lists
        job = CustomJob(project, location, job_id, name, dict(body), accepted_s, outputs, hidden_lists=hidden)
        with self._lock:
            self._jobs[name] = job
            answer = job.answer()
        self.on_accept(job)
        return answer

    def get(self, project: str, location: str, job_id: str) -> dict[str, Any]:
        """Tell of one job."""
        with self._lock:
            return self._job(project, location, job_id).answer()

    def cancel(self, project: str, location: str, job_id: str) -> dict[str, Any]:
        """Begin to end a job: it is CANCELLING until its runner, or :meth:`end_cancelled`, has ended it."""
        with self._lock:
            job = self._job(project, location, job_id)
            if job.state in FINAL:
                message = f'The CustomJob "{job.name}" is in state {job.state} and cannot be canceled.'
                raise ApiError(400, message, status="FAILED_PRECONDITION")
            job.is_cancelled.set()
            self._set_state(job, "JOB_STATE_CANCELLING", "")
        return {}

    def list(self, project: str, location: str, query: Mapping[str, str], fields: Sequence[str]) -> dict[str, Any]:
        """A page of a location's jobs, the newest first.

        Args:
            project, location: whose.
            query: ``filter``, ``readMask``, ``pageSize``, ``pageToken``.
            fields: that a job may have, for ``readMask``.
        """
        size = int(query.get("pageSize") or 0)
        if size < 0:
            raise bad_field("page_size", f"The page size {size} is negative.")
        size = min(size or _LARGEST_PAGE, _LARGEST_PAGE)
        matches = parse_filter(query.get("filter", ""))
        made_for = [project, location, query.get("filter", "")]
        begin = _offset(query.get("pageToken", ""), made_for)
        mask = _mask(query.get("readMask", ""), fields)
        with self._lock:
            mine = [job for job in self._jobs.values() if (job.project, job.location) == (project, location)]
            found = [job.answer() for job in reversed(mine) if self._is_listed(job) and matches(job.answer())]
        page = [{name: value for name, value in job.items() if name in mask} for job in found[begin : begin + size]]
        answer: dict[str, Any] = {"customJobs": page} if page else {}
        if len(found) > begin + size:
            answer["nextPageToken"] = _token(begin + size, made_for)
        return answer

    def all(self) -> builtins.list[CustomJob]:
        """Every job, in the order in which they were accepted."""
        with self._lock:
            return list(self._jobs.values())

    def find(self, name: str) -> CustomJob:
        """The job of that name, or of that number or display name, for a test to look at."""
        return next(job for job in self.all() if name in (job.name, job.id, job.body["displayName"]))

    def restore(self, job: CustomJob) -> None:
        """Let a job be there as it was, under its name, and as if it had been for long."""
        with self._lock:
            self._jobs[job.name] = replace(
                job,
                accepted_s=-math.inf,
                body=dict(job.body),
                outputs=dict(job.outputs),
                is_cancelled=threading.Event(),
            )

    def set_state(self, name: str, state: str, error: str = "") -> None:
        """Let a job (see :meth:`find`) be in ``state`` from now on: ``JOB_STATE_FAILED``."""
        with self._lock:
            self._set_state(self.find(name), state, error)

    def move(self, job: CustomJob, state: str, error: str = "") -> None:
        """What a runner tells of a job: PREPARING, RUNNING, SUCCEEDED, FAILED, CANCELLED, EXPIRED."""
        with self._lock:
            # A job that is being cancelled may succeed still, but not begin.
            if not (job.is_cancelled.is_set() and state in ("PREPARING", "RUNNING")):
                self._set_state(job, _PREFIX + state.replace("PREPARING", "PENDING"), error)

    def end_cancelled(self) -> None:
        """Let every job that is being cancelled be so."""
        for job in self.all():
            if job.state == "JOB_STATE_CANCELLING":
                self.move(job, "CANCELLED")

    def forget(self, name: str) -> None:
        """Let the service know a job no longer: somebody deleted it."""
        with self._lock:
            del self._jobs[self.find(name).name]

    def _is_listed(self, job: CustomJob) -> bool:
        if job.hidden_lists:
            job.hidden_lists -= 1
            return False
        return job.accepted_s <= self._clock.monotonic() - self.lag_s

    def _set_state(self, job: CustomJob, state: str, error: str) -> None:
        now = _stamp()
        if state in FINAL:
            self.on_end(job, state.removeprefix(_PREFIX))
        job.outputs.update(state=state, updateTime=now)
        if state == "JOB_STATE_RUNNING":
            job.outputs.setdefault("startTime", now)
        if state in _HAVE_END_TIME:
            job.outputs["endTime"] = now
        if state in _HAVE_ERROR:
            words = error or ("CANCELED" if state == "JOB_STATE_CANCELLED" else "Internal error occurred.")
            job.outputs["error"] = {"code": _CODES[state], "message": words}

    def _job(self, project: str, location: str, job_id: str) -> CustomJob:
        name = f"projects/{self._numbers[project]}/locations/{location}/customJobs/{job_id}"
        if name not in self._jobs:
            raise ApiError(404, f"The CustomJob does not exist: {name}")
        return self._jobs[name]


def _mask(text: str, fields: Sequence[str]) -> frozenset[str]:
    """The fields that a ``readMask`` lets through: of the job itself, as protobuf writes masks in JSON."""
    asked = frozenset(filter(None, text.split(",")))
    unknown = asked - {*fields, "*"}
    if unknown:
        raise bad_field("read_mask", f"Invalid field mask: {', '.join(sorted(unknown))}")
    return asked if asked - {"*"} else frozenset(fields)


def _token(begin: int, made_for: Sequence[str]) -> str:
    return base64.urlsafe_b64encode(json.dumps([begin, *made_for]).encode()).decode()


def _offset(token: str, made_for: Sequence[str]) -> int:
    if not token:
        return 0
    try:
        begin, *given = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        begin, given = -1, []
    if given != list(made_for):
        raise bad_field("page_token", "Invalid page token.")
    return int(begin)


def _stamp() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
