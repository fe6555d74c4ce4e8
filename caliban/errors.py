"""Every way in which caliban can say no, and the exit codes that scripts depend on.

A :class:`CalibanError` is made where the fact is known and printed in ``caliban.main`` alone.
"""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class ExitCode(IntEnum):
    """What the process answers to a shell. ``docs/exit-codes.md`` lists them for people."""

    DONE = 0
    """Everything that was asked for is done, or there was nothing to do."""
    NOT_DONE = 1
    """Something that was asked for is not done; a job that failed is one of these."""
    USAGE = 2
    """The command line, or a file that it names, is wrong. Nothing was started."""
    INTERRUPTED = 130
    """Ctrl-C: 128 + SIGINT, as shells have it."""


class CalibanError(Exception):
    """A failure that a person can do something about.

    Attributes:
        id: a short name in kebab case that never changes, for scripts and for searching (``docker-unreachable``).
        message: one sentence that says what is not done.
        cause: what the failing part said in its own words, or None. May have several lines.
        hint: what to do about it, or None.
        exit_code: what the process ends with when this error ends it.
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
    """A platform cannot be reached, or refuses a job."""


def one_line(error: CalibanError) -> str:
    """Return an error in one line: its message, and the first line of its cause."""
    cause = (error.cause or "").strip().partition("\n")[0]
    return f"{error.message}: {cause}" if cause else error.message
