"""The stored details of a local job (``jobs.details``): reading every shape ever written, and writing the present one.

caliban 0.4.2 stores ``{"ret_code": 1}``. This version adds ``name``, ``host``, ``engine`` and ``engine_name`` (see
:mod:`caliban.images.docker.identity`; missing in rows of its first builds), ``machine`` (of an engine at a Unix socket:
derived from the id of the operating system), ``container_id``, ``reason``, ``error`` (a
refusal by Docker, possibly of several lines), ``cause``, ``started`` and ``ended`` (ISO 8601, UTC), and
``remove_when_ended`` (of ``--rm``, until its container is removed).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from caliban.attempts import Submission
from caliban.images.docker.identity import EngineIdentity
from caliban.platforms import stored_json
from caliban.platforms.stored_json import REMOVE_KEY, integer, one_line, parse_time, text, timestamp, utc_text
from caliban.records import Destination, FailureCause, JobDetails, JobExit, JobStatus, JobUpdate, JsonObject

RUNNING_STATES = frozenset({"running", "paused", "restarting", "stopping"})
"""Values of ``State.Status`` of a container that has not ended (Docker Engine API, ContainerInspect; the last one is
Podman's)."""

_WAITING_STATES = frozenset({"created", "configured", "initialized"})
"""The same of one that was not started; the last two are Podman's."""

_EXITED_STATES = frozenset({"exited", "stopped"})
_ENDED_STATES = _EXITED_STATES | {"dead", "removing"}
MACHINE_KEY = "machine"
_OUT_OF_MEMORY = "out of memory"
_NEVER = "0001-01-01T00:00:00Z"
"""What Docker writes where a container has not started or ended."""


@dataclass(frozen=True)
class DockerDestination(Destination):
    """A Docker Engine. Jobs go to the one that ``DOCKER_HOST`` or the docker context names.

    Attributes:
        engine: its id; None in rows of earlier versions, and for an engine without an id.
        engine_name: the name of its machine, or None.
    """

    engine: str | None = None
    engine_name: str | None = None

    def to_json(self) -> JsonObject:
        """See :meth:`caliban.records.Destination.to_json`."""
        values = {"engine": self.engine, "engine_name": self.engine_name}
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, raw: JsonObject) -> DockerDestination:
        """Read what :meth:`to_json` wrote, or the details of a job."""
        return cls(text(raw, "engine"), text(raw, "engine_name"))

    @classmethod
    def of(cls, identity: EngineIdentity) -> DockerDestination:
        """Return the destination of jobs that go to an engine."""
        return cls(identity.id, identity.name)


class OddStateError(ValueError):
    """The state of a container is none that a Docker Engine reports."""


@dataclass(frozen=True)
class ContainerState:
    """The state of a container.

    Attributes:
        status: in Docker's words: ``running``, ``exited``.
        exit_code: of the program; None while it runs, and where the engine does not report it.
        out_of_memory: whether the kernel ended it for lack of memory.
        error: why it could not be started, in Docker's words, or None.
        started: when it was started last (RFC 3339), or None.
        ended: when it ended last, or None.
    """

    status: str
    exit_code: int | None = None
    out_of_memory: bool = False
    error: str | None = None
    started: str | None = None
    ended: str | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has not ended; a container that Docker restarts has not."""
        return self.status in RUNNING_STATES

    @property
    def was_started(self) -> bool:
        """Whether the program was ever started. A container that is being removed may never have been."""
        return self.is_running or self.status in _EXITED_STATES or self.started is not None

    def ran_for(self, seconds: int) -> bool:
        """Return whether it ran so long; False while it runs, and where the engine does not report when it did."""
        started, ended = parse_time(self.started), parse_time(self.ended)
        return started is not None and ended is not None and (ended - started).total_seconds() >= seconds

    @classmethod
    def from_json(cls, raw: object) -> ContainerState:
        """Read ``State`` of an inspected container (docs.docker.com/reference/api/engine, ContainerInspect).

        Raises:
            OddStateError: it has no known ``Status``.
        """
        if not isinstance(raw, Mapping):
            raise OddStateError("the container has no State")
        status, code = raw.get("Status"), raw.get("ExitCode")
        if not isinstance(status, str) or status not in RUNNING_STATES | _WAITING_STATES | _ENDED_STATES:
            raise OddStateError(f"the container has the state {status!r}"[:100])
        return cls(
            status,
            code if isinstance(code, int) and not isinstance(code, bool) else None,
            raw.get("OOMKilled") is True,
            text(raw, "Error"),
            _time(raw.get("StartedAt")),
            _time(raw.get("FinishedAt")),
        )


def parse_details(status: JobStatus, raw: JsonObject) -> JobDetails:
    """Read the stored details. What is missing or malformed is None."""
    return JobDetails(
        raw,
        id=text(raw, "container_id"),
        display_name=text(raw, "name"),
        destination=DockerDestination.from_json(raw),
        exit=_parse_exit(status, raw),
        started=timestamp(raw, "started"),
        ended=timestamp(raw, "ended"),
        remove_when_ended=raw.get(REMOVE_KEY) is True,
    )


def submitted_details(
    submission: Submission,
    container_id: str,
    engine: EngineIdentity,
    *,
    machine: str | None = None,
    remove: bool = False,
) -> JobDetails:
    """Return the details of a container that was just started.

    Args:
        submission: for which.
        container_id: its id.
        engine: the engine.
        machine: the id of the engine's machine, where it is this one.
        remove: whether the container is removed when it has ended.
    """
    raw: dict[str, object] = {**_names(submission), **DockerDestination.of(engine).to_json()}
    raw |= {} if machine is None else {MACHINE_KEY: machine}
    raw |= {"container_id": container_id, **({REMOVE_KEY: True} if remove else {})}
    return parse_details(JobStatus.RUNNING, raw)


def refused_details(submission: Submission, error: str, exit_code: int | None = None) -> JsonObject:
    """Return what to store of a container that did not start.

    Args:
        submission: the submission.
        error: why, in Docker's words.
        exit_code: of ``docker run``.
    """
    code = {} if exit_code is None else {"ret_code": exit_code}
    return {**_names(submission), **code, "error": error, "cause": FailureCause.REFUSED.value}


def container_update(raw: JsonObject, state: ContainerState, limit: int | None = None) -> JobUpdate:
    """Return the state of a job.

    Args:
        raw: the stored details.
        state: of its container.
        limit: how many seconds it may run. A job that ran longer and failed was stopped for that, by a command that
            was killed before it could record it.

    Raises:
        OddStateError: the container has ended, and the engine does not say how.
    """
    if state.is_running:
        return _update(JobStatus.RUNNING, {**raw, **_times(state)})
    if state.exit_code is None:
        raise OddStateError("the container has ended, and has no exit code")
    new: dict[str, object] = {"ret_code": state.exit_code, **_times(state)}
    succeeded = state.exit_code == 0 and state.status in _EXITED_STATES
    if state.out_of_memory:
        new["reason"] = _OUT_OF_MEMORY
    elif state.error:
        new["reason"] = state.error
    if not succeeded and limit is not None and state.ran_for(limit):
        return timed_out_update(raw, state, limit)
    if not succeeded:
        new["cause"] = _failure_cause(state, state.exit_code).value
    return _update(JobStatus.SUCCEEDED if succeeded else JobStatus.FAILED, {**raw, **new})


def stopped_update(raw: JsonObject, state: ContainerState | None) -> JobUpdate:
    """Return the state of a job that was stopped; ``state`` is None for a container that was removed since."""
    times = _times(state) if state else {}
    return _update(JobStatus.STOPPED, {**raw, **times, "cause": FailureCause.STOPPED.value})


def timed_out_update(raw: JsonObject, state: ContainerState | None, limit: int) -> JobUpdate:
    """Return the state of a job that was stopped after ``limit`` seconds, whatever its exit code.

    ``state`` is None for a container that was removed since.
    """
    code = {} if state is None or state.exit_code is None else {"ret_code": state.exit_code}
    new = {**code, **(_times(state) if state else {}), "reason": limit_reason(limit)}
    return _update(JobStatus.FAILED, {**raw, **new, "cause": FailureCause.TIMEOUT.value})


def limit_reason(limit: int) -> str:
    """Return why a job was stopped that ran for ``limit`` seconds."""
    return f"ran longer than its --timeout of {limit} s"


def removed_update(raw: JsonObject) -> JobUpdate:
    """Return the state of a job whose container is gone: nobody knows how it ended."""
    reason = "its container was removed before its end was recorded"
    return _update(JobStatus.UNKNOWN, {**raw, "reason": reason, "cause": FailureCause.UNKNOWN.value})


def _update(status: JobStatus, raw: JsonObject) -> JobUpdate:
    return JobUpdate(status, parse_details(status, raw))


def _names(submission: Submission) -> dict[str, object]:
    engine = DockerDestination.from_json(submission.destination).to_json()
    return {"name": submission.name, "host": socket.gethostname(), **engine}


def _failure_cause(state: ContainerState, code: int) -> FailureCause:
    if state.out_of_memory:
        return FailureCause.OUT_OF_MEMORY
    if not state.was_started:
        return FailureCause.REFUSED
    return FailureCause.CODE_ERROR if code else FailureCause.UNKNOWN


def _time(value: object) -> str | None:
    return value if isinstance(value, str) and value and not value.startswith(_NEVER[:10]) else None


def _times(state: ContainerState) -> dict[str, str]:
    found = {"started": state.started}
    if not state.is_running:  # of a restarted container: when it ended before
        found["ended"] = state.ended
    times = {key: utc_text(value) for key, value in found.items()}
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
