"""Why a job ended as it did, in the same words for all platforms. Pure: it reads records only.

docs/causes.md describes each cause for users.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from caliban.records import FailureCause, JobExit, JobRecord, JobStatus, OutputError

_SIGNALS = tuple(
    f"SIG{name}"
    for name in (
        *("HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM"),
        *("TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF"),
        *("WINCH", "IO", "PWR", "SYS"),
    )
)
"""Those of Linux, where containers run, from 1 on (signal(7)). Other systems number some of them otherwise."""

_FIRST_SIGNAL_CODE = 129

_WORDS: Mapping[FailureCause, str] = {
    FailureCause.OUT_OF_MEMORY: "out of memory",
    FailureCause.TIMEOUT: "timed out",
    FailureCause.PREEMPTED: "preempted",
    FailureCause.IMAGE: "image not usable",
    FailureCause.REFUSED: "refused",
    FailureCause.INFRASTRUCTURE: "infrastructure failure",
}
"""What is said of a cause; the others are said by the exit code and the output."""

_NAMED_FIRST = frozenset({FailureCause.OUT_OF_MEMORY, FailureCause.TIMEOUT, FailureCause.PREEMPTED})
"""The causes that are named even where the platform says more: each platform has a word of its own for them."""

_REFINED = frozenset({FailureCause.CODE_ERROR, FailureCause.UNKNOWN})
"""The causes for which the output may know better than the platform."""

_MEMORY_TYPES = frozenset({"OutOfMemoryError", "MemoryError", "_ArrayMemoryError", "std::bad_alloc", "bad_alloc"})
_MEMORY_WORDS = re.compile(
    r"out of memory|\bOOM\b|std::bad_alloc|can(?:no|')t allocate (?:memory|vector of size)|\[Errno 12\]"
    r"|[a-z]+_STATUS_ALLOC_FAILED|failed to allocate memory|OutOfMemory",
    re.IGNORECASE,
)
_MAX_SEARCHED = 2000

# What platforms write of an exit code in their messages: "exit code 1: oops", "OOMKilled, exit code 137".
_WITH_CODE = re.compile(r"(?:(?P<name>[\w. -]{1,80}?), )?exit code -?\d{1,9}(?:\s*\(SIG\w+\))?(?:[:,;] *|$)")
_NAME = re.compile(r"[A-Z]\w*")


def signal_name(code: int) -> str | None:
    """Return the signal that an exit code stands for: ``SIGKILL`` for 137, as shells count, or -9, as Python does."""
    number = -code if code < 0 else code - _FIRST_SIGNAL_CODE + 1
    return _SIGNALS[number - 1] if 1 <= number <= len(_SIGNALS) else None


def exit_text(job: JobRecord) -> str | None:
    """Return the exit code of a job with its signal: ``exit code 137 (SIGKILL)``; None where it is not known."""
    code = job.details.exit.code if job.details.exit else None
    if code is None:
        return None
    signal = signal_name(code)
    return f"exit code {code} ({signal})" if signal else f"exit code {code}"


def cause_of(job: JobRecord) -> FailureCause | None:
    """Return why a job ended: what its platform reported, refined by the last error in its output.

    Returns:
        None for a job that succeeded, or has not ended.
    """
    found = job.details.exit or JobExit()
    if job.status is JobStatus.STOPPED:
        return FailureCause.STOPPED
    if job.status is JobStatus.UNKNOWN:
        return found.cause
    if job.status is not JobStatus.FAILED:
        return None
    cause = found.cause or (FailureCause.CODE_ERROR if found.code else FailureCause.UNKNOWN)
    error = job.output_error
    if cause not in _REFINED or error is None:
        return cause
    if _is_about_memory(error):
        return FailureCause.OUT_OF_MEMORY
    return FailureCause.CODE_ERROR if error.type else cause


def reason_of(job: JobRecord) -> str | None:
    """Return why a job is in its state, in one line; None where there is nothing to say.

    Of a failed job, what failed and the exit code come first, then the last error in its output, or the platform's
    words: ``exit code 1: ValueError: loss is nan``, ``out of memory, exit code 137 (SIGKILL)``. Of another one, the
    platform's words.
    """
    if job.status is not JobStatus.FAILED:
        return job.details.reason
    reported = (job.details.exit or JobExit()).cause or FailureCause.UNKNOWN
    message, error = _without_code(job.details.reason), job.output_error.text if job.output_error else None
    code = exit_text(job)
    if reported in _REFINED:
        return _joined([code], error or message)
    words = _WORDS.get(reported)
    if message is None or (reported in _NAMED_FIRST and _repeats(message, words)):
        return _joined([words, code], None)
    return _joined([words if reported in _NAMED_FIRST else None, code], message)


def _joined(parts: list[str | None], detail: str | None) -> str | None:
    head = ", ".join(part for part in parts if part)
    return ": ".join(part for part in (head, detail) if part) or None


def _repeats(message: str, words: str | None) -> bool:
    """Return whether a message is only the platform's word for a cause (``OOMKilled``), or ours."""
    return message.lower() == words or _NAME.fullmatch(message) is not None


def _without_code(message: str | None) -> str | None:
    """Return a platform's message without the exit code in it, which is shown anyway; None where nothing is left."""
    found = _WITH_CODE.match(message) if message else None
    if message is None or found is None:
        return message or None
    rest = message[found.end() :]
    return ": ".join(part for part in (found["name"], rest) if part) or None


def _is_about_memory(error: OutputError) -> bool:
    name = (error.type or "").rpartition(".")[2]
    return name in _MEMORY_TYPES or _MEMORY_WORDS.search(error.message[:_MAX_SEARCHED]) is not None
