"""What libraries warn of and log: hidden, or shown as one line each, and never with a traceback."""

from __future__ import annotations

import logging
import sys
import warnings

from absl import logging as absl_logging

from caliban.cli.console import Console
from caliban.redaction import clean_text


class _ConsoleHandler(logging.Handler):
    """Shows log messages of libraries as lines of the console."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.ERROR)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Show a message in one line, without secrets; the traceback that some libraries attach is left out."""
        message = " ".join(clean_text(_message(record)).split())
        self._console.info(f"{record.name}: {message}")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - the arguments do not fit the message, or cannot be formatted
        return str(record.msg)


def silence_libraries(console: Console) -> None:
    """Hide the warnings of libraries, and all log messages but errors; caliban reports errors itself."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    root = logging.getLogger()
    root.removeHandler(absl_logging.get_absl_handler())
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler, _ConsoleHandler)]
    root.addHandler(_ConsoleHandler(console))
    root.setLevel(logging.ERROR)
