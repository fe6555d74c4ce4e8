"""A job is delivered once, by a service whose answers get lost and whose lists lag behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

import pytest

from caliban.errors import CalibanError
from caliban.platforms.base import RefusedError
from caliban.platforms.delivery import deliver, look_until
from caliban.platforms.patience import Patience, Pauses, ServiceError

QUICK = Patience(first_s=0.001, longest_s=0.001, total_s=10)


class LostError(ServiceError):
    """No answer came."""


class BusyError(ServiceError):
    """Nothing was done, for certain."""

    leaves_doubt = False


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


def delivered(service: Service, settle_s: float = 0) -> str:
    return deliver(
        service.send,
        service.look_up,
        name="x",
        pauses=Pauses(QUICK),
        stopping=Event(),
        refused=lambda error: RefusedError(error.id, error.message, details={}),
        settle_s=settle_s,
    )


def test_a_job_that_turns_up_is_not_sent_again() -> None:
    service = Service([LostError("lost", "no answer")], lambda _, looks: "ours" if looks > 1 else None)
    assert delivered(service, settle_s=60) == "ours"
    assert service.calls == ["send", "look", "look"]


def test_an_absence_is_not_believed_before_the_list_has_settled() -> None:
    service = Service([LostError("lost", "no answer"), "second"], lambda *_: None)
    begun = time.monotonic()
    assert delivered(service, settle_s=0.2) == "second"
    assert time.monotonic() - begun >= 0.2
    assert service.calls.count("send") == 2


def test_the_last_look_before_another_request_is_made_when_the_list_has_settled() -> None:
    deadline = time.monotonic() + 0.2
    looks: list[float] = []
    assert look_until(lambda: looks.append(time.monotonic()), deadline, Event()) is None
    assert looks[-1] >= deadline


def test_what_was_sent_again_gives_way_to_what_turns_up_then() -> None:
    service = Service([LostError("lost", "no answer"), "second"], lambda sends, _: "first" if sends > 1 else None)
    assert delivered(service, settle_s=0.001) == "first"


@pytest.mark.parametrize("last", [None, LostError("lost", "no answer")])
def test_what_was_sent_again_counts_where_nothing_else_is_seen(last: CalibanError | None) -> None:
    service = Service([LostError("lost", "no answer"), "second"], lambda sends, _: last if sends > 1 else None)
    assert delivered(service, settle_s=0.001) == "second"


def test_where_lists_do_not_lag_one_look_is_enough() -> None:
    service = Service([LostError("lost", "no answer"), "second"], lambda *_: None)
    assert delivered(service) == "second"
    assert service.calls == ["send", "look", "send"]


def test_without_doubt_nobody_looks() -> None:
    service = Service([BusyError("busy", "later"), "ours"], lambda *_: None)
    assert delivered(service, settle_s=60) == "ours"
    assert service.calls == ["send", "send"]


def test_looking_ends_when_the_person_wants_to_stop() -> None:
    stopping = Event()
    stopping.set()
    begun = time.monotonic()
    assert look_until(lambda: None, begun + 600, stopping) is None
    assert time.monotonic() - begun < 60
