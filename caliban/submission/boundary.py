"""The boundary around the code of platforms: whatever it raises is one error, of the one thing that was attempted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar, overload

from caliban.errors import CalibanError, PlatformError
from caliban.records import PlatformId
from caliban.redaction import exception_text

INTERNAL_ERROR = "internal-error"
"""The id of an error that nobody foresaw."""

_A = TypeVar("_A")
_B = TypeVar("_B")


@contextmanager
def platform_errors(platform: PlatformId, action: str) -> Iterator[None]:
    """Raise unforeseen exceptions of the block as a :class:`~caliban.errors.CalibanError`; those pass as they are.

    Args:
        platform: whose code the block calls.
        action: what it does, for the message: ``look up a job``.

    Raises:
        PlatformError: ``internal-error``.
    """
    try:
        yield
    except CalibanError:
        raise
    except (Exception, SystemExit) as error:  # code of another package, or an answer that nobody expected
        raise PlatformError(
            INTERNAL_ERROR,
            f"the platform {platform} failed to {action}",
            cause=f"{type(error).__name__}: {exception_text(error)} ({_place(error.__traceback__)})",
            hint=f"this is a bug in caliban, or in the package that provides the platform {platform}: report it",
        ) from error


@overload
def expected(value: object, kind: type[_A], /) -> _A: ...


@overload
def expected(value: object, kind: type[_A], other: type[_B], /) -> _A | _B: ...


def expected(value: object, /, *kinds: type[object]) -> object:
    """Return what a platform returned, after a check of its type.

    Raises:
        TypeError: it is of another type; :func:`platform_errors` converts that.
    """
    if not isinstance(value, kinds):
        raise TypeError(f"expected {' or '.join(kind.__name__ for kind in kinds)}, got {type(value).__name__}")
    return value


def _place(traceback: TracebackType | None) -> str:
    """Return where an exception was raised: ``platform.py, line 12``."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return "at an unknown place"
    return f"{Path(traceback.tb_frame.f_code.co_filename).name}, line {traceback.tb_lineno}"
