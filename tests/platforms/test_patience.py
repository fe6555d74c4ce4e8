"""Whoever waits is told what for."""

from __future__ import annotations

from pathlib import Path

import pytest

from caliban.images.engine import Engine
from caliban.platforms import patience
from caliban.platforms.base import Surroundings
from caliban.platforms.patience import Patience, ServiceError, patiently, tell_of_waiting
from tests.fakes import HeardReporter

QUICK = Patience(first_s=0.001, longest_s=0.001, total_s=60)


class Flaky:
    """Fails so many times, then answers."""

    def __init__(self, failures: int) -> None:
        self._left = failures

    def __call__(self) -> str:
        self._left -= 1
        if self._left >= 0:
            raise ServiceError("lost", "cannot list the jobs", cause="connection refused\nat port 9")
        return "an answer"


@pytest.fixture
def surroundings(heard: HeardReporter) -> Surroundings:
    def no_engine() -> Engine:
        raise AssertionError("no engine is needed")

    return Surroundings({}, Path("/nowhere"), heard, no_engine)


def test_what_takes_long_is_told_once(
    surroundings: Surroundings, heard: HeardReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_SLOW_S", 0)
    when_slow = tell_of_waiting(surroundings.announce)

    answers = [patiently(Flaky(5), QUICK, when_slow) for _ in range(2)]

    assert answers == ["an answer"] * 2
    assert heard.said == ["cannot list the jobs (connection refused); trying again for up to 60 s ..."]


def test_what_passes_at_once_is_not_told(surroundings: Surroundings, heard: HeardReporter) -> None:
    patiently(Flaky(1), QUICK, tell_of_waiting(surroundings.announce))

    assert heard.said == []
