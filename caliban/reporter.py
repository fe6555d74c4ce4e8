"""The interface by which lower layers report progress to the user; ``caliban.cli.console`` implements it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Progress(Protocol):
    """The progress of an operation that takes more than a moment."""

    def advance(self, amount: int = 1) -> None:
        """Count ``amount`` more units as done."""

    def note(self, text: str) -> None:
        """Show, in a few words, the current step."""


class Reporter(Protocol):
    """Writes to standard error, except for a job's standard output."""

    def info(self, *lines: str) -> None:
        """Write lines. Line breaks within a line are escaped."""

    def warn(self, line: str) -> None:
        """Write a line with the prefix ``warning: ``."""

    def job_output(self, data: bytes, *, is_stderr: bool) -> None:
        """Pass on a job's output to the same standard stream; an empty piece ends it."""

    def progress(self, title: str, *, total: int | None, unit: str) -> AbstractContextManager[Progress]:
        """Show a bar on a terminal, or a line every few seconds elsewhere.

        Args:
            title: the operation: ``build context``.
            total: the number of units; None if it is unknown.
            unit: the name of the unit, in the singular (``job``), or ``B`` for bytes.
        """
