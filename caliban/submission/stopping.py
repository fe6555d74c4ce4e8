"""Stop a job: record who asks, ask the platform, record how the job ended."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timezone

from caliban.clock import Clock
from caliban.errors import CalibanError, StoreError
from caliban.platforms.base import KillsJobs, Platform
from caliban.platforms.registry import Platforms, parse_details
from caliban.records import JobRecord, JobUpdate
from caliban.store.database import Store
from caliban.store.job_logs import record_outputs
from caliban.store.states import RecordedState, StopRequest, request_stop, settle_stop
from caliban.submission.boundary import expected, platform_errors
from caliban.submission.capture import capture, with_error
from caliban.submission.removal import remove_ended


@dataclass(frozen=True)
class Stopper:
    """Stops jobs.

    Attributes:
        store: where the jobs are recorded.
        platforms: where they run.
        user: who asks.
    """

    store: Store
    platforms: Platforms
    user: str

    def stop(self, job: JobRecord) -> JobRecord:
        """Stop a job that has not ended, and return it as it is recorded then.

        A store that cannot be written does not prevent the stop: it is reported afterwards.

        Raises:
            CalibanError: the job could not be stopped, or its end not be recorded.
        """
        return self._ended(job, lambda platform: platform.stop(job))

    def kill(self, job: JobRecord) -> JobRecord:
        """Kill a job of a platform that can, and return it as it is recorded then; see :meth:`stop`."""

        def kill(platform: Platform) -> JobUpdate:
            assert isinstance(platform, KillsJobs)
            return platform.kill(job)

        return self._ended(job, kill)

    def _ended(self, job: JobRecord, end: Callable[[Platform], JobUpdate]) -> JobRecord:
        ended = self._recorded_end(job, end)
        remove_ended([ended], self.store, self.platforms)
        return ended

    def _recorded_end(self, job: JobRecord, end: Callable[[Platform], JobUpdate]) -> JobRecord:
        request = new_request(self.user, self.platforms.context.clock, self._grace(job))
        with suppress(StoreError), self.store.writing() as session:
            state = request_stop(session, job.id, request)
            if state is not None and state.status.is_final:
                return job.updated(as_update(job, state))
        with platform_errors(job.platform, "stop a job"):
            answer = expected(end(self.platforms.get(job.platform)), JobUpdate)
        outputs = capture([job.updated(answer)], self.platforms)
        with self.store.writing() as session:
            recorded = settle_stop(session, job.id, answer, request)
            record_outputs(session, outputs.values(), self.platforms.context.clock)
        return with_error(job.updated(as_update(job, recorded) if recorded else answer), outputs)

    def _grace(self, job: JobRecord) -> float:
        try:
            with platform_errors(job.platform, "stop a job"):
                return float(expected(self.platforms.get(job.platform).grace_seconds(job), int, float))
        except CalibanError:  # raised again when the job is stopped
            return 0


def new_request(user: str, clock: Clock, grace: float = 0) -> StopRequest:
    """Return a request of this user to stop something, made now, which may take ``grace`` seconds."""
    at = clock.now().astimezone(timezone.utc)
    return StopRequest(secrets.token_hex(8), user, socket.gethostname(), at, grace)


def as_update(job: JobRecord, state: RecordedState) -> JobUpdate:
    """Return what the store has of a job as its platform would report it."""
    return JobUpdate(state.status, parse_details(job.platform, state.status, state.details))
