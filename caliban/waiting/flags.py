"""The flags of the commands that submit, and then wait. Imports nothing heavy: ``--help`` pays for it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from caliban.errors import UsageError
from caliban.platforms.flags import duration


@dataclass(frozen=True)
class WaitOptions:
    """How a command waits for the jobs that it has submitted.

    Attributes:
        timeout: the longest time in seconds; None for as long as it takes.
    """

    timeout: float | None = None


def add_wait_flags(parser: argparse.ArgumentParser, *, waits_anyway: bool = False) -> None:
    """Add ``--wait`` and ``--wait_timeout``.

    Args:
        parser: of the command.
        waits_anyway: whether the command waits for most jobs without these flags.
    """
    what = (
        "wait also for jobs that run in the background (--detach)" if waits_anyway else "wait until the jobs have ended"
    )
    parser.add_argument(
        "--wait",
        action="store_true",
        help=f"{what}: exit with 0 if all succeeded, with 1 if some did not; Ctrl-C then stops none of them",
    )
    parser.add_argument(
        "--wait_timeout",
        type=duration,
        metavar="TIME",
        help="with --wait, the longest time to wait: 24h, 90m, 1h30m, or a number of seconds; the exit code is then 3, "
        "and the jobs run on",
    )


def wait_options(args: argparse.Namespace) -> WaitOptions | None:
    """Return how to wait; None where the command does not.

    Raises:
        UsageError: ``wrong-usage``: a flag needs ``--wait``.
    """
    if args.wait:
        return WaitOptions(args.wait_timeout)
    if args.wait_timeout is not None:
        raise UsageError("wrong-usage", "--wait_timeout needs --wait", hint="add --wait")
    return None
