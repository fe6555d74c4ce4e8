"""Count the experiments of a group by state, and the failed ones by cause. Pure: it reads records only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from caliban.causes import cause_of, exit_text, reason_of
from caliban.records import ExperimentRecord, FailureCause, JobRecord, JobStatus, Outcome

NEVER_RUN = "never run"
NOT_SUBMITTED = "not submitted"
NOT_STARTED = "not started"

_ORDER = (
    *(status.value.lower() for status in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)),
    *(status.value.lower() for status in (JobStatus.RUNNING, JobStatus.SUBMITTED, JobStatus.UNKNOWN)),
    NEVER_RUN,
    NOT_SUBMITTED,
    NOT_STARTED,
)
_NAMED_BY_CAUSE = frozenset({FailureCause.OUT_OF_MEMORY, FailureCause.TIMEOUT, FailureCause.PREEMPTED})
_WITHOUT_OUTPUT = frozenset({FailureCause.REFUSED})
"""Causes of failures before the job ran."""

_OMITTED = "..."
_VALUE = re.compile(r"""'[^']*'|"[^"]*"|\S*\d\S*""")
_MOST_MESSAGES = 5
"""Messages of one cause and exit code that are counted apart."""


@dataclass(frozen=True)
class CauseCount:
    """Failed jobs that have the same cause, and the same exception where there is one.

    Attributes:
        cause: why they failed.
        error_type: the type of the exception; None where none is known.
        frame: the innermost frame inside the project; None where none is known.
        text: what they have in common, in one line; may be empty.
        job_ids: ``jobs.id`` of each, in the order of the experiments.
    """

    cause: FailureCause
    error_type: str | None
    frame: str | None
    text: str
    job_ids: tuple[int, ...]


@dataclass(frozen=True)
class Summary:
    """The states of experiments, each by its latest job.

    Attributes:
        counts: the number of experiments by state, in the order in which states are shown: those of
            :class:`JobStatus` in lower case, then ``never run``, ``not submitted``, ``not started``. None is 0.
        causes: of the failed ones, the most frequent first.
        has_output: whether there are failed jobs that may have written something.
        can_rerun: whether ``resubmit`` would take some of the experiments.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    causes: tuple[CauseCount, ...] = ()
    has_output: bool = False
    can_rerun: bool = False

    @property
    def experiments(self) -> int:
        """The number of experiments."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class GroupCounts:
    """One experiment group in the list of groups.

    Attributes:
        name: its name.
        counts: as in :class:`Summary`, by the recorded states.
        last: when its newest job was submitted, naive local time; None where none was.
    """

    name: str
    counts: Mapping[str, int]
    last: datetime | None

    @property
    def experiments(self) -> int:
        """The number of experiments."""
        return sum(self.counts.values())


def ordered(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counts that are not 0, in the order in which states are shown."""
    return {state: counts[state] for state in _ORDER if counts.get(state)}


def summary_of(experiments: Iterable[ExperimentRecord]) -> Summary:
    """Summarize experiments by the latest of their jobs."""
    found = list(experiments)
    latest = [each.latest for each in found if each.latest]
    counts = Counter(each.latest.status.value.lower() if each.latest else NEVER_RUN for each in found)
    return _summary(counts, latest, can_rerun=_can_rerun(found))


def outcomes_summary(outcomes: Sequence[Outcome], not_started: int = 0) -> Summary:
    """Summarize the attempts of a command.

    Args:
        outcomes: one for each attempt.
        not_started: the number of attempts that were planned but not started.
    """
    jobs = [outcome.job for outcome in outcomes if outcome.job]
    counts = Counter(outcome.job.status.value.lower() if outcome.job else NOT_SUBMITTED for outcome in outcomes)
    counts[NOT_STARTED] += not_started
    has_more = bool(counts[NOT_SUBMITTED] or not_started)
    can_rerun = any(job.status.is_rerunnable for job in jobs) or bool(jobs and has_more)
    return _summary(counts, jobs, can_rerun=can_rerun)


def _summary(counts: Mapping[str, int], jobs: Sequence[JobRecord], *, can_rerun: bool) -> Summary:
    causes = _causes(job for job in jobs if job.status is JobStatus.FAILED)
    return Summary(
        ordered(counts),
        causes,
        has_output=any(each.cause not in _WITHOUT_OUTPUT for each in causes),
        can_rerun=can_rerun,
    )


def _can_rerun(experiments: Sequence[ExperimentRecord]) -> bool:
    """Return whether one was not successful, or was never run and can run as another one of its container spec did."""
    with_jobs = {each.container.id for each in experiments if each.latest}
    return any(
        each.latest.status.is_rerunnable if each.latest else each.container.id in with_jobs for each in experiments
    )


def _causes(failed: Iterable[JobRecord]) -> tuple[CauseCount, ...]:
    alike: dict[tuple[object, ...], list[JobRecord]] = {}
    for job in failed:
        alike.setdefault(_kind(job), []).append(job)
    counted = [_counted(jobs) for found in alike.values() for jobs in _split(found)]
    return tuple(sorted(counted, key=lambda each: (-len(each.job_ids), each.cause.value, each.text)))


def _kind(job: JobRecord) -> tuple[object, ...]:
    """Return what jobs have in common that are counted together. The message is not part of it: it may have numbers."""
    error = _exception(job)
    if error is not None:
        return (cause_of(job), *error)
    return cause_of(job), job.details.exit.code if job.details.exit else None


def _split(jobs: list[JobRecord]) -> list[list[JobRecord]]:
    """Split jobs without an exception by their messages, without numbers and quoted values; not into many groups."""
    if _exception(jobs[0]) is not None:
        return [jobs]
    by_message: dict[str, list[JobRecord]] = {}
    for job in jobs:
        by_message.setdefault(_VALUE.sub("", reason_of(job) or ""), []).append(job)
    return list(by_message.values()) if len(by_message) <= _MOST_MESSAGES else [jobs]


def _exception(job: JobRecord) -> tuple[str, str | None] | None:
    error = job.output_error
    return (error.type, error.frame) if error is not None and error.type else None


def _counted(jobs: Sequence[JobRecord]) -> CauseCount:
    cause, exception = cause_of(jobs[0]) or FailureCause.UNKNOWN, _exception(jobs[0])
    ids = tuple(job.id for job in jobs)
    if exception is None:
        return CauseCount(cause, None, None, common_text([_words(job, cause) for job in jobs]), ids)
    kind, frame = exception
    message = common_text([job.output_error.message if job.output_error else "" for job in jobs])
    text = f"{kind}: {message}" if message else kind
    return CauseCount(cause, kind, frame, f"{text} ({frame})" if frame else text, ids)


def _words(job: JobRecord, cause: FailureCause) -> str:
    """Return the reason of a job without its cause, which is shown beside it."""
    if cause in _NAMED_BY_CAUSE:
        return exit_text(job) or job.details.reason or ""
    return reason_of(job) or ""


def common_text(texts: Sequence[str]) -> str:
    """Return what texts have in common, with ``...`` where they differ: ``loss is nan at step ...``."""
    different = list(dict.fromkeys(texts))
    if len(different) == 1:
        return different[0]
    words = [text.split() for text in different]
    if len({len(each) for each in words}) == 1:
        same = [row[0] if len(set(row)) == 1 else _OMITTED for row in zip(*words, strict=True)]
    else:
        shared = 0
        while all(len(each) > shared for each in words) and len({each[shared] for each in words}) == 1:
            shared += 1
        same = [*words[0][:shared], _OMITTED]
    if all(word == _OMITTED for word in same):
        return ""
    return " ".join(word for index, word in enumerate(same) if word != _OMITTED or same[:index][-1:] != [_OMITTED])
