"""The jobs of AI Platform Training as the stand-in keeps them: rules of their bodies, states, lists and filters.

Sources: ``ml.v1.json``; https://cloud.google.com/ai-platform/training/docs/managing-models-jobs (names, 90 days);
https://cloud.google.com/ai-platform/training/docs/resource-labels (labels).
"""

from __future__ import annotations

import base64
import builtins
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from tests.standins.discovery import ApiError, bad_field

FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
_LISTED_FOR = timedelta(days=90)
_PAGE_SIZE, _LARGEST_PAGE = 20, 100


@dataclass
class Job:
    """One accepted job.

    Attributes:
        body: as it was sent.
        outputs: what the service adds: ``state``, ``createTime``, ``startTime``, ``endTime``, ``errorMessage``.
    """

    project: str
    body: dict[str, Any]
    created: datetime
    outputs: dict[str, Any] = field(default_factory=dict)
    is_cancelled: threading.Event = field(default_factory=threading.Event)

    replica = "master 0"
    options = ()

    @property
    def id(self) -> str:
        return str(self.body["jobId"])

    @property
    def image(self) -> str:
        return str(self.body["trainingInput"]["masterConfig"]["imageUri"])

    @property
    def arguments(self) -> list[str]:
        return list(self.body["trainingInput"].get("args", []))

    @property
    def state(self) -> str:
        return str(self.outputs["state"])

    def answer(self) -> dict[str, Any]:
        """The job as the API tells it."""
        etag = base64.b64encode(f"{self.id} {self.state}".encode()).decode()
        return {**self.body, **self.outputs, "trainingOutput": {}, "etag": etag}


class Jobs:
    """The jobs of some projects, and the four methods that deal with them.

    Attributes:
        on_end: called with a job that has ended, before a list or an answer has its end.
    """

    def __init__(
        self,
        on_accept: Callable[[Job], None] = lambda job: None,
        on_end: Callable[[Job, str], None] = lambda job, state: None,
    ) -> None:
        self._jobs: dict[tuple[str, str], Job] = {}
        self._lock = threading.RLock()
        self.on_accept = on_accept
        self.on_end = on_end

    def create(self, project: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Accept a job, QUEUED."""
        _check_job(body)
        now = datetime.now(timezone.utc)
        job = Job(project, dict(body), now, {"state": "QUEUED", "createTime": _stamp(now)})
        with self._lock:
            if (project, job.id) in self._jobs:
                raise ApiError(409, "Field: job.job_id Error: A job with this id already exists.")
            self._jobs[project, job.id] = job
            answer = job.answer()
        self.on_accept(job)
        return answer

    def get(self, project: str, job_id: str) -> dict[str, Any]:
        """Tell of one job."""
        with self._lock:
            return self._job(project, job_id).answer()

    def cancel(self, project: str, job_id: str) -> dict[str, Any]:
        """End a job: at once where nothing runs it, else when its runner sees it."""
        with self._lock:
            job = self._job(project, job_id)
            if job.state in FINAL:
                message = f"Field: name Error: The job is in state {job.state} and cannot be cancelled."
                raise ApiError(400, message, status="FAILED_PRECONDITION")
            job.is_cancelled.set()
            self.set_state(job_id, "CANCELLING", project=project)
        return {}

    def list(self, project: str, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of the jobs of the last 90 days, the newest first."""
        size = int(query.get("pageSize", _PAGE_SIZE))
        if size < 0:
            raise bad_field("page_size", f"Field: page_size Error: {size} is negative.")
        size = min(size or _PAGE_SIZE, _LARGEST_PAGE)
        matches = parse_filter(query.get("filter", ""))
        begin = _offset(query.get("pageToken", ""), query.get("filter", ""))
        oldest = datetime.now(timezone.utc) - _LISTED_FOR
        with self._lock:
            mine = [job for job in self._jobs.values() if job.project == project and job.created > oldest]
            found = [job.answer() for job in reversed(mine) if matches(job.answer())]
        answer: dict[str, Any] = {}
        if found[begin : begin + size]:
            answer["jobs"] = found[begin : begin + size]
        if len(found) > begin + size:
            answer["nextPageToken"] = _token(begin + size, query.get("filter", ""))
        return answer

    def all(self) -> builtins.list[Job]:
        """Every job, in the order in which they were accepted."""
        with self._lock:
            return list(self._jobs.values())

    def find(self, job_id: str, project: str | None = None) -> Job:
        """The job of that name, for a test to look at."""
        return next(job for job in self.all() if job.id == job_id and project in (None, job.project))

    def set_state(self, job_id: str, state: str, error: str = "", *, project: str | None = None) -> None:
        """Let a job be in ``state`` from now on."""
        with self._lock:
            job = self.find(job_id, project)
            if state in FINAL:
                self.on_end(job, state)
            job.outputs["state"] = state
            now = _stamp(datetime.now(timezone.utc))
            if state == "RUNNING":
                job.outputs.setdefault("startTime", now)
            if state in FINAL:
                job.outputs["endTime"] = now
            if error:
                job.outputs["errorMessage"] = error

    def move(self, job: Job, state: str, error: str = "") -> None:
        """What a runner tells of a job."""
        words = error or ("Cancelled by the user." if state == "CANCELLED" else "")
        self.set_state(job.id, state, words, project=job.project)

    def age(self, job_id: str, days: int) -> None:
        """Let a job be so many days older."""
        with self._lock:
            job = self.find(job_id)
            job.created -= timedelta(days=days)
            job.outputs["createTime"] = _stamp(job.created)

    def forget(self, job_id: str) -> None:
        """Let the service know a job no longer."""
        with self._lock:
            job = self.find(job_id)
            del self._jobs[job.project, job.id]

    def _job(self, project: str, job_id: str) -> Job:
        if (project, job_id) not in self._jobs:
            raise ApiError(404, f"Field: name Error: The job {job_id} in project {project} was not found.")
        return self._jobs[project, job_id]


def parse_filter(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """``jobId:rnn* AND state:FAILED AND labels.phase=test`` -> a test of jobs."""
    terms = []
    for term in filter(None, re.split(r"\s+AND\s+", text.strip())):
        match = re.fullmatch(r"(jobId|state|labels\.[a-z][a-z0-9_-]*)\s*([:=])\s*\"?([^\s\"]+)\"?", term)
        if match is None:
            raise bad_field("filter", f"Field: filter Error: Invalid filter: {term}")
        terms.append((match[1], match[3]))

    def matches(job: Mapping[str, Any]) -> bool:
        return all(_holds(job, name, value) for name, value in terms)

    return matches


def _holds(job: Mapping[str, Any], name: str, wanted: str) -> bool:
    holder: Mapping[str, Any] = job.get("labels", {}) if name.startswith("labels.") else job
    value = holder.get(name.removeprefix("labels."))
    if value is None:
        return False
    return str(value).startswith(wanted[:-1]) if wanted.endswith("*") else str(value) == wanted


def _check_job(body: Mapping[str, Any]) -> None:
    job_id = body.get("jobId")
    if not job_id:
        raise bad_field("job.job_id", "Field: job.job_id Error: The job id is required.")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,127}", job_id):
        text = (
            "Field: job.job_id Error: A name should start with a letter and contain only letters, numbers and "
            "underscores, and be no longer than 128 characters."
        )
        raise bad_field("job.job_id", text)
    _check_labels(body.get("labels") or {})
    if ("trainingInput" in body) == ("predictionInput" in body):
        raise bad_field("job", "Field: job Error: Exactly one of training_input and prediction_input is required.")
    if "trainingInput" in body:
        _check_training_input(body["trainingInput"])


def _check_training_input(given: Mapping[str, Any]) -> None:
    place = "job.training_input"
    master = given.get("masterConfig") or {}
    for name in ("region", "scaleTier"):
        if not given.get(name):
            raise bad_field(f"{place}.{name}", f"Field: {place}.{name} Error: It is required.")
    if given["scaleTier"] == "CUSTOM" and not given.get("masterType"):
        raise bad_field(f"{place}.master_type", f"Field: {place}.master_type Error: Required for the CUSTOM tier.")
    if not master.get("imageUri") and not (given.get("packageUris") and given.get("pythonModule")):
        text = f"Field: {place} Error: Either master_config.image_uri or package_uris and python_module are required."
        raise bad_field(place, text)
    if given.get("args") and (master.get("containerArgs") or master.get("containerCommand")):
        raise bad_field(f"{place}.args", f"Field: {place}.args Error: It excludes the master's container_args.")
    accelerators = master.get("acceleratorConfig") or {}
    has_type = accelerators.get("type", "ACCELERATOR_TYPE_UNSPECIFIED") != "ACCELERATOR_TYPE_UNSPECIFIED"
    if has_type != (int(accelerators.get("count", 0)) > 0):
        field_name = f"{place}.master_config.accelerator_config"
        raise bad_field(field_name, f"Field: {field_name} Error: Count and type must both be given.")


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > 64:
        raise bad_field("job.labels", "Field: job.labels Error: There can be no more than 64 labels.")
    for key, value in labels.items():
        is_good = 1 <= len(key) <= 63 and key[0].isalpha() and _is_label_text(key)
        if not is_good or len(value) > 63 or not _is_label_text(value):
            text = (
                f"Field: job.labels Error: Invalid label {key}={value}: keys and values hold at most 63 lower-case "
                "letters, numbers, underscores and dashes, and keys start with a letter."
            )
            raise bad_field("job.labels", text)


def _is_label_text(text: str) -> bool:
    return all(letter in "-_" or letter.isdigit() or (letter.isalpha() and not letter.isupper()) for letter in text)


def _token(begin: int, filter_text: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([begin, filter_text]).encode()).decode()


def _offset(token: str, filter_text: str) -> int:
    if not token:
        return 0
    try:
        begin, made_for = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        begin, made_for = -1, None
    if made_for != filter_text:
        raise bad_field("page_token", "Field: page_token Error: Invalid page token.")
    return int(begin)


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
