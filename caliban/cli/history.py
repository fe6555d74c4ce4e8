"""Format the history of experiments as lines of text. Does no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from caliban.causes import reason_of
from caliban.cli.render import short_image, tree_lines
from caliban.durations import duration_text
from caliban.history import Attempt, Change, Resources, ResourcesOf, history_of
from caliban.records import ExperimentRecord, GroupRecord

_MAX_CHANGES = 4
_DATE_WIDTH = 19


def history_lines(
    group: GroupRecord,
    home: Path,
    now: datetime,
    max_attempts: int | None,
    resources_of: ResourcesOf = lambda job: Resources(),
) -> Iterator[str]:
    """Format all attempts of each experiment of a group, one line each.

    Args:
        group: with all attempts.
        home: the user's home directory.
        now: with a time zone.
        max_attempts: how many of each experiment, the most recent ones; None for all.
        resources_of: knows the resources of jobs.
    """
    attempts = {each.experiment.id: each.attempts for each in history_of(group, now, resources_of)}

    def below(experiment: ExperimentRecord) -> Iterator[str]:
        found = attempts[experiment.id]
        if experiment.origin is not None:
            yield f"parameters changed from experiment {experiment.origin}"
        if not found:
            yield "never run"
        for attempt in found[-max_attempts:] if max_attempts else found:
            yield attempt_line(attempt)

    return tree_lines(group, home, below)


def attempt_line(attempt: Attempt) -> str:
    """Return ``attempt 2  job 41 FAILED LOCAL 2026-11-25 02:10:13  1m 05s  sha256:85e2...  by mei  changed: image``."""
    job = attempt.job
    parts = [
        f"attempt {attempt.number}  job {job.id:<8d} {job.status:9s} {job.platform:>8s} {_start(attempt)}",
        f"{_duration(attempt):9s}",
        short_image(job.container),
        f"by {job.user}" if job.user else "",
        _changes("changed", attempt.changes),
        _changes("resources", attempt.resources),
    ]
    if job.details.display_name:
        parts.append(f"name: {job.details.display_name}")
    remarks = [reason] if (reason := reason_of(job)) else []
    if job.refresh_error:
        remarks.append(f"last known state; {job.refresh_error}")
    if remarks:
        parts.append(f"({', '.join(remarks)})")
    return "  ".join(part for part in parts if part)


def _start(attempt: Attempt) -> str:
    """Return when a job started, in the local time zone; when it was submitted, where that is not known."""
    started = attempt.job.details.started
    try:
        moment = attempt.job.created if started is None else started.astimezone()
        return f"{moment:%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):  # a year that no machine has seen
        return str(started)[:_DATE_WIDTH]


def _duration(attempt: Attempt) -> str:
    if attempt.seconds is None:
        return "-"
    return duration_text(attempt.seconds) + ("" if attempt.job.status.is_final else "+")


def _changes(what: str, changes: Sequence[Change]) -> str:
    texts = [change.text for change in changes]
    if len(texts) > _MAX_CHANGES:
        texts[_MAX_CHANGES:] = [f"{len(texts) - _MAX_CHANGES} more"]
    return f"{what}: {', '.join(texts)}" if texts else ""
