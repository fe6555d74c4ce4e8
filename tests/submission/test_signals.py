"""Signals sent to the test process itself."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from caliban.submission.signals import hold_signals

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restore the signal handlers after each test."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def raise_all(*numbers: signal.Signals) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_held_until_the_block_has_ended(number: signal.Signals) -> None:
    done = []

    def work() -> None:
        done.append("first half")
        raise_all(number)
        done.append("second half")

    with pytest.raises(KeyboardInterrupt), hold_signals():
        work()
    assert done == ["first half", "second half"]


def test_several_signals_raise_one_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), hold_signals():
        raise_all(*SIGNALS, *SIGNALS)


def test_without_a_signal_nothing_is_raised() -> None:
    done = []
    with hold_signals():
        done.append(1)
    assert done == [1]


def test_handlers_are_restored_after_the_block() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with hold_signals():
        during = [signal.getsignal(number) for number in SIGNALS]
    assert [signal.getsignal(number) for number in SIGNALS] == before != during


def test_handlers_are_restored_after_an_error() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ZeroDivisionError), hold_signals():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_nested_blocks_end_with_one_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), hold_signals(), hold_signals():
        os.kill(os.getpid(), signal.SIGINT)


def test_other_threads_do_not_replace_handlers() -> None:
    held: list[bool] = []

    def work() -> None:
        before = signal.getsignal(signal.SIGINT)
        with hold_signals():
            held.append(signal.getsignal(signal.SIGINT) != before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert held == [False]
