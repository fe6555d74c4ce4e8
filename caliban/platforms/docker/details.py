"""The stored details of a local job (``jobs.details``): reading every shape ever written, and writing the present one.

caliban 0.4.2 stores ``{"ret_code": 1}``. This version adds ``name``, ``host``, ``container_id``, ``reason``, ``error``
(a refusal by Docker, possibly of several lines), ``cause``, ``started`` and ``ended`` (ISO 8601, UTC).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caliban.platforms import stored_json
from caliban.platforms.stored_json import integer, one_line, text, timestamp, utc_text
from caliban.records import Destination, FailureCause, JobDetails, JobExit, JobStatus, JobUpdate, JsonObject, Submission

RUNNING_STATES = frozenset({"running", "paused", "restarting"})
"""Values of ``State.Status`` of a container that has not ended (Docker Engine API, ContainerInspect)."""

_OUT_OF_MEMORY = "out of memory"
_NEVER = "0001-01-01T00:00:00Z"
"""What Docker writes where a container has not started or ended."""


@dataclass(frozen=True)
class DockerDestination(Destination):
    """The Docker Engine of this machine: the only destination."""

    def to_json(self) -> JsonObject:
        """See :meth:`caliban.records.Destination.to_json`."""
        return {}

    @classmethod
    def from_json(cls, raw: JsonObject) -> DockerDestination:
        """Read what :meth:`to_json` wrote."""
        return cls()


def parse_details(status: JobStatus, raw: JsonObject) -> JobDetails:
    """Read the stored details. What is missing or malformed is None."""
    return JobDetails(
        raw,
        id=text(raw, "container_id"),
        display_name=text(raw, "name"),
        destination=DockerDestination(),
        exit=_parse_exit(status, raw),
        started=timestamp(raw, "started"),
        ended=timestamp(raw, "ended"),
    )


def submitted_details(submission: Submission, container_id: str) -> JobDetails:
    """Return the details of a container that was just started."""
    return parse_details(JobStatus.RUNNING, {**_names(submission), "container_id": container_id})


def refused_details(submission: Submission, error: str, exit_code: int | None = None) -> JsonObject:
    """Return what to store of a container that did not start.

    Args:
        submission: the submission.
        error: why, in Docker's words.
        exit_code: of ``docker run``.
    """
    code = {} if exit_code is None else {"ret_code": exit_code}
    return {**_names(submission), **code, "error": error, "cause": FailureCause.REFUSED.value}


def container_update(raw: JsonObject, state: Mapping[str, Any]) -> JobUpdate:
    """Return the state of a job.

    Args:
        raw: the stored details.
        state: ``State`` of the inspected container (docs.docker.com/reference/api/engine, ContainerInspect).
    """
    if state["Status"] in RUNNING_STATES:
        return _update(JobStatus.RUNNING, {**raw, **_times(state)})
    code = int(state["ExitCode"])
    new: dict[str, object] = {"ret_code": code, **_times(state)}
    succeeded = code == 0 and state["Status"] == "exited"
    if state.get("OOMKilled"):
        new["reason"] = _OUT_OF_MEMORY
    elif state.get("Error"):
        new["reason"] = str(state["Error"])
    if not succeeded:
        new["cause"] = _failure_cause(state, code).value
    return _update(JobStatus.SUCCEEDED if succeeded else JobStatus.FAILED, {**raw, **new})


def stopped_update(raw: JsonObject, state: Mapping[str, Any] | None) -> JobUpdate:
    """Return the state of a job that was stopped; ``state`` is None for a container that was removed since."""
    times = _times(state) if state else {}
    return _update(JobStatus.STOPPED, {**raw, **times, "cause": FailureCause.STOPPED.value})


def removed_update(raw: JsonObject) -> JobUpdate:
    """Return the state of a job whose container is gone: nobody knows how it ended."""
    reason = "its container was removed before its end was recorded"
    return _update(JobStatus.UNKNOWN, {**raw, "reason": reason, "cause": FailureCause.UNKNOWN.value})


def was_refused(details: JobDetails) -> bool:
    """Return whether the job's container was created, but never started."""
    return details.exit is not None and details.exit.cause is FailureCause.REFUSED


def _update(status: JobStatus, raw: JsonObject) -> JobUpdate:
    return JobUpdate(status, parse_details(status, raw))


def _names(submission: Submission) -> dict[str, object]:
    return {"name": submission.name, "host": socket.gethostname()}


def _failure_cause(state: Mapping[str, Any], code: int) -> FailureCause:
    if state.get("OOMKilled"):
        return FailureCause.OUT_OF_MEMORY
    if state["Status"] == "created":  # and never started
        return FailureCause.REFUSED
    return FailureCause.CODE_ERROR if code else FailureCause.UNKNOWN


def _times(state: Mapping[str, Any]) -> dict[str, str]:
    found = {"started": state.get("StartedAt"), "ended": state.get("FinishedAt")}
    if state["Status"] in RUNNING_STATES:
        del found["ended"]  # of a restarted container: when it ended before
    times = {key: utc_text(value) for key, value in found.items() if value != _NEVER}
    return {key: time for key, time in times.items() if time}


def _parse_exit(status: JobStatus, raw: JsonObject) -> JobExit | None:
    refusal = text(raw, "error")
    message = one_line(refusal or text(raw, "reason"))
    cause = _parse_cause(status, raw)
    code = integer(raw, "ret_code") if refusal is None else None  # `docker run` has an exit code of its own
    is_over = status.is_final or message is not None
    return JobExit(code, cause, message) if is_over and (code, cause, message) != (None, None, None) else None


def _parse_cause(status: JobStatus, raw: JsonObject) -> FailureCause | None:
    """Return the recorded cause; for older rows, the one that the other keys imply."""
    if status is JobStatus.SUCCEEDED:
        return None
    if stored := stored_json.failure_cause(raw):
        return stored
    if status is JobStatus.STOPPED:
        return FailureCause.STOPPED
    if "error" in raw:
        return FailureCause.REFUSED
    if raw.get("reason") == _OUT_OF_MEMORY:
        return FailureCause.OUT_OF_MEMORY
    if status is JobStatus.FAILED and raw.get("ret_code"):
        return FailureCause.CODE_ERROR
    return FailureCause.UNKNOWN
