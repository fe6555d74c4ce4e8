"""The stored details of jobs on AI Platform Training: ``{"jobId": ..., "project_id": ...}``, as in caliban 0.4.2.

Later versions add ``errorMessage``, ``error`` (of a refused submission), ``started``, ``ended`` and ``cause``.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from urllib.parse import quote

from caliban.platforms.google.details import (
    ProjectDestination,
    TimeLimits,
    failure_cause,
    job_exit,
    seconds,
    stored_times,
)
from caliban.platforms.stored_json import text, timestamp
from caliban.records import FailureCause, JobDetails, JobStatus, JsonObject

_COUNTS = ("workerCount", "parameterServerCount", "evaluatorCount")
_TIERS_OF_SEVERAL = ("STANDARD_1", "PREMIUM_1")
_DEFAULT_TIMEOUT = 7 * 86400.0


class CaipDestination(ProjectDestination):
    """A project, whose jobs run in the regions that their specs name."""

    @classmethod
    def from_json(cls, stored: JsonObject) -> CaipDestination:
        """Return what ``to_json`` stored."""
        return cls(text(stored, "project") or "")


def parse_details(status: JobStatus, raw: JsonObject) -> JobDetails:
    """See :meth:`caliban.platforms.base.Platform.parse_details`."""
    job_id, project = text(raw, "jobId"), text(raw, "project_id")
    return JobDetails(
        raw,
        id=job_id,
        display_name=job_id,
        destination=CaipDestination(project) if project else None,
        exit=job_exit(status, raw, text(raw, "errorMessage")),
        pending_reason=None if status.is_final else text(raw, "reason"),
        started=timestamp(raw, "started"),
        ended=timestamp(raw, "ended"),
        links=_links(project, job_id) if project and job_id else (),
    )


def details_at(destination: JsonObject) -> JobDetails:
    """See :meth:`caliban.platforms.base.Platform.details_at`."""
    return parse_details(JobStatus.SUBMITTED, {"project_id": CaipDestination.from_json(destination).project})


def new_details(destination: CaipDestination, job_id: str) -> JsonObject:
    """Return what is stored of a new job."""
    return {"jobId": job_id, "project_id": destination.project}


def time_limits(spec: JsonObject) -> TimeLimits:
    """Return how long a job may run and wait.

    Source: ``GoogleCloudMlV1__Scheduling`` in the discovery document.

    Args:
        spec: the job, as recorded or as the service reports it.
    """
    given = spec.get("trainingInput")
    scheduling = given.get("scheduling") if isinstance(given, Mapping) else None
    limits = scheduling if isinstance(scheduling, Mapping) else {}
    run = seconds(limits.get("maxRunningTime")) or _DEFAULT_TIMEOUT
    wait = seconds(limits.get("maxWaitTime"))
    return TimeLimits(run, wait, "scheduling.maxRunningTime", "scheduling.maxWaitTime")


def has_several_machines(spec: JsonObject) -> bool:
    """Return whether a job has machines beside the master."""
    given = spec.get("trainingInput")
    if not isinstance(given, Mapping):
        return False
    counts = (str(given.get(key) or 0) for key in _COUNTS)
    return given.get("scaleTier") in _TIERS_OF_SEVERAL or any(count.strip("0") for count in counts)


def updated_details(raw: JsonObject, status: JobStatus, job: JsonObject, spec: JsonObject | None = None) -> JsonObject:
    """Return what is stored of a job, with what the service reports of it.

    Args:
        raw: what was stored.
        status: of the job.
        job: as the service reports it.
        spec: the job spec; None where it is not known.
    """
    kept = {key: value for key, value in raw.items() if key not in ("reason", "cause")}
    details = {**kept, **stored_times(job, status)}
    message, cause = text(job, "errorMessage"), None
    if status is JobStatus.FAILED and job.get("state") == "CANCELLED":  # by the service
        message, cause = time_limits(spec or {}).exceeded(job), FailureCause.TIMEOUT
    elif status is JobStatus.FAILED and message:
        cause = failure_cause(message)
    if message and status in (JobStatus.FAILED, JobStatus.STOPPED):
        details["errorMessage"] = message
    return {**details, "cause": cause.value} if cause else details


def _links(project: str, job_id: str) -> tuple[str, ...]:
    page = f"https://console.cloud.google.com/mlengine/jobs/{quote(job_id, safe='')}?project={quote(project, safe='')}"
    return page, f"gcloud ai-platform jobs stream-logs {shlex.quote(job_id)} --project {shlex.quote(project)}"
