"""How a lower floor tells a person what is going on, without knowing of terminals.

``caliban.cli.console`` holds the real one; it goes down the floors as an argument.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Progress(Protocol):
    """Something that is under way and takes longer than a glance."""

    def advance(self, amount: int = 1) -> None:
        """Count ``amount`` more units as done."""

    def note(self, text: str) -> None:
        """Show in a few words what is being done just now."""


class Reporter(Protocol):
    """Everything goes to standard error, but for a job's own standard output."""

    def info(self, line: str) -> None:
        """Tell a line (or several)."""

    def warn(self, line: str) -> None:
        """Tell a line that must not be overlooked; ``warning: `` is put before it."""

    def job_output(self, data: bytes, *, is_stderr: bool) -> None:
        """Pass on what a job wrote, byte for byte, to the stream of the same kind."""

    def progress(self, title: str, *, total: int | None, unit: str) -> AbstractContextManager[Progress]:
        """A bar on a terminal, a line now and then elsewhere.

        Args:
            title: what is under way: ``build context``.
            total: how many units there are in all; None where nobody knows.
            unit: the unit's name in the singular (``job``), or ``B`` for bytes.
        """
