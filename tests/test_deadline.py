"""Calls that never return are given up, and Ctrl-C interrupts them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from caliban.bounded import DeadlineExceededError
from caliban.clock import SystemClock
from caliban.threads import SLOW, within
from tests.fakes import FakeClock


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Set at the end of a test, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()


def test_the_result_of_the_call_is_returned() -> None:
    assert within(60, lambda: 5, SystemClock()) == 5


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3)])
def test_the_error_of_the_call_is_raised(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        within(60, fail, SystemClock())
    assert caught.value is error


def test_a_call_that_does_not_return_is_given_up_at_its_deadline(never: threading.Event) -> None:
    clock = FakeClock()
    said: list[float] = []
    with pytest.raises(DeadlineExceededError, match="no answer within 20 s"):
        within(20, never.wait, clock, lambda: said.append(clock.seconds))
    assert (clock.seconds, said) == (20, [SLOW])


def test_ctrl_c_interrupts_the_wait(never: threading.Event) -> None:
    def press() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        never.wait()

    with pytest.raises(KeyboardInterrupt):
        within(60, press, SystemClock())
