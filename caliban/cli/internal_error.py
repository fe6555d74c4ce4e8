"""An error that nobody foresaw: a file with its traceback, and an error like any other that names the file."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from caliban.clock import SystemClock
from caliban.errors import CalibanError
from caliban.redaction import escape_controls, exception_text, hide_secrets

_MAX_TEXT = 300
_MAX_TRACEBACK = 100_000
_MIN_SECRET = 4
_PREFIX = "caliban-error-"
_SECRET_NAMES = ("TOKEN", "PASSWORD", "PASSWD", "SECRET", "KEY", "CREDENTIAL")


def internal_error(error: BaseException, under_way: Sequence[str] = (), plugin: str | None = None) -> CalibanError:
    """Save the traceback, and return the error to report.

    Args:
        error: what was raised.
        under_way: lines about submissions that may be under way, and how to look them up.
        plugin: the package whose command was running; None for a command of ours.
    """
    saved = save_traceback(error)
    where = f"traceback: {saved}" if saved else "the traceback could not be saved: no directory is writable"
    cause = "\n".join((error_text(error), where, *under_way))
    if plugin is not None:
        hint = f"update or remove the package {plugin}, or report the traceback to its authors"
        return CalibanError("broken-plugin", f"a command of the package {plugin} failed", cause=cause, hint=hint)
    return CalibanError(
        "internal-error",
        f"unexpected {type(error).__name__}",
        cause=cause,
        hint="report it with the traceback" if saved else "set $TMPDIR to a writable directory, and try again",
    )


def error_text(error: BaseException) -> str:
    """Return the type of an error and what it says, in one line of bounded length, without secrets."""
    name, text = type(error).__name__, exception_text(error, _secrets(), limit=_MAX_TEXT)
    return name if text == name else f"{name}: {text}"


def save_traceback(error: BaseException) -> Path | None:
    """Write a traceback, without secrets, to a file that only its owner can read; return None where that fails."""
    text = f"{SystemClock().now():%Y-%m-%d %H:%M:%S} Python {sys.version.split()[0]}\n{_formatted(error)}"
    data = _redacted(text).encode("utf-8", "backslashreplace")
    for directory in _directories():
        try:
            descriptor, name = tempfile.mkstemp(".txt", _PREFIX, directory)  # mode 0600
        except OSError:
            continue
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
        except OSError:  # the disk is full: try the next one
            Path(name).unlink(missing_ok=True)
            continue
        return Path(name)
    return None


def _formatted(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - an error that cannot be formatted still has a place
        return "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__


def _directories() -> Iterable[str]:
    """Yield where a file may be written: that for temporary files, the home directory, memory."""
    with suppress(OSError):  # none is writable, or the current directory does not exist
        yield tempfile.gettempdir()
    yield str(Path("~").expanduser()) if "HOME" in os.environ else "/"
    yield "/dev/shm"


def _redacted(text: str) -> str:
    """Return a traceback without secrets and control characters; of a very long one, the whole lines at its start."""
    if len(text) > _MAX_TRACEBACK:
        text = text[:_MAX_TRACEBACK].rpartition("\n")[0] + "\n"  # half a secret would not be recognized
    return escape_controls(hide_secrets(text, _secrets()))


def _secrets() -> list[str]:
    named = (value for name, value in os.environ.items() if any(word in name.upper() for word in _SECRET_NAMES))
    return [value for value in named if len(value) >= _MIN_SECRET]
