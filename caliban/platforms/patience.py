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
        is_passing: whether the same call may succeed a little later.
        is_over_quota: whether it may as soon as the service counts anew.
        leaves_doubt: whether the service may have done what it was asked, though it does not say so.
        retry_after_s: how long the service asks to wait, in seconds, or None.
    """

    is_passing = True
    is_over_quota = False
    leaves_doubt = True
    retry_after_s: float | None = None


@dataclass(frozen=True)
class Patience:
    """How long to wait for a service, in seconds.

    Attributes:
        connect_s: for a connection.
        read_s: for an answer, or between two pieces of it.
        first_s: the longest pause before the second attempt; doubled for each further one.
        longest_s: the longest pause of our own choice.
        total_s: for a call in all: an attempt that would begin later is not made.
        quota_s: the same, for a call that is answered 429: some count requests by the minute, and many jobs at once
            have to wait their turn.
        settle_s: how long after a request a new job may still be missing from a list of jobs.
    """

    connect_s: float = 10
    read_s: float = 60
    first_s: float = 0.5
    longest_s: float = 16
    total_s: float = 60
    quota_s: float = 180
    settle_s: float = 30


def usual() -> Patience:
    """The patience that people have."""
    return _USUAL


_USUAL = Patience()
_SLOW_S = 2

WhenSlow = Callable[[ServiceError, float], None]
"""Is told what went wrong, and for how many seconds in all it is tried again."""


def tell_of_waiting(announce: Callable[[str], None]) -> WhenSlow:
    """What tells a person, once for each kind of trouble, what is being waited for."""

    def tell(error: ServiceError, seconds: float) -> None:
        cause = (error.cause or "").strip().partition("\n")[0]
        because = f" ({cause})" if cause else ""
        announce(f"{error.message}{because}; trying again for up to {seconds:.0f} s ...")

    return tell


class Pauses:
    """The pauses between the attempts of one call: exponential, with full jitter, as Google asks where it does.

    Source: https://cloud.google.com/storage/docs/retry-strategy#exponential-backoff
    """

    def __init__(
        self,
        patience: Patience,
        stopping: Event | None = None,
        when_over_quota: Callable[[], None] = lambda: None,
        when_slow: WhenSlow = lambda error, seconds: None,
    ) -> None:
        """Begin to count.

        Args:
            patience: how long.
            stopping: ends a pause, and the attempts, when it is set.
            when_over_quota: called before a pause that a quota makes necessary.
            when_slow: called once, when it has become clear that this takes longer than people wait without a word.
        """
        self._patience = patience
        self._stopping = stopping or Event()
        self._when_over_quota = when_over_quota
        self._when_slow: WhenSlow | None = when_slow
        self._begun = time.monotonic()
        self._count = 0

    def wait(self, error: CalibanError) -> None:
        """Wait before the next attempt.

        Raises:
            CalibanError: ``error``, when there is to be no next attempt: it will not pass, or time is up (the cause
                then says how often was tried).
        """
        if not isinstance(error, ServiceError) or not error.is_passing:
            raise error
        limit = min(self._patience.longest_s, self._patience.first_s * 2**self._count)
        pause = random.uniform(0, limit) if error.retry_after_s is None else error.retry_after_s
        self._count += 1
        spent = time.monotonic() - self._begun
        if spent + pause > (self._patience.quota_s if error.is_over_quota else self._patience.total_s):
            times = "once" if self._count == 1 else f"{self._count} times in {spent:.0f} s"
            wish = "" if error.retry_after_s is None else f"; the service asks to wait {error.retry_after_s:.0f} s"
            error.cause = f"{error.cause}\n(tried {times}{wish})"
            raise error
        if error.is_over_quota:
            self._when_over_quota()
        elif self._when_slow is not None and spent + pause > _SLOW_S:
            self._when_slow(error, self._patience.total_s)
            self._when_slow = None
        if self._stopping.wait(pause):
            raise error


def patiently(call: Callable[[], _T], patience: Patience, when_slow: WhenSlow = lambda error, seconds: None) -> _T:
    """``call()``, again and again while that may help: for calls that do no harm when made twice.

    Tries again after 429, 500, 502, 503, 504, a broken connection and a time-out; never after another answer.
    """
    pauses = Pauses(patience, when_slow=when_slow)
    while True:
        try:
            return call()
        except ServiceError as error:
            pauses.wait(error)


def seconds_to_wait(retry_after: str | None) -> float | None:
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
