from __future__ import annotations

from datetime import timedelta

import pytest

from caliban.durations import ago_text, duration_text, parse_duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("2d", timedelta(days=2)),
        ("3h", timedelta(hours=3)),
        ("90m", timedelta(minutes=90)),
        ("45s", timedelta(seconds=45)),
        ("1w", timedelta(weeks=1)),
        ("1h30m", timedelta(minutes=90)),
        ("1d 12h", timedelta(hours=36)),
        ("1.5h", timedelta(minutes=90)),
        ("2 days", timedelta(days=2)),
        ("5 min", timedelta(minutes=5)),
        (" 5MIN ", timedelta(minutes=5)),
        ("0s", timedelta()),
    ],
)
def test_a_duration_is_numbers_with_units(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    ["", " ", "2", "d", "-2d", "2x", "2d3", "2.d", "1e3s", "999999999999999d", "9" * 16 + "s", "2026-11-25", "٣h"],
)
def test_other_texts_are_not(text: str) -> None:
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m 00s"),
        (3599, "59m 59s"),
        (3600, "1h 00m"),
        (86_399, "23h 59m"),
        (86_400, "1d 00h"),
        (100 * 86_400, "100d 00h"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-90, "just now"),
        (59, "just now"),
        (60, "1 min ago"),
        (300, "5 min ago"),
        (3600, "1 hour ago"),
        (7200, "2 hours ago"),
        (86_400, "1 day ago"),
        (400 * 86_400, "400 days ago"),
    ],
)
def test_how_long_ago_has_one_unit(seconds: float, text: str) -> None:
    assert ago_text(seconds) == text
