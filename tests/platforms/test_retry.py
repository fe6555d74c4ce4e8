"""Requests are retried while their errors are transient, and the user is told what for."""

from __future__ import annotations

import pytest

from caliban.platforms.retry import (
    Backoff,
    RetryPolicy,
    ServiceError,
    report_retry,
    with_retries,
)
from tests.fakes import FakeClock

POLICY = RetryPolicy(initial_delay=1, max_delay=4, deadline=60, quota_deadline=180)


class Flaky:
    """Fails ``failures`` times, then answers."""

    def __init__(self, failures: int, **attributes: object) -> None:
        self.attempts = 0
        self._left = failures
        self._attributes = attributes

    def __call__(self) -> str:
        self.attempts += 1
        self._left -= 1
        if self._left >= 0:
            error = ServiceError("lost", "cannot list the jobs", cause="connection refused\nat port 9")
            vars(error).update(self._attributes)
            raise error
        return "an answer"


def test_retries_that_take_longer_than_two_seconds_are_reported_once_for_each_message(clock: FakeClock) -> None:
    reported: list[str] = []
    announced: set[str] = set()

    def announce(line: str) -> None:
        if line not in announced:
            reported.append(line)
        announced.add(line)

    on_retry = report_retry(announce)
    answers = [with_retries(Flaky(3, retry_after=2.0), POLICY, on_retry, clock) for _ in range(2)]
    assert answers == ["an answer"] * 2
    assert reported == ["cannot list the jobs (connection refused); retrying for up to 60 s ..."]


def test_a_short_retry_is_not_reported(clock: FakeClock) -> None:
    reported: list[str] = []
    with_retries(Flaky(1), POLICY, report_retry(reported.append), clock)
    assert reported == []


def test_delays_grow_up_to_the_longest_one_and_end_at_the_deadline(clock: FakeClock) -> None:
    call = Flaky(10_000)
    with pytest.raises(ServiceError) as caught:
        with_retries(call, POLICY, clock=clock)
    assert clock.seconds <= POLICY.deadline
    assert call.attempts > POLICY.deadline / POLICY.max_delay
    assert f"(tried {call.attempts} times in " in (caught.value.cause or "")


def test_the_delay_that_the_service_requests_is_kept(clock: FakeClock) -> None:
    with_retries(Flaky(2, retry_after=7.0), POLICY, clock=clock)
    assert clock.seconds == 14


def test_a_requested_delay_beyond_the_deadline_ends_the_attempts_at_once(clock: FakeClock) -> None:
    call = Flaky(2, retry_after=61.0)
    with pytest.raises(ServiceError, match="cannot list the jobs") as caught:
        with_retries(call, POLICY, clock=clock)
    assert (call.attempts, clock.seconds) == (1, 0)
    assert (caught.value.cause or "").endswith("(tried once; the service asks to wait 61 s)")


def test_an_exhausted_quota_is_waited_for_longer(clock: FakeClock) -> None:
    assert with_retries(Flaky(2, is_over_quota=True, retry_after=80.0), POLICY, clock=clock) == "an answer"
    assert clock.seconds == 160


def test_an_error_that_is_not_transient_is_not_retried(clock: FakeClock) -> None:
    call = Flaky(1, is_transient=False)
    with pytest.raises(ServiceError):
        with_retries(call, POLICY, clock=clock)
    assert call.attempts == 1


def test_the_user_is_told_of_a_quota_before_each_wait(clock: FakeClock) -> None:
    told: list[str] = []
    error = ServiceError("quota", "quota exhausted")
    error.is_over_quota = True
    Backoff(POLICY, clock, on_quota=lambda: told.append("quota")).wait(error)
    assert told == ["quota"]


def test_an_error_may_be_retried_for_a_shorter_time_than_usual() -> None:
    clock = FakeClock()
    flaky = Flaky(1000, retry_deadline=10)
    with pytest.raises(ServiceError):
        with_retries(flaky, POLICY, clock=clock)
    assert clock.seconds <= 10


def test_a_service_that_asks_to_be_asked_again_at_once_is_not_asked_more_often() -> None:
    clock = FakeClock()
    flaky = Flaky(1000, retry_after=0.0)
    with pytest.raises(ServiceError):
        with_retries(flaky, POLICY, clock=clock)
    assert flaky.attempts < 200
