"""The process: parse, dispatch, exit code. The only place where an error becomes a message.

Everything is imported inside of :func:`main`, so that whatever an import raises is reported too, and Ctrl-C works from
the start.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import argparse
    import threading

    from caliban.cli.console import Console
    from caliban.cli.context import Context
    from caliban.cli.signals import ReceivedSignals
    from caliban.cli.streams import StandardStreams
    from caliban.errors import CalibanError

_PATIENCE = 1.0
"""Seconds that an interrupted command waits for a reader of its output that does not read."""


def main() -> NoReturn:
    """Entry point of the command ``caliban``."""
    code, signals = 1, None
    try:
        from caliban.cli.signals import ReceivedSignals
        from caliban.cli.streams import secure_standard_streams

        streams = secure_standard_streams()
        signals = ReceivedSignals()
        code = _Process(streams, signals).run(sys.argv)
    except KeyboardInterrupt:  # before the command began, just as it had ended, or while another one was handled
        code = 130 if signals is None else signals.exit_code
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - even the report failed: say so in the simplest way there is
        _report_without_console(error)
    sys.exit(code)


def _report_without_console(error: BaseException) -> None:
    import contextlib
    import os

    with contextlib.suppress(OSError):
        os.write(2, f"error: unexpected {type(error).__name__} [internal-error]\n".encode())


class _Process:
    """The process of one command.

    Args:
        streams: what the standard streams were replaced by.
        signals: the signals that this process has received.
    """

    def __init__(self, streams: StandardStreams, signals: ReceivedSignals) -> None:
        from caliban.cli.console import Console

        self._streams = streams
        self._signals = signals
        self._console: Console = Console(wait_for_input=signals.wait_for_input)
        self._args: argparse.Namespace | None = None
        self._context: Context | None = None
        self._has_failed = False
        self._error: CalibanError | None = None

    def run(self, argv: Sequence[str]) -> int:
        """Run a command line, wait until its output is written, and return the exit code."""
        import threading

        threading.excepthook = self._report_failed_thread
        sys.unraisablehook = self._report_ignored
        code = self._result(lambda: self._dispatch(argv))
        code = 1 if self._has_failed and code == 0 else code
        was_interrupted = self._signals.first is not None
        self._signals.end_process_at_the_next()
        code = self._write_document(code)
        failure = self._streams.finish(_PATIENCE if was_interrupted else None)
        if failure is not None:
            code = self._report_lost_output(failure, code)
        return 1 if self._has_failed and code == 0 else code

    def _write_document(self, code: int) -> int:
        """Write the document of ``--json``, that of an error where it cannot be made, and return the exit code."""

        def write() -> int:
            self._console.write_document(code, self._error)
            return code

        result = self._result(write)
        self._console.write_document(result, self._error, has_failed=True)
        return result

    def _dispatch(self, argv: Sequence[str]) -> int:
        """Parse the command line, and run the command. absl provides flags for debugging and profiling."""
        from absl import app

        from caliban.cli.command_line import asks_for_document, parse

        def parse_flags(arguments: Sequence[str]) -> argparse.Namespace:
            self._console.writes_document = asks_for_document(arguments)
            self._args = parse(arguments, self._console)
            self._console.writes_document = getattr(self._args, "as_json", False)
            if self._console.writes_document:
                self._streams.reserve_stdout()  # whatever a library prints is not part of the document
            return self._args

        app.run(self._run_command, argv=list(argv), flags_parser=parse_flags)
        raise AssertionError("absl.app.run ends the process")

    def _run_command(self, args: argparse.Namespace) -> int:
        from caliban.cli.context import Context
        from caliban.cli.library_messages import silence_libraries

        silence_libraries(self._console)
        self._context = Context.of_this_process(self._console)
        return int(args.command_module.run(args, self._context) or 0)

    def _result(self, run: Callable[[], int]) -> int:
        """Return the exit code for whatever ends ``run``."""
        from caliban.errors import CalibanError, QuietInterrupt

        try:
            return run()
        except SystemExit as ended:
            return self._code_of(ended)
        except CalibanError as error:
            self._error = error
            self._console.error(error)
            return error.exit_code
        except QuietInterrupt:
            return self._signals.exit_code
        except KeyboardInterrupt:
            self._error = CalibanError("interrupted", "interrupted")
            self._console.info("interrupted")
            return self._signals.exit_code
        except BaseException as error:  # noqa: BLE001 - the last resort: no traceback reaches the user
            return self._report(error)

    def _code_of(self, ended: SystemExit) -> int:
        if self._context is None:  # help was shown
            self._console.writes_document = False
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        self._console.info(str(ended.code))
        return 1

    def _report(self, error: BaseException) -> int:
        """Report an unforeseen error, and what is known of jobs under way."""
        from caliban.cli.internal_error import internal_error

        reported = internal_error(error, self._under_way(), getattr(self._args, "command_plugin", None))
        self._error = self._error or reported
        self._console.error(reported)
        return reported.exit_code

    def _under_way(self) -> Sequence[str]:
        """Return what the command knows of submissions that may be under way."""
        describe = getattr(getattr(self._args, "command_module", None), "describe_under_way", None)
        if describe is None or self._context is None:
            return ()
        try:
            lines: Sequence[str] = describe(self._context)
        except Exception as error:  # noqa: BLE001 - the error that is being reported may have broken anything
            return (f"submissions that may be under way cannot be listed: {type(error).__name__}",)
        return lines

    def _report_failed_thread(self, failed: threading.ExceptHookArgs) -> None:
        if failed.exc_value is not None and not isinstance(failed.exc_value, SystemExit):
            self._has_failed = True
            self._report(failed.exc_value)

    def _report_ignored(self, ignored: sys.UnraisableHookArgs) -> None:
        """Report, in one line, an error that Python cannot raise: while it deletes an object, or ends."""
        from caliban.cli.internal_error import error_text

        if ignored.exc_value is not None and not isinstance(ignored.exc_value, KeyboardInterrupt):
            self._console.warn(f"ignored an error that could not be raised: {error_text(ignored.exc_value)}")

    def _report_lost_output(self, failure: OSError, code: int) -> int:
        """Report that standard output could not be written, and return the exit code."""
        message = f"cannot write to standard output: {failure.strerror}"
        if getattr(getattr(self._args, "command_module", None), "CHANGES_JOBS", False) and not self._is_dry_run():
            self._console.warn(f"{message}; to list the jobs, run: caliban status")
            return code  # that of the jobs: a script must not run them again because of a full disk
        self._console.info(f"error: {message} [output-failed]")
        return code or 1

    def _is_dry_run(self) -> bool:
        return bool(getattr(self._args, "dry_run", False))
