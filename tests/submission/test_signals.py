"""Signals sent to the test process itself."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from caliban.submission.signals import hold_signals
from tests.fakes import FakeClock

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_released_block_is_interrupted_at_once() -> None:
    done = []

    def work() -> None:
        with hold_signals() as held, held.released():
            interrupt()
            done.append("after the signal")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == []


def test_a_released_block_is_interrupted_by_a_signal_that_came_before() -> None:
    done = []

    def work() -> None:
        with hold_signals() as held:
            interrupt()
            done.append("held")
            with held.released():
                done.append("released")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["held"]


@pytest.mark.parametrize("number", SIGNALS)
def test_handling_an_interrupt_is_not_interrupted_by_the_next_one(number: signal.Signals) -> None:
    done = []

    def work() -> None:
        with hold_signals() as held:
            try:
                with held.released():
                    interrupt()
            except KeyboardInterrupt:
                raise_all(number, number, number)
                done.append("stopped")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["stopped"]


def test_two_signals_at_the_same_moment_interrupt_a_released_block_once() -> None:
    """Both are pending when the handlers run, as after two key presses within milliseconds."""
    done = []

    def work() -> None:
        with hold_signals() as held:
            try:
                with held.released():
                    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
                    for number in SIGNALS:
                        signal.pthread_kill(threading.get_ident(), number)
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            except KeyboardInterrupt:
                done.append("stopped")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["stopped"]


@pytest.mark.parametrize(("seconds", "is_held"), [(0.2, True), (0.3, False)])
def test_a_signal_a_second_after_the_first_is_not_held(seconds: float, is_held: bool, clock: FakeClock) -> None:
    done = []

    def work() -> None:
        interrupt()
        clock.seconds += seconds
        interrupt()
        done.append("finished")

    with pytest.raises(KeyboardInterrupt), hold_signals(clock=clock):
        work()
    assert bool(done) is is_held


def test_a_signal_is_held_although_it_cannot_be_reported() -> None:
    def fail() -> None:
        raise BrokenPipeError

    done = []

    def work() -> None:
        with hold_signals(fail):
            interrupt()
            done.append("finished")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["finished"]
