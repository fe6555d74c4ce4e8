"""The flags of the commands that submit, and then wait. Imports nothing heavy: ``--help`` pays for it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from caliban.cli.selection import parse_causes
from caliban.errors import UsageError
from caliban.platforms.flags import duration, integer_at_least
from caliban.records import FailureCause

RETRY_ON = frozenset({FailureCause.PREEMPTED, FailureCause.INFRASTRUCTURE})
"""The causes that are neither the program's fault nor the user's wish, and that may be gone the next time."""


@dataclass(frozen=True)
class WaitOptions:
    """How a command waits for the jobs that it has submitted.

    Attributes:
        timeout: the longest time in seconds; None for as long as it takes.
        retries: how often the job of an experiment is submitted again.
        retry_on: after which causes of its end.
        max_parallel: how many jobs are unfinished at a time; None for no limit.
    """

    timeout: float | None = None
    retries: int = 0
    retry_on: frozenset[FailureCause] = RETRY_ON
    max_parallel: int | None = None


def add_wait_flags(parser: argparse.ArgumentParser, *, waits_anyway: bool = False) -> None:
    """Add ``--wait``, ``--wait_timeout``, ``--retries``, ``--retry_on`` and ``--max_parallel``.

    Args:
        parser: of the command.
        waits_anyway: whether the command waits for most jobs without these flags, which run one after the other.
    """
    what = "wait also for jobs in the background (--detach)" if waits_anyway else "wait until the jobs have ended"
    parser.add_argument("--wait", action="store_true", help=f"{what}; exit with 0 if all succeeded, else 1")
    parser.add_argument(
        "--wait_timeout",
        type=duration,
        metavar="TIME",
        help="with --wait, the longest time to wait: 24h, 90m; jobs run on then, and the exit code is 3",
    )
    parser.add_argument(
        "--retries",
        type=integer_at_least(1),
        metavar="N",
        help="with --wait, submit jobs again that ended for a cause of --retry_on, up to N times each, not rebuilt",
    )
    parser.add_argument(
        "--retry_on",
        action="append",
        default=[],
        metavar="CAUSE",
        help="for these causes (default preempted,infrastructure)",
    )
    if waits_anyway:
        parser.set_defaults(max_parallel=None)
        return
    parser.add_argument(
        "--max_parallel",
        type=integer_at_least(1),
        metavar="N",
        help="with --wait, at most N unfinished jobs at a time",
    )


def wait_options(args: argparse.Namespace) -> WaitOptions | None:
    """Return how to wait; None where the command does not.

    Raises:
        UsageError: ``wrong-usage``: a flag needs ``--wait``, or ``--retries``; ``invalid-value``.
    """
    causes = frozenset(parse_causes("--retry_on", args.retry_on))
    if args.retry_on and args.retries is None:
        raise UsageError("wrong-usage", "--retry_on needs --retries", hint="add --wait --retries 3")
    if args.wait:
        return WaitOptions(args.wait_timeout, args.retries or 0, causes or RETRY_ON, args.max_parallel)
    for name in ("wait_timeout", "retries", "max_parallel"):
        if getattr(args, name) is not None:
            raise UsageError("wrong-usage", f"--{name} needs --wait", hint="add --wait")
    return None
