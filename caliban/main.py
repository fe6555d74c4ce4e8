"""The process: parse, dispatch, exit code. The only place where an error becomes a message."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from absl import app
from absl import logging as absl_logging

from caliban.cli.command_line import parse
from caliban.cli.console import Console
from caliban.cli.context import Context
from caliban.errors import CalibanError, ExitCode


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the command that was parsed, and return the exit code for whatever ends it."""
    _silence_libraries()
    # SIGTERM, like Ctrl-C, lets a command finish what it is recording.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return int(args.command_module.run(args, Context.of_this_process(console)))
    except CalibanError as error:
        console.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        console.info("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return ExitCode.NOT_DONE


def _discard_output() -> None:
    """Write no more to a closed pipe: ``caliban status | head``."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _silence_libraries() -> None:
    """Hide the warnings and log messages of libraries; caliban reports errors itself."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    absl_logging.get_absl_handler().setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.getLogger().setLevel(logging.ERROR)


def main() -> NoReturn:
    """Entry point of the command ``caliban``."""
    console = Console()

    def parse_flags(argv: Sequence[str]) -> argparse.Namespace:
        try:
            return parse(argv, console)
        except CalibanError as error:
            console.error(error)
            sys.exit(error.exit_code)
        except BrokenPipeError:  # while help is printed; from Python 3.11 argparse handles that itself
            _discard_output()
            sys.exit(ExitCode.DONE)

    app.run(lambda args: run(args, console), flags_parser=parse_flags)
    raise AssertionError("absl.app.run ends the process")
