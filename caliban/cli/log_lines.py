r"""Format the output of jobs for ``caliban logs``. Does no I/O.

Where standard output is no terminal, bytes stay as they are. On a terminal, an output may be of anyone who writes to
the store, and of any time: colours and the erasing of a line are kept, and every other control is shown as an escape,
so that no output moves the cursor into other lines, sets the clipboard or sends answers to the shell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from caliban.causes import cause_of, exit_text, reason_of
from caliban.cli import render
from caliban.escapes import escaped
from caliban.outputs.line_choice import as_drawn, text_of
from caliban.records import ExperimentRecord, FailureCause, JobRecord, JobStatus, OutputLine

_HARMLESS = re.compile(r"(\x1b\[[0-9;:]*m|\x1b\[[0-2]?K)")
"""Colours and other styles (SGR), and the erasing of a line (EL): ECMA-48."""

_RESET = "\x1b[0m"
_COLOURS = tuple(f"\x1b[{number}m" for number in (36, 33, 35, 32, 34, 96, 93, 95, 92, 94))

_SAID_BY_OUTPUT = (FailureCause.CODE_ERROR, FailureCause.UNKNOWN, None)


def header(experiment: ExperimentRecord, job: JobRecord) -> str:
    """Return ``== job 41  train.py --lr 0.1 --seed 3  FAILED  exit code 1``."""
    parts = [f"== job {job.id}", render.command_line(experiment), str(job.status)]
    reason = _reason(job)
    return "  ".join([*parts, reason] if reason else parts)


def _reason(job: JobRecord) -> str | None:
    """Return why a job is in its state, without what its output says."""
    if job.refresh_error:
        return f"last known state; {job.refresh_error}"
    if job.status is JobStatus.FAILED and cause_of(job) in _SAID_BY_OUTPUT:
        return exit_text(job)
    return reason_of(replace(job, output_error=None))


def prefixes(jobs: Sequence[JobRecord], *, with_colour: bool) -> list[str]:
    """Return ``job 41 | `` for each job, all of the same width."""
    width = max((len(str(job.id)) for job in jobs), default=0)
    plain = [f"job {job.id:<{width}} | " for job in jobs]
    if not with_colour:
        return plain
    return [f"{_COLOURS[index % len(_COLOURS)]}{text}{_RESET}" for index, text in enumerate(plain)]


def moment_text(time: datetime) -> str:
    """Return a time in UTC, to the millisecond: ``2026-11-25T02:10:13.250Z``."""
    try:
        time = time.astimezone(timezone.utc)
    except (OverflowError, ValueError):  # a year that no machine has seen
        return str(time)
    return f"{time.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


@dataclass(frozen=True)
class LineStyle:
    """How the lines of one job are shown.

    Attributes:
        prefix: what is put in front of each; may be empty.
        with_times: whether the time is put in front, where it is known.
        is_terminal: whether a terminal shows them.
    """

    prefix: str = ""
    with_times: bool = False
    is_terminal: bool = False

    def shown(self, line: OutputLine) -> bytes:
        r"""Return a line as it is written; without anything in front, that is the line as the job wrote it.

        Of a progress bar, which would be drawn over what is in front, only what it shows in the end is left.
        """
        before = self.prefix
        if self.with_times and line.time is not None:
            before += f"{moment_text(line.time)} "
        if line.source is not None:
            before += f"{escaped(line.source)} | "
        if not before:
            return self._safe(line.data)
        drawn = as_drawn(line).data.removesuffix(b"\n")
        if self.is_terminal:
            drawn = safe_text(text_of(drawn)).encode("utf-8", "backslashreplace")
            drawn += _RESET.encode() if b"\x1b" in drawn else b""
        return before.encode("utf-8", "backslashreplace") + drawn + b"\n"

    def _safe(self, data: bytes) -> bytes:
        if not self.is_terminal or (data.isascii() and data.rstrip(b"\r\n").decode().isprintable()):
            return data
        return safe_text(data.decode("utf-8", "backslashreplace")).encode("utf-8", "backslashreplace")


def safe_text(text: str) -> str:
    """Return text with escapes for what a terminal would act on, but for colours, line breaks and tabs."""
    parts = _HARMLESS.split(text)
    return "".join(part if index % 2 else escaped(part, keep="\n\r\t") for index, part in enumerate(parts))
