from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from caliban.submission.feeds import MAX_AHEAD, TURN, AbandonedError, Feeds
from tests.fakes import FakeClock

Put = Callable[[bytes], None]


def reading(*items: bytes) -> Callable[[Put], str]:
    def read(put: Put) -> str:
        for item in items:
            put(item)
        return "end"

    return read


def feeds(*readings: Callable[[Put], str], threads: int = 8) -> Feeds[bytes, str]:
    made: Feeds[bytes, str] = Feeds(readings, len, threads, FakeClock())
    made.start()
    return made


def test_readings_are_taken_in_order() -> None:
    made = feeds(reading(b"a", b"b"), reading(), reading(b"c"), threads=1)
    taken = [(index, item) for index, items, _ in made.in_order(lambda index: True) for item in items]
    assert taken == [(0, b"a"), (0, b"b"), (2, b"c")]


def test_a_reading_waits_for_a_slow_reader() -> None:
    put_items = []

    def read(put: Put) -> str:
        for number in range(100):
            put(b"x" * 65536)
            put_items.append(number)
        return "end"

    made = feeds(read)
    for _, items, _ in made.in_order(lambda index: True):
        assert len(items) * 65536 <= MAX_AHEAD
    assert len(put_items) == 100


def test_each_of_several_readings_has_its_turn() -> None:
    is_full = threading.Event()

    def endless(put: Put) -> str:
        while True:
            put(b"x" * 1000)
            is_full.set()

    made = feeds(endless, reading(b"quiet"))
    seen = []
    for index, items, _ in made.interleaved(lambda: True):
        assert len(items) <= TURN
        seen.append(index)
        if index == 1 and items:
            break
    made.abandon()
    assert 1 in seen


def test_an_abandoned_reading_ends_with_its_next_item() -> None:
    ended = threading.Event()

    def endless(put: Put) -> str:
        try:
            while True:
                put(b"x")
        except AbandonedError:
            ended.set()
            raise

    made = feeds(endless)
    next(made.interleaved(lambda: True))
    made.abandon()
    assert ended.wait(10)


def test_an_unforeseen_error_of_a_reading_is_raised_by_the_reader() -> None:
    def fail(put: Put) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(feeds(fail).in_order(lambda index: True))


def test_a_silence_can_end_the_reading() -> None:
    class ShortClock(FakeClock):
        def wait_in_background(self, event: threading.Event, seconds: float) -> bool:
            return event.wait(0)

    made: Feeds[bytes, str] = Feeds([lambda put: str(threading.Event().wait())], len, 1, ShortClock())
    made.start()
    assert list(made.in_order(lambda index: False)) == []
