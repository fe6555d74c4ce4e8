"""The flags that choose jobs, with the same meaning in every command that has them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TypeVar

from caliban.cli.suggestions import closest
from caliban.clock import Clock
from caliban.durations import parse_duration
from caliban.errors import UsageError
from caliban.input_files import shortened
from caliban.job_filter import JobFilter
from caliban.parameters import Match
from caliban.records import FailureCause, JobStatus

_Value = TypeVar("_Value")

_NEVER_RUN = "never_run"
_STATES: Mapping[str, JobStatus | str] = {
    **{status.value.lower(): status for status in JobStatus},
    _NEVER_RUN: _NEVER_RUN,
    "queued": JobStatus.SUBMITTED,
    "pending": JobStatus.SUBMITTED,
    "success": JobStatus.SUCCEEDED,
    "done": JobStatus.SUCCEEDED,
    "failure": JobStatus.FAILED,
    "error": JobStatus.FAILED,
    "cancelled": JobStatus.STOPPED,
    "canceled": JobStatus.STOPPED,
    "never": _NEVER_RUN,
}
_CAUSES: Mapping[str, FailureCause] = {
    **{cause.value: cause for cause in FailureCause},
    "oom": FailureCause.OUT_OF_MEMORY,
    "oom_killed": FailureCause.OUT_OF_MEMORY,
    "oomkilled": FailureCause.OUT_OF_MEMORY,
    "memory": FailureCause.OUT_OF_MEMORY,
    "code": FailureCause.CODE_ERROR,
    "error": FailureCause.CODE_ERROR,
    "exception": FailureCause.CODE_ERROR,
    "timed_out": FailureCause.TIMEOUT,
    "time_out": FailureCause.TIMEOUT,
    "deadline": FailureCause.TIMEOUT,
    "preemption": FailureCause.PREEMPTED,
    "spot": FailureCause.PREEMPTED,
    "evicted": FailureCause.PREEMPTED,
    "refusal": FailureCause.REFUSED,
    "rejected": FailureCause.REFUSED,
    "infra": FailureCause.INFRASTRUCTURE,
    "cancelled": FailureCause.STOPPED,
    "canceled": FailureCause.STOPPED,
}
_SHOWN_STATES = (*(status.value.lower() for status in JobStatus), _NEVER_RUN)
_SHOWN_CAUSES = tuple(cause.value for cause in FailureCause)
_SINCE_HINT = "write a duration (90m, 3h, 2d), or a date (2026-11-25, 2026-11-25T18:30, 2026-11-25T18:30Z)"
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?) ?(Z|[+-]\d\d:?\d\d)?)?", re.IGNORECASE)
_MAX_ID_DIGITS = 18


def add_selection_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--state``, ``--job``, ``--cause``, ``--match`` and ``--since``."""
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        help=f"only jobs in these states: {', '.join(_SHOWN_STATES)}",
    )
    parser.add_argument(
        "--job", action="append", default=[], metavar="ID", help="only the job of this id; may be repeated: 41,42"
    )
    parser.add_argument(
        "--cause",
        action="append",
        default=[],
        help=f"only jobs that ended for these causes, separated by commas: {', '.join(_SHOWN_CAUSES)}",
    )
    parser.add_argument(
        "--match",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only experiments with this value of a parameter: lr=0.1, opt=ad*,sgd; may be repeated",
    )
    parser.add_argument(
        "--since",
        metavar="WHEN",
        help="only jobs that ended, or unfinished ones that were submitted, since then: 90m, 3h, 2d, 2026-11-25T18:30",
    )


def job_filter(args: argparse.Namespace, clock: Clock) -> JobFilter:
    """Return what the flags of :func:`add_selection_flags` choose.

    Raises:
        UsageError: ``invalid-value``.
    """
    states = _choices("--state", args.state, _STATES, _SHOWN_STATES)
    return JobFilter(
        states=frozenset(state for state in states if isinstance(state, JobStatus)),
        never_run=_NEVER_RUN in states,
        job_ids=frozenset(map(_job_id, _words("--job", args.job))),
        causes=frozenset(parse_causes("--cause", args.cause)),
        matches=tuple(map(_match, args.match)),
        since=None if args.since is None else parse_since(args.since, clock),
        typed=_typed(args),
    )


def parse_causes(flag: str, given: Sequence[str]) -> list[FailureCause]:
    """Return the causes that the values of a flag name, each one or several separated by commas.

    Raises:
        UsageError: ``invalid-value``.
    """
    return _choices(flag, given, _CAUSES, _SHOWN_CAUSES)


def parse_since(text: str, clock: Clock) -> datetime:
    """Return the time that ``--since`` says, with a time zone: ``2d`` ago, or a date in the local time zone.

    Raises:
        UsageError: ``invalid-value``.
    """
    now = clock.utc_now()
    duration = parse_duration(text)
    try:
        found = _days_ago(text, now) or (now - duration if duration is not None else _date(text.strip()))
    except (ValueError, OverflowError):
        found = None
    if found is None:
        raise _invalid("--since", f'expected a duration or a date, got "{shortened(text)}"', _SINCE_HINT)
    if found > now:
        raise _invalid("--since", f'"{text}" is in the future', _SINCE_HINT)
    return found


def _days_ago(text: str, now: datetime) -> datetime | None:
    """Return the beginning of the day that ``today`` and ``yesterday`` say; None for other texts."""
    days = {"today": 0, "yesterday": 1}.get(text.strip().lower())
    if days is None:
        return None
    day = now.astimezone().replace(tzinfo=None) - timedelta(days=days)
    return day.replace(hour=0, minute=0, second=0, microsecond=0).astimezone()


def _date(text: str) -> datetime | None:
    parts = _ISO.fullmatch(text)
    if parts is None:
        return None
    day, time, zone = parts.groups()
    offset = {"Z": "+00:00"}.get(zone.upper(), zone) if zone else ""
    if offset and ":" not in offset:
        offset = f"{offset[:3]}:{offset[3:]}"
    moment = datetime.strptime(
        f"{day} {time or '00:00'}{offset}",
        "%Y-%m-%d %H:%M"
        + (":%S" if time and time.count(":") == 2 else "")
        + (".%f" if time and "." in time else "")
        + ("%z" if offset else ""),
    )
    return (moment if offset else moment.astimezone()).astimezone(timezone.utc)


def _words(flag: str, given: Sequence[str]) -> list[str]:
    """Return the values of a flag that may be repeated, and separates values by commas."""
    words = []
    for text in given:
        found = [word for part in text.split(",") if (word := part.strip())]
        if not found:
            raise _invalid(flag, f'expected a value, got "{shortened(text)}"', f"write: {flag}={_EXAMPLES[flag]}")
        words += found
    return words


_EXAMPLES = {
    "--state": "failed,stopped",
    "--job": "41,42",
    "--cause": "oom,timeout",
    "--retry_on": "preempted,infrastructure",
}
_NOUNS = {"--state": "state", "--cause": "cause", "--retry_on": "cause"}


def _choices(flag: str, given: Sequence[str], meanings: Mapping[str, _Value], shown: Sequence[str]) -> list[_Value]:
    found = []
    for word in _words(flag, given):
        meaning = meanings.get(word.lower().replace("-", "_").replace(" ", "_"))
        if meaning is None:
            near = closest(word, shown) or closest(word, meanings)
            hint = f"did you mean {near}?" if near else f"use one of: {', '.join(shown)}"
            raise _invalid(flag, f'unknown {_NOUNS[flag]} "{shortened(word)}"', hint)
        found.append(meaning)
    return found


def _job_id(word: str) -> int:
    digits = word.removeprefix("#")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_ID_DIGITS and int(digits)):
        raise _invalid(
            "--job", f'expected the id of a job, got "{shortened(word)}"', "caliban status shows them: --job 41"
        )
    return int(digits)


def _match(text: str) -> Match:
    key, equals, value = text.partition("=")
    if not equals or not key.strip().strip("-"):
        raise _invalid("--match", f'expected KEY=VALUE, got "{shortened(text)}"', "write: --match lr=0.1")
    return Match(key.strip().lstrip("-"), value.strip())


def _typed(args: argparse.Namespace) -> tuple[str, ...]:
    words = [(f"--{name}", value) for name in ("state", "job", "cause", "match") for value in getattr(args, name)]
    if args.since is not None:
        words.append(("--since", args.since))
    return tuple(
        word for flag, value in words for word in ((f"{flag}={value}",) if value.startswith("-") else (flag, value))
    )


def _invalid(flag: str, message: str, hint: str) -> UsageError:
    return UsageError("invalid-value", f"{flag}: {message}", hint=hint)
