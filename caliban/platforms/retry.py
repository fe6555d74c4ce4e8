"""How long, and how often, a service is asked that does not answer, or asks to be asked later."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from threading import Event
from typing import TypeVar

from caliban.errors import CalibanError, PlatformError

_T = TypeVar("_T")


class ServiceError(PlatformError):
    """A call to a service that did not succeed.

    Attributes:
        is_transient: whether the same call may succeed a little later.
        is_over_quota: whether it may as soon as the service counts anew.
        outcome_unknown: whether the service may have done what it was asked, though it does not say so.
        retry_after: how long the service asks to wait, in seconds, or None.
    """

    is_transient = True
    is_over_quota = False
    outcome_unknown = True
    retry_after: float | None = None


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a service, in seconds.

    Attributes:
        connect_timeout: for a connection.
        read_timeout: for an answer, or between two pieces of it.
        initial_delay: the longest pause before the second attempt; doubled for each further one.
        max_delay: the longest pause of our own choice.
        deadline: for a call in all: an attempt that would begin later is not made.
        quota_deadline: the same, for a call that is answered 429: some count requests by the minute, and many jobs
        at once
            have to wait their turn.
        consistency_delay: how long after a request a new job may still be missing from a list of jobs.
    """

    connect_timeout: float = 10
    read_timeout: float = 60
    initial_delay: float = 0.5
    max_delay: float = 16
    deadline: float = 60
    quota_deadline: float = 180
    consistency_delay: float = 30


DEFAULT = RetryPolicy()
"""What every call uses that is not given another policy."""
_SLOW_S = 2

OnRetry = Callable[[ServiceError, float], None]
"""Is told what went wrong, and for how many seconds in all it is tried again."""


def report_retry(announce: Callable[[str], None]) -> OnRetry:
    """What tells a person, once for each kind of trouble, what is being waited for."""

    def tell(error: ServiceError, seconds: float) -> None:
        cause = (error.cause or "").strip().partition("\n")[0]
        because = f" ({cause})" if cause else ""
        announce(f"{error.message}{because}; trying again for up to {seconds:.0f} s ...")

    return tell


class Backoff:
    """The backoff between the attempts of one call: exponential, with full jitter, as Google asks where it does.

    Source: https://cloud.google.com/storage/docs/retry-strategy#exponential-backoff
    """

    def __init__(
        self,
        retry_policy: RetryPolicy,
        stopping: Event | None = None,
        on_quota: Callable[[], None] = lambda: None,
        on_retry: OnRetry = lambda error, seconds: None,
    ) -> None:
        """Begin to count.

        Args:
            retry_policy: how long.
            stopping: ends a pause, and the attempts, when it is set.
            on_quota: called before a pause that a quota makes necessary.
            on_retry: called once, when it has become clear that this takes longer than people wait without a word.
        """
        self._retry_policy = retry_policy
        self._stopping = stopping or Event()
        self._on_quota = on_quota
        self._on_retry: OnRetry | None = on_retry
        self._begun = time.monotonic()
        self._count = 0

    def wait(self, error: CalibanError) -> None:
        """Wait before the next attempt.

        Raises:
            CalibanError: ``error``, when there is to be no next attempt: it will not pass, or time is up (the cause
                then says how often was tried).
        """
        if not isinstance(error, ServiceError) or not error.is_transient:
            raise error
        limit = min(self._retry_policy.max_delay, self._retry_policy.initial_delay * 2**self._count)
        pause = random.uniform(0, limit) if error.retry_after is None else error.retry_after
        self._count += 1
        spent = time.monotonic() - self._begun
        if spent + pause > (self._retry_policy.quota_deadline if error.is_over_quota else self._retry_policy.deadline):
            times = "once" if self._count == 1 else f"{self._count} times in {spent:.0f} s"
            wish = "" if error.retry_after is None else f"; the service asks to wait {error.retry_after:.0f} s"
            error.cause = f"{error.cause}\n(tried {times}{wish})"
            raise error
        if error.is_over_quota:
            self._on_quota()
        elif self._on_retry is not None and spent + pause > _SLOW_S:
            self._on_retry(error, self._retry_policy.deadline)
            self._on_retry = None
        if self._stopping.wait(pause):
            raise error


def with_retries(
    call: Callable[[], _T], retry_policy: RetryPolicy, on_retry: OnRetry = lambda error, seconds: None
) -> _T:
    """``call()``, again and again while that may help: for calls that do no harm when made twice.

    Tries again after 429, 500, 502, 503, 504, a broken connection and a time-out; never after another answer.
    """
    backoff = Backoff(retry_policy, on_retry=on_retry)
    while True:
        try:
            return call()
        except ServiceError as error:
            backoff.wait(error)


def parse_retry_after(retry_after: str | None) -> float | None:
    """``Retry-After``, which is a number of seconds or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=timezone.utc)
    return max(0.0, (until - datetime.now(timezone.utc)).total_seconds())
