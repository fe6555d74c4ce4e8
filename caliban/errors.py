"""The errors that caliban reports, and the exit codes that scripts depend on.

A :class:`CalibanError` is raised where the failure is known, and printed only in ``caliban.main``.
"""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class ExitCode(IntEnum):
    """The exit codes of the process; documented in ``docs/exit-codes.md``."""

    DONE = 0
    """Everything that was requested is done, or there was nothing to do."""
    NOT_DONE = 1
    """Something that was requested is not done; this includes a job that failed."""
    USAGE = 2
    """The command line, or a file that it names, is wrong. Nothing was started."""
    TIMED_OUT = 3
    """The time for which the command was to wait has passed, and jobs have not ended."""
    HUNG_UP = 129
    """The terminal was closed: 128 + SIGHUP, as in shells."""
    INTERRUPTED = 130
    """Ctrl-C: 128 + SIGINT."""
    TERMINATED = 143
    """``kill``: 128 + SIGTERM."""


class QuietInterrupt(KeyboardInterrupt):
    """Ctrl-C in a command that has no other end: there is nothing to report."""


class CalibanError(Exception):
    """A failure that is reported to the user.

    Attributes:
        id: a short name in kebab case that never changes, for scripts and for searching (``docker-unreachable``).
        message: what failed, in one line.
        cause: the original error message, which may have several lines, or None.
        hint: what to do: a command or an imperative sentence, or None.
        exit_code: the exit code of a process that this error ends.
    """

    exit_code = ExitCode.NOT_DONE

    def __init__(self, id: str, message: str, *, cause: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.id = id
        self.message = message
        self.cause = cause
        self.hint = hint


class UsageError(CalibanError):
    """The command line or a file that it names is wrong."""

    exit_code = ExitCode.USAGE


class StoreError(CalibanError):
    """The experiment store cannot be opened, read or written."""


class ImageError(CalibanError):
    """A container image cannot be built, found or pushed."""


class PlatformError(CalibanError):
    """A platform cannot be reached, or refused a job."""

    @property
    def is_permanent(self) -> bool:
        """Whether asking the platform again later cannot help until somebody changes something, such as a permission.

        False where that is not certain: what fails without a network may work again an hour later.
        """
        return False


def one_line(error: CalibanError) -> str:
    """Return an error in one line: its message, and the first line of its cause."""
    cause = (error.cause or "").strip().partition("\n")[0]
    return f"{error.message}: {cause}" if cause else error.message
