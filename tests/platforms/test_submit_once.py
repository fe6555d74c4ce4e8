"""A job is submitted once to a service whose answers get lost and whose lists show new jobs late."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from caliban.errors import CalibanError, StoreError
from caliban.images.docker.engine import Engine
from caliban.platforms.base import MaySend, NotSentError, RefusedError
from caliban.platforms.context import PlatformContext
from caliban.platforms.retry import Backoff, RetryPolicy, ServiceError
from caliban.platforms.submit_once import poll_until, submit_once
from tests.fake_service import may_not_send, may_send
from tests.fakes import FakeClock, RecordingReporter

POLICY = RetryPolicy(initial_delay=1, max_delay=1, deadline=60)


class LostError(ServiceError):
    """No answer came."""


class BusyError(ServiceError):
    """The service answered that it did nothing."""

    outcome_unknown = False


class Service:
    """Answers requests with ``answers``; a lookup finds ``found`` of the numbers of requests and lookups so far."""

    def __init__(
        self, answers: list[str | CalibanError], found: Callable[[int, int], str | CalibanError | None]
    ) -> None:
        self.answers = answers
        self.found = found
        self.calls: list[str] = []

    def send(self) -> str:
        self.calls.append("send")
        answer = self.answers.pop(0)
        if isinstance(answer, CalibanError):
            raise answer
        return answer

    def look_up(self) -> str | None:
        self.calls.append("look up")
        found = self.found(self.calls.count("send"), self.calls.count("look up"))
        if isinstance(found, CalibanError):
            raise found
        return found


@pytest.fixture
def platform_context(clock: FakeClock) -> PlatformContext:
    def no_engine() -> Engine:
        raise AssertionError("no engine is needed")

    return PlatformContext({}, Path("/nowhere"), RecordingReporter(), no_engine, clock=clock)


def submit(
    service: Service, context: PlatformContext, consistency_delay: float = 0, permission: MaySend = may_send
) -> str:
    return submit_once(
        service.send,
        service.look_up,
        may_send=permission,
        name="x",
        backoff=Backoff(POLICY, context.clock, context.stopping),
        context=context,
        refused=lambda error: RefusedError(error.id, error.message, details={}),
        consistency_delay=consistency_delay,
    )


def test_a_job_that_is_found_is_not_sent_again(platform_context: PlatformContext) -> None:
    service = Service([LostError("lost", "no answer")], lambda _, lookups: "ours" if lookups > 1 else None)
    assert submit(service, platform_context, consistency_delay=60) == "ours"
    assert service.calls == ["send", "look up", "look up"]


def test_permission_is_asked_for_immediately_before_each_request(platform_context: PlatformContext) -> None:
    service = Service([BusyError("busy", "later"), LostError("lost", "no answer"), "ours"], lambda *_: None)
    submit(service, platform_context, permission=lambda: service.calls.append("may send"))
    assert service.calls == ["may send", "send", "may send", "send", "look up", "may send", "send"]


def test_nothing_is_sent_without_permission(platform_context: PlatformContext) -> None:
    service = Service([], lambda *_: None)
    with pytest.raises(NotSentError):
        submit(service, platform_context, permission=may_not_send)
    assert service.calls == []


def test_without_permission_to_send_again_the_outcome_of_a_lost_request_stays_unknown(
    platform_context: PlatformContext,
) -> None:
    service = Service([LostError("lost", "no answer")], lambda *_: None)

    def once() -> None:
        if service.calls:
            may_not_send()

    with pytest.raises(LostError):
        submit(service, platform_context, permission=once)
    assert service.calls == ["send", "look up"]


def test_a_store_that_cannot_be_read_gives_no_permission(platform_context: PlatformContext) -> None:
    service = Service([], lambda *_: None)

    def locked() -> None:
        raise StoreError("store-locked", "the store is locked")

    with pytest.raises(StoreError):
        submit(service, platform_context, permission=locked)
    assert service.calls == []


def test_a_missing_job_is_sent_again_only_after_the_consistency_delay(
    platform_context: PlatformContext, clock: FakeClock
) -> None:
    service = Service([LostError("lost", "no answer"), "second"], lambda *_: None)
    assert submit(service, platform_context, consistency_delay=30) == "second"
    assert clock.seconds >= 30
    assert service.calls.count("send") == 2


def test_the_last_lookup_is_made_when_the_deadline_has_passed(
    platform_context: PlatformContext, clock: FakeClock
) -> None:
    lookups: list[float] = []
    assert poll_until(lambda: lookups.append(clock.seconds), 30, clock, platform_context.stopping) is None
    assert lookups[-1] >= 30


def test_a_job_found_after_it_was_sent_again_replaces_the_new_one(platform_context: PlatformContext) -> None:
    service = Service([LostError("lost", "no answer"), "second"], lambda sends, _: "first" if sends > 1 else None)
    assert submit(service, platform_context, consistency_delay=30) == "first"


@pytest.mark.parametrize("last", [None, LostError("lost", "no answer")])
def test_the_new_job_counts_when_no_earlier_one_is_found(
    platform_context: PlatformContext, last: CalibanError | None
) -> None:
    service = Service([LostError("lost", "no answer"), "second"], lambda sends, _: last if sends > 1 else None)
    assert submit(service, platform_context, consistency_delay=30) == "second"


def test_one_lookup_is_enough_where_lists_are_consistent(platform_context: PlatformContext) -> None:
    service = Service([LostError("lost", "no answer"), "second"], lambda *_: None)
    assert submit(service, platform_context) == "second"
    assert service.calls == ["send", "look up", "send"]


def test_nothing_is_looked_up_when_the_outcome_is_known(platform_context: PlatformContext) -> None:
    service = Service([BusyError("busy", "later"), "ours"], lambda *_: None)
    assert submit(service, platform_context, consistency_delay=60) == "ours"
    assert service.calls == ["send", "send"]


def test_a_job_that_was_not_accepted_is_not_sent_again_when_the_user_stops(platform_context: PlatformContext) -> None:
    platform_context.stopping.set()
    service = Service([BusyError("busy", "later")], lambda *_: None)
    with pytest.raises(NotSentError):
        submit(service, platform_context)
    assert service.calls == ["send"]


def test_polling_ends_when_the_user_stops(platform_context: PlatformContext, clock: FakeClock) -> None:
    platform_context.stopping.set()
    assert poll_until(lambda: None, 600, clock, platform_context.stopping) is None
    assert clock.seconds == 0
