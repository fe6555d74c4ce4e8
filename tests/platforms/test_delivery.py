"""A job is delivered once, by a service whose answers get lost and whose lists lag behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

import pytest

from caliban.errors import CalibanError
from caliban.platforms.base import RefusedError
from caliban.platforms.retry import Backoff, RetryPolicy, ServiceError
from caliban.platforms.submit_once import poll_until, submit_once

QUICK = RetryPolicy(initial_delay=0.001, max_delay=0.001, deadline=10)


class LostError(ServiceError):
    """No answer came."""


class BusyError(ServiceError):
    """Nothing was done, for certain."""

    outcome_unknown = False


class Service:
    """Does what ``answers`` say to each request, and shows what ``shown`` says after so many requests and looks."""

    def __init__(
        self, answers: list[str | CalibanError], shown: Callable[[int, int], str | CalibanError | None]
    ) -> None:
        self.answers = answers
        self.shown = shown
        self.calls: list[str] = []

    def send(self) -> str:
        self.calls.append("send")
        answer = self.answers.pop(0)
        if isinstance(answer, CalibanError):
            raise answer
        return answer

    def look_up(self) -> str | None:
        self.calls.append("look")
        there = self.shown(self.calls.count("send"), self.calls.count("look"))
        if isinstance(there, CalibanError):
            raise there
        return there


def delivered(service: Service, consistency_delay: float = 0) -> str:
    return submit_once(
        service.send,
        service.look_up,
        name="x",
        backoff=Backoff(QUICK),
        stopping=Event(),
        refused=lambda error: RefusedError(error.id, error.message, details={}),
        consistency_delay=consistency_delay,
    )


def test_a_job_that_turns_up_is_not_sent_again() -> None:
    service = Service([LostError("lost", "no answer")], lambda _, looks: "ours" if looks > 1 else None)
    assert delivered(service, consistency_delay=60) == "ours"
    assert service.calls == ["send", "look", "look"]


def test_an_absence_is_not_believed_before_the_list_has_settled() -> None:
    service = Service([LostError("lost", "no answer"), "second"], lambda *_: None)
    begun = time.monotonic()
    assert delivered(service, consistency_delay=0.2) == "second"
    assert time.monotonic() - begun >= 0.2
    assert service.calls.count("send") == 2


def test_the_last_look_before_another_request_is_made_when_the_list_has_settled() -> None:
    deadline = time.monotonic() + 0.2
    looks: list[float] = []
    assert poll_until(lambda: looks.append(time.monotonic()), deadline, Event()) is None
    assert looks[-1] >= deadline


def test_what_was_sent_again_gives_way_to_what_turns_up_then() -> None:
    service = Service([LostError("lost", "no answer"), "second"], lambda sends, _: "first" if sends > 1 else None)
    assert delivered(service, consistency_delay=0.001) == "first"


@pytest.mark.parametrize("last", [None, LostError("lost", "no answer")])
def test_what_was_sent_again_counts_where_nothing_else_is_seen(last: CalibanError | None) -> None:
    service = Service([LostError("lost", "no answer"), "second"], lambda sends, _: last if sends > 1 else None)
    assert delivered(service, consistency_delay=0.001) == "second"


def test_where_lists_do_not_lag_one_look_is_enough() -> None:
    service = Service([LostError("lost", "no answer"), "second"], lambda *_: None)
    assert delivered(service) == "second"
    assert service.calls == ["send", "look", "send"]


def test_without_doubt_nobody_looks() -> None:
    service = Service([BusyError("busy", "later"), "ours"], lambda *_: None)
    assert delivered(service, consistency_delay=60) == "ours"
    assert service.calls == ["send", "send"]


def test_looking_ends_when_the_person_wants_to_stop() -> None:
    stopping = Event()
    stopping.set()
    begun = time.monotonic()
    assert poll_until(lambda: None, begun + 600, stopping) is None
    assert time.monotonic() - begun < 60
