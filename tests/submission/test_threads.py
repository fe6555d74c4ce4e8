"""Calls on several threads, whose end need not be waited for."""

from __future__ import annotations

import signal
import threading
import time
from functools import partial

import pytest

from caliban.threads import call_on_threads


def test_every_call_is_made_once() -> None:
    made: list[int] = []
    call_on_threads([partial(made.append, number) for number in range(20)], 3)
    assert sorted(made) == list(range(20))


def test_without_calls_nothing_is_waited_for() -> None:
    call_on_threads([], 3)


def test_an_exception_is_raised_after_all_other_calls() -> None:
    made: list[int] = []

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        call_on_threads([fail, partial(made.append, 1), partial(made.append, 2)], 1)
    assert made == [1, 2]


def test_the_wait_can_be_interrupted() -> None:
    released = threading.Event()
    main = threading.get_ident()

    def hang() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        released.wait(10)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        call_on_threads([hang], 1)
    waited = time.monotonic() - began
    released.set()
    assert waited < 5
