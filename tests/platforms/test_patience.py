"""Whoever waits is told what for."""

from __future__ import annotations

from pathlib import Path

import pytest

from caliban.images.docker.engine import Engine
from caliban.platforms import retry as platforms_retry
from caliban.platforms.base import PlatformContext
from caliban.platforms.retry import RetryPolicy, ServiceError, report_retry, with_retries
from tests.fakes import HeardReporter

QUICK = RetryPolicy(initial_delay=0.001, max_delay=0.001, deadline=60)


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
def platform_context(heard: HeardReporter) -> PlatformContext:
    def no_engine() -> Engine:
        raise AssertionError("no engine is needed")

    return PlatformContext({}, Path("/nowhere"), heard, no_engine)


def test_what_takes_long_is_told_once(
    platform_context: PlatformContext, heard: HeardReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platforms_retry, "_SLOW_S", 0)
    on_retry = report_retry(platform_context.announce)

    answers = [with_retries(Flaky(5), QUICK, on_retry) for _ in range(2)]

    assert answers == ["an answer"] * 2
    assert heard.said == ["cannot list the jobs (connection refused); trying again for up to 60 s ..."]


def test_what_passes_at_once_is_not_told(platform_context: PlatformContext, heard: HeardReporter) -> None:
    with_retries(Flaky(1), QUICK, report_retry(platform_context.announce))

    assert heard.said == []
