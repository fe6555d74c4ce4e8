"""Record the states of jobs, and who ended them.

Several commands may see the end of a job: the one that follows it, ``stop`` in another terminal, ``status``. What is
recorded is decided in the transaction that records it, from what is there: a final state stays, and a job that ends
after a request to stop it is STOPPED, whatever its exit code. Who stops a job records the request first
(:func:`request_stop`), and then the platform's answer (:func:`settle_stop`), which counts most: only the platform knows
whether the job had ended before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from caliban.records import FailureCause, JobStatus, JobUpdate, JsonObject
from caliban.store.chunks import chunks
from caliban.store.models import JobRow
from caliban.store.views import canonical, json_object

STOP_KEY = "stop_requested"
"""The key of ``jobs.details`` that names who asked to stop the job, on every platform."""

_CAUSE_KEY = "cause"  # on every platform; see caliban.platforms.stored_json.failure_cause

_LONGEST_GRACE = 30 * 86400.0

_BEFORE, _AFTER = timedelta(seconds=2), timedelta(seconds=60)
"""How long before (clocks differ) and after a request a job ended that was stopped by it. Needed only where the process
that made the request was killed before the platform answered."""


@dataclass(frozen=True)
class StopRequest:
    """Who wants a job to stop.

    Attributes:
        id: random and unique.
        user, host: who asked, and where.
        at: when, in UTC.
        grace: seconds that the job may go on after the request.
    """

    id: str
    user: str
    host: str
    at: datetime
    grace: float = 0

    def to_json(self) -> JsonObject:
        """Return what is stored under :data:`STOP_KEY`."""
        at = self.at.isoformat(timespec="seconds")
        grace = {"grace": self.grace} if self.grace else {}
        return {"id": self.id, "user": self.user, "host": self.host, "at": at, **grace}

    @classmethod
    def from_json(cls, stored: object) -> StopRequest | None:
        """Read what is stored; None for anything else."""
        found = json_object(stored)
        nonce, user, host, at = (found.get(key) for key in ("id", "user", "host", "at"))
        if not (isinstance(nonce, str) and isinstance(user, str) and isinstance(host, str) and isinstance(at, str)):
            return None
        try:
            moment = datetime.fromisoformat(at)
        except ValueError:
            return None
        return cls(nonce, user, host, moment, _grace(found.get("grace"))) if moment.tzinfo else None


@dataclass(frozen=True)
class RecordedState:
    """What the store has of a job.

    Attributes:
        status: its state.
        details: ``jobs.details``.
    """

    status: JobStatus
    details: JsonObject

    @property
    def stop_request(self) -> StopRequest | None:
        """Who asked to stop it; None where nobody did."""
        return StopRequest.from_json(self.details.get(STOP_KEY))


@dataclass(frozen=True)
class Recorded:
    """The result of :func:`record_states`.

    Attributes:
        changed: how many rows were changed.
        states: what the store has now of each job that it has, by ``jobs.id``.
    """

    changed: int
    states: Mapping[int, RecordedState]


def record_states(session: Session, updates: Mapping[int, JobUpdate]) -> Recorded:
    """Record the states of jobs that changed. One statement to compare (per 10,000 jobs), at most two to write.

    A final state is never replaced by another one. A job that ended after it was asked to stop is STOPPED.

    Args:
        session: of a writing transaction.
        updates: by ``jobs.id``; details None leaves those that are recorded.
    """
    before = _recorded_states(session, sorted(updates))
    after = {job_id: _next(state, updates[job_id]) for job_id, state in before.items()}
    return Recorded(_write(session, before, after), after)


def request_stop(session: Session, job_id: int, request: StopRequest) -> RecordedState | None:
    """Record that a job is asked to stop, unless it has ended.

    Returns:
        What the store has of the job now; None where it does not have the job.
    """
    before = _recorded_states(session, [job_id])
    after = {
        key: state if state.status.is_final else RecordedState(state.status, _with_request(state.details, request))
        for key, state in before.items()
    }
    _write(session, before, after)
    return after.get(job_id)


def settle_stop(session: Session, job_id: int, answer: JobUpdate, request: StopRequest) -> RecordedState | None:
    """Record what the platform answered to a request to stop a job.

    It replaces even a final state that another command recorded after the request, unless it is not final itself: what
    that command recorded may have been removed since. Otherwise such an answer ends the request: the platform stops the
    job, and reports how it ended.

    Returns:
        What the store has of the job now; None where it does not have the job.
    """
    before = _recorded_states(session, [job_id])
    after = {key: _settled(state, answer, request) for key, state in before.items()}
    _write(session, before, after)
    return after.get(job_id)


def _settled(state: RecordedState, answer: JobUpdate, request: StopRequest) -> RecordedState:
    is_ours = state.stop_request is not None and state.stop_request.id == request.id
    if not is_ours or (state.status.is_final and not answer.status.is_final):
        return _next(state, answer)
    details = state.details if answer.details is None else answer.details.raw
    if answer.status is JobStatus.STOPPED:
        return RecordedState(answer.status, _with_request(details, request))
    return RecordedState(answer.status, {key: value for key, value in details.items() if key != STOP_KEY})


def _next(state: RecordedState, update: JobUpdate) -> RecordedState:
    """Return what to record of a job that has ``state`` when a platform reports ``update``."""
    if state.status.is_final and update.status is not state.status:
        return state
    details = state.details if update.details is None else update.details.raw
    request = state.stop_request
    if request is None:
        return RecordedState(update.status, details)
    kept = _with_request(details, request)
    if update.status in (JobStatus.SUCCEEDED, JobStatus.FAILED) and _was_stopped_by(request, update):
        return RecordedState(JobStatus.STOPPED, {**kept, _CAUSE_KEY: FailureCause.STOPPED.value})
    return RecordedState(update.status, kept)


def _was_stopped_by(request: StopRequest, update: JobUpdate) -> bool:
    ended = update.details.ended if update.details else None
    return ended is None or request.at - _BEFORE <= ended <= request.at + timedelta(seconds=request.grace) + _AFTER


def _grace(stored: object) -> float:
    is_number = isinstance(stored, int | float) and not isinstance(stored, bool)
    return min(float(stored), _LONGEST_GRACE) if is_number and stored > 0 else 0  # type: ignore[arg-type,operator]


def _with_request(details: JsonObject, request: StopRequest) -> JsonObject:
    return {**details, STOP_KEY: request.to_json()}


def _recorded_states(session: Session, ids: Sequence[int]) -> dict[int, RecordedState]:
    found: dict[int, RecordedState] = {}
    for chunk in chunks(ids):
        statement = (
            select(JobRow.id, JobRow.status, JobRow.details)
            .where(JobRow.id.in_(chunk))
            .order_by(JobRow.id)
            .with_for_update()
        )
        for job_id, status, details in session.execute(statement):
            found[job_id] = RecordedState(status or JobStatus.UNKNOWN, json_object(details))
    return found


def _write(session: Session, before: Mapping[int, RecordedState], after: Mapping[int, RecordedState]) -> int:
    """Write what differs, and return how many rows that is."""
    with_details: list[dict[str, object]] = []
    state_only: list[dict[str, object]] = []
    for job_id, new in after.items():
        old = before[job_id]
        if canonical(new.details) != canonical(old.details):
            with_details.append({"id": job_id, "status": new.status, "details": dict(new.details)})
        elif new.status != old.status:
            state_only.append({"id": job_id, "status": new.status})
    for rows in (with_details, state_only):
        if rows:
            session.execute(update(JobRow), rows)
    return len(with_details) + len(state_only)
