"""Retry requests: how often and how long a service is asked that does not answer, or asks to be asked later."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from caliban.clock import Clock, SystemClock
from caliban.errors import CalibanError, PlatformError

_T = TypeVar("_T")


class ServiceError(PlatformError):
    """A request to a service failed.

    Attributes:
        is_transient: whether the same request may succeed a little later.
        is_over_quota: whether it may as soon as the service's quota period has passed.
        outcome_unknown: whether the service may have done what was requested although it does not say so.
        retry_after: how long the service asks to wait, in seconds, or None.
        retry_deadline: for how many seconds the request is retried, where that is less than usual, or None.
    """

    is_transient = True
    is_over_quota = False
    outcome_unknown = True
    retry_after: float | None = None
    retry_deadline: float | None = None


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a service, in seconds.

    Attributes:
        connect_timeout: for a connection.
        read_timeout: for an answer, or between two pieces of it.
        request_deadline: for one request, from connecting to the last byte of its answer.
        initial_delay: the longest delay before the second attempt; doubled for each further one.
        max_delay: the longest delay that is not requested by the service.
        deadline: for all attempts: none starts later.
        quota_deadline: the same after 429: some services count requests by the minute, and many jobs submitted at once
            have to wait their turn.
        consistency_delay: how long after a request a new job may still be missing from a list of jobs.
    """

    connect_timeout: float = 10
    read_timeout: float = 60
    request_deadline: float = 70
    initial_delay: float = 0.5
    max_delay: float = 16
    deadline: float = 60
    quota_deadline: float = 180
    consistency_delay: float = 30


DEFAULT = RetryPolicy()
"""The policy of every request that is given no other."""

_REPORT_AFTER = 2
"""Seconds after which the user is told that requests are repeated."""

OnRetry = Callable[[ServiceError, float], None]
"""Called with the error and the seconds for which the request is retried at most."""


def report_retry(announce: Callable[[str], None]) -> OnRetry:
    """Return a function that reports retries, once for each error message."""

    def report(error: ServiceError, seconds: float) -> None:
        cause = (error.cause or "").strip().partition("\n")[0]
        because = f" ({cause})" if cause else ""
        announce(f"{error.message}{because}; retrying for up to {seconds:.0f} s ...")

    return report


class Backoff:
    """The delays between the attempts of one request: exponential, with full jitter.

    Source: https://cloud.google.com/storage/docs/retry-strategy#exponential-backoff
    """

    def __init__(
        self,
        policy: RetryPolicy,
        clock: Clock | None = None,
        stopping: Event | None = None,
        on_quota: Callable[[], None] = lambda: None,
        on_retry: OnRetry = lambda error, seconds: None,
    ) -> None:
        """Start to count.

        Args:
            policy: how long.
            clock: the time, and waiting; None for that of this machine.
            stopping: ends a delay, and the attempts, when it is set.
            on_quota: called before a delay that a quota makes necessary.
            on_retry: called once, when the request takes longer than two seconds.
        """
        self._policy = policy
        self._clock = clock or SystemClock()
        self._stopping = stopping or Event()
        self._on_quota = on_quota
        self._on_retry: OnRetry | None = on_retry
        self._started = self._clock.monotonic()
        self._count = 0

    def wait(self, error: CalibanError) -> None:
        """Wait before the next attempt.

        Raises:
            CalibanError: ``error``, when there is no next attempt: it is not transient, or the deadline would pass (the
                cause then says how many attempts were made).
        """
        if not isinstance(error, ServiceError) or not error.is_transient:
            raise error
        limit = min(self._policy.max_delay, self._policy.initial_delay * 2**self._count)
        # A service that asks to be asked again at once is not asked more often than others.
        delay = max(random.uniform(0, limit), error.retry_after or 0)
        self._count += 1
        spent = self._clock.monotonic() - self._started
        if spent + delay > self._deadline(error):
            times = "once" if self._count == 1 else f"{self._count} times in {spent:.0f} s"
            wish = "" if error.retry_after is None else f"; the service asks to wait {error.retry_after:.0f} s"
            error.cause = f"{error.cause}\n(tried {times}{wish})"
            raise error
        if error.is_over_quota:
            self._on_quota()
        elif self._on_retry is not None and spent + delay > _REPORT_AFTER:
            self._on_retry(error, self._deadline(error))
            self._on_retry = None
        if self._clock.wait(self._stopping, delay):
            raise error

    def _deadline(self, error: ServiceError) -> float:
        usual = self._policy.quota_deadline if error.is_over_quota else self._policy.deadline
        return usual if error.retry_deadline is None else min(usual, error.retry_deadline)


def with_retries(
    call: Callable[[], _T],
    policy: RetryPolicy,
    on_retry: OnRetry = lambda error, seconds: None,
    clock: Clock | None = None,
) -> _T:
    """Return ``call()``, repeated while its errors are transient: for requests that do no harm when made twice.

    Retries after 429, 500, 502, 503, 504, a broken connection and a timeout; never after another answer.
    """
    backoff = Backoff(policy, clock, on_retry=on_retry)
    while True:
        try:
            return call()
        except ServiceError as error:
            backoff.wait(error)
