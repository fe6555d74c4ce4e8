"""The stored details of jobs on Vertex AI.

``{"project_id": ..., "region": ..., "name": "projects/.../customJobs/42", "displayName": ...}``; and where there is
something to say, ``state`` (the service's, if it is more specific than ours), ``reason``, ``error`` (of a refused
submission), ``started``, ``ended`` and ``cause``.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from caliban.platforms.google.details import (
    ProjectDestination,
    TimeLimits,
    failure_cause,
    job_exit,
    seconds,
    stored_times,
    summary,
)
from caliban.platforms.google.identifiers import REGION
from caliban.platforms.stored_json import text, timestamp
from caliban.records import FailureCause, JobDetails, JobStatus, JsonObject

_SPECIFIC_STATES: Mapping[str, str] = {
    "JOB_STATE_CANCELLING": "cancelling",
    "JOB_STATE_PAUSED": "paused",
    "JOB_STATE_UPDATING": "updating",
    "JOB_STATE_EXPIRED": "expired",
    "JOB_STATE_PARTIALLY_SUCCEEDED": "partially succeeded",
}
"""States that are more specific than ours, as they are shown."""

_MAY_BE_TAKEN_AWAY = ("SPOT", "FLEX_START")
"""Scheduling strategies of jobs that may lose their machines: Spot VMs, and VMs with a limited life."""
_NO_MACHINES = "no machines within the time limit (scheduling.maxWaitDuration)"
_DEFAULT_TIMEOUT = 7 * 86400.0
_DEFAULT_WAIT = 86400.0


@dataclass(frozen=True)
class VertexDestination(ProjectDestination):
    """A region, in a project."""

    region: str

    def __str__(self) -> str:
        return f"{super().__str__()} in {self.region}"

    def check(self) -> None:
        """See :meth:`ProjectDestination.check`."""
        super().check()
        REGION.check(self.region)

    def to_json(self) -> JsonObject:
        """See :meth:`caliban.records.Destination.to_json`."""
        return {"project": self.project, "region": self.region}

    @classmethod
    def from_json(cls, stored: JsonObject) -> VertexDestination:
        """Return what ``to_json`` stored."""
        return cls(text(stored, "project") or "", text(stored, "region") or "")


def parse_details(status: JobStatus, raw: JsonObject) -> JobDetails:
    """See :meth:`caliban.platforms.base.Platform.parse_details`."""
    project, region, name, reason = (text(raw, key) for key in ("project_id", "region", "name", "reason"))
    return JobDetails(
        raw,
        id=name,
        display_name=text(raw, "displayName"),
        destination=VertexDestination(project, region) if project and region else None,
        exit=job_exit(status, raw, reason),
        pending_reason=None if status.is_final else reason,
        started=timestamp(raw, "started"),
        ended=timestamp(raw, "ended"),
        links=_links(project, region, name) if project and region and name else (),
    )


def place_details(destination: VertexDestination, display_name: str | None = None) -> JsonObject:
    """Return what is stored of a job that does not exist (yet)."""
    named = {"displayName": display_name} if display_name else {}
    return {"project_id": destination.project, "region": destination.region, **named}


def details_at(destination: JsonObject) -> JobDetails:
    """See :meth:`caliban.platforms.base.Platform.details_at`."""
    return parse_details(JobStatus.SUBMITTED, place_details(VertexDestination.from_json(destination)))


def time_limits(spec: JsonObject) -> TimeLimits:
    """Return how long a custom job may run and wait.

    Source: ``GoogleCloudAiplatformV1Scheduling`` in the discovery document.

    Args:
        spec: the job, as recorded or as the service reports it.
    """
    scheduling = _scheduling(spec)
    run = seconds(scheduling.get("timeout")) or _DEFAULT_TIMEOUT
    wait = scheduling.get("maxWaitDuration")
    longest_wait = (_DEFAULT_WAIT if wait is None else seconds(wait)) if _strategy(spec) == "FLEX_START" else None
    return TimeLimits(run, longest_wait, "scheduling.timeout", "scheduling.maxWaitDuration")


def has_several_machines(spec: JsonObject) -> bool:
    """Return whether a custom job has more than one machine; a worker pool without a count has one."""
    job_spec = spec.get("jobSpec")
    pools = job_spec.get("workerPoolSpecs") if isinstance(job_spec, Mapping) else None
    counts = (
        [str(pool.get("replicaCount", 1)) for pool in pools if isinstance(pool, Mapping) and pool]
        if isinstance(pools, list)
        else []
    )
    return sum(int(count) for count in counts if count.isascii() and count.isdigit()) > 1


def new_details(destination: VertexDestination, status: JobStatus, job: JsonObject) -> JsonObject:
    """Return what is stored of a new job, as the service reports it."""
    named = {key: job[key] for key in ("name", "displayName") if key in job}
    return updated_details({**place_details(destination), **named}, status, job, job)


def updated_details(raw: JsonObject, status: JobStatus, job: JsonObject, spec: JsonObject | None = None) -> JsonObject:
    """Return what is stored of a job, with what the service reports of it.

    Args:
        raw: what was stored.
        status: of the job.
        job: as the service reports it, its spec excepted.
        spec: the job spec; None where it is not known.
    """
    details = {key: value for key, value in raw.items() if key not in ("state", "reason", "cause")}
    details.update(stored_times(job, status))
    state, reasons = str(job.get("state")), []
    if state in _SPECIFIC_STATES:
        details["state"] = state
        reasons.append(_SPECIFIC_STATES[state])
    if status is JobStatus.SUBMITTED and _strategy(spec or {}) == "FLEX_START":
        reasons.append("waiting for machines (flex start)")
    if status is JobStatus.FAILED:
        reason, cause = _failure(state, job, spec or {})
        reasons += [reason] if reason else []
        details.update({"cause": cause.value} if cause else {})
    if reasons:
        details["reason"] = ": ".join(reasons)
    return details


def _failure(state: str, job: JsonObject, spec: JsonObject) -> tuple[str | None, FailureCause | None]:
    """Return why a job failed, in one line, and the cause, as far as they are known."""
    if state == "JOB_STATE_EXPIRED":
        is_queued = _strategy(spec) == "FLEX_START" and not job.get("startTime")
        return _NO_MACHINES if is_queued else None, FailureCause.TIMEOUT
    if state == "JOB_STATE_CANCELLED":  # by the service
        return time_limits(spec).exceeded(job), FailureCause.TIMEOUT
    error = job.get("error")
    if not isinstance(error, Mapping):
        return None, None
    message = str(error.get("message") or "").strip()
    may_be_preempted = bool(job.get("startTime")) and _strategy(spec) in _MAY_BE_TAKEN_AWAY
    cause = failure_cause(message, error.get("code"), may_be_preempted=may_be_preempted)
    return next(iter(summary(message).splitlines()), None), cause


def _scheduling(spec: JsonObject) -> JsonObject:
    job_spec = spec.get("jobSpec")
    scheduling = job_spec.get("scheduling") if isinstance(job_spec, Mapping) else None
    return scheduling if isinstance(scheduling, Mapping) else {}


def _strategy(spec: JsonObject) -> object:
    return _scheduling(spec).get("strategy")


def _links(project: str, region: str, name: str) -> tuple[str, ...]:
    """Return the job's page in the console, and the command that streams its log.

    Sources: google-cloud-aiplatform 1.150.0 and later (``_dashboard_uri``; pages of jobs moved with the service's new
    name, and their former addresses answer 404: https://github.com/googleapis/python-aiplatform/issues/6638), and
    https://cloud.google.com/sdk/gcloud/reference/ai/custom-jobs/stream-logs.
    """
    number = name.rpartition("/")[2]
    path = f"locations/{quote(region, safe='')}/training/{quote(number, safe='')}?project={quote(project, safe='')}"
    return (
        f"https://console.cloud.google.com/agent-platform/{path}",
        f"gcloud ai custom-jobs stream-logs {shlex.quote(number)} --region {shlex.quote(region)} "
        f"--project {shlex.quote(project)}",
    )
