from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime, timezone

import pytest

from caliban.cli.parser import Parser
from caliban.cli.selection import add_selection_flags, job_filter
from caliban.errors import UsageError
from caliban.job_filter import JobFilter
from caliban.parameters import Match
from caliban.records import FailureCause, JobStatus
from tests.fakes import FakeClock

SetTimeZone = Callable[[str], None]


def parsed(*words: str) -> JobFilter:
    parser = Parser("caliban status")
    add_selection_flags(parser)
    args: argparse.Namespace = parser.parse(words)
    return job_filter(args, FakeClock(datetime(2026, 11, 25, 12)))


def refused(*words: str) -> tuple[str, str, str | None]:
    with pytest.raises(UsageError) as error:
        parsed(*words)
    return error.value.id, error.value.message, error.value.hint


def test_without_flags_all_jobs_are_chosen() -> None:
    assert parsed().takes_all


@pytest.mark.parametrize(
    ("words", "states"),
    [
        (("--state", "failed"), {JobStatus.FAILED}),
        (("--state", "failed,stopped"), {JobStatus.FAILED, JobStatus.STOPPED}),
        (("--state", "FAILED", "--state", " Stopped ,"), {JobStatus.FAILED, JobStatus.STOPPED}),
        (("--state", "queued"), {JobStatus.SUBMITTED}),
        (("--state", "pending,running,unknown"), {JobStatus.SUBMITTED, JobStatus.RUNNING, JobStatus.UNKNOWN}),
        (("--state", "success"), {JobStatus.SUCCEEDED}),
        (("--state", "cancelled"), {JobStatus.STOPPED}),
    ],
)
def test_states_are_named_as_people_name_them(words: tuple[str, ...], states: set[JobStatus]) -> None:
    assert parsed(*words).states == states


@pytest.mark.parametrize("word", ["never_run", "never-run", "never run", "NEVER"])
def test_experiments_that_were_never_run_can_be_chosen(word: str) -> None:
    assert parsed("--state", word) == JobFilter(never_run=True)


@pytest.mark.parametrize("words", [("--job", "41,42"), ("--job", "41", "--job", "42"), ("--job", "#41, 42")])
def test_several_jobs_can_be_named(words: tuple[str, ...]) -> None:
    assert parsed(*words).job_ids == {41, 42}


@pytest.mark.parametrize(
    ("word", "cause"),
    [
        ("oom", FailureCause.OUT_OF_MEMORY),
        ("OOMKilled", FailureCause.OUT_OF_MEMORY),
        ("out-of-memory", FailureCause.OUT_OF_MEMORY),
        ("out of memory", FailureCause.OUT_OF_MEMORY),
        ("code", FailureCause.CODE_ERROR),
        ("timed-out", FailureCause.TIMEOUT),
        ("infra", FailureCause.INFRASTRUCTURE),
        *((cause.value, cause) for cause in FailureCause),
    ],
)
def test_causes_have_aliases(word: str, cause: FailureCause) -> None:
    assert parsed("--cause", word).causes == {cause}


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--match", "lr=0.1"), Match("lr", "0.1")),
        (("--match=--lr=0.1",), Match("lr", "0.1")),
        (("--match", " lr = 0.1 "), Match("lr", "0.1")),
        (("--match", "url=a=b"), Match("url", "a=b")),
        (("--match", "tag="), Match("tag", "")),
    ],
)
def test_a_match_is_a_key_and_a_value(words: tuple[str, ...], match: Match) -> None:
    assert parsed(*words).matches == (match,)


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("2d", datetime(2026, 11, 23, 17, tzinfo=timezone.utc)),
        ("90m", datetime(2026, 11, 25, 15, 30, tzinfo=timezone.utc)),
        ("2026-11-25", datetime(2026, 11, 25, 5, tzinfo=timezone.utc)),
        ("2026-11-24T18:30", datetime(2026, 11, 24, 23, 30, tzinfo=timezone.utc)),
        ("2026-11-24 18:30:15", datetime(2026, 11, 24, 23, 30, 15, tzinfo=timezone.utc)),
        ("2026-11-24T18:30:15.5", datetime(2026, 11, 24, 23, 30, 15, 500_000, tzinfo=timezone.utc)),
        ("2026-11-24T18:30Z", datetime(2026, 11, 24, 18, 30, tzinfo=timezone.utc)),
        ("2026-11-24T18:30:00+01:00", datetime(2026, 11, 24, 17, 30, tzinfo=timezone.utc)),
        ("2026-11-24T18:30:00+0100", datetime(2026, 11, 24, 17, 30, tzinfo=timezone.utc)),
        ("today", datetime(2026, 11, 25, 5, tzinfo=timezone.utc)),
        ("Yesterday", datetime(2026, 11, 24, 5, tzinfo=timezone.utc)),
        ("0s", datetime(2026, 11, 25, 17, tzinfo=timezone.utc)),
    ],
)
def test_since_is_a_duration_or_a_date_in_the_local_time_zone(
    text: str, since: datetime, time_zone: SetTimeZone
) -> None:
    time_zone("EST5")
    assert parsed("--since", text).since == since


@pytest.mark.parametrize(
    "text",
    ["", "2", "-2d", "noon", "2026-13-01", "2026-02-30", "2026-11-25T25:00", "25.11.2026", "0000-01-01", "99999999d"],
)
def test_another_since_is_wrong_usage(text: str) -> None:
    assert refused(f"--since={text}") == (
        "invalid-value",
        f'--since: expected a duration or a date, got "{text}"',
        "write a duration (90m, 3h, 2d), or a date (2026-11-25, 2026-11-25T18:30, 2026-11-25T18:30Z)",
    )


def test_a_time_in_the_future_is_wrong_usage() -> None:
    error_id, message, _ = refused("--since", "2027-01-01")
    assert (error_id, message) == ("invalid-value", '--since: "2027-01-01" is in the future')


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("--state", "faild"), '--state: unknown state "faild"', "did you mean failed?"),
        (
            ("--state", "x"),
            '--state: unknown state "x"',
            "use one of: submitted, running, succeeded, failed, stopped, unknown, never_run",
        ),
        (("--state", ""), '--state: expected a value, got ""', "write: --state=failed,stopped"),
        (("--state", ","), '--state: expected a value, got ","', "write: --state=failed,stopped"),
        (("--cause", "timeot"), '--cause: unknown cause "timeot"', "did you mean timeout?"),
        (("--job", "night"), '--job: expected the id of a job, got "night"', "caliban status shows them: --job 41"),
        (("--job", "0"), '--job: expected the id of a job, got "0"', "caliban status shows them: --job 41"),
        (("--job", "1-3"), '--job: expected the id of a job, got "1-3"', "caliban status shows them: --job 41"),
        (("--job", "٣"), '--job: expected the id of a job, got "٣"', "caliban status shows them: --job 41"),
        (
            ("--job", "9" * 19),
            f'--job: expected the id of a job, got "{"9" * 19}"',
            "caliban status shows them: --job 41",
        ),
        (("--match", "lr"), '--match: expected KEY=VALUE, got "lr"', "write: --match lr=0.1"),
        (("--match", "=3"), '--match: expected KEY=VALUE, got "=3"', "write: --match lr=0.1"),
        (("--match", "--=3"), '--match: expected KEY=VALUE, got "--=3"', "write: --match lr=0.1"),
    ],
)
def test_mistakes_are_wrong_usage_with_a_hint(words: tuple[str, ...], message: str, hint: str) -> None:
    flag, value = words
    assert refused(f"{flag}={value}") == ("invalid-value", message, hint)


def test_what_was_typed_is_kept_for_the_commands_in_hints() -> None:
    typed = parsed("--state", "failed", "--match=--lr=-1", "--since", "2d").typed
    assert typed == ("--state", "failed", "--match=--lr=-1", "--since", "2d")
