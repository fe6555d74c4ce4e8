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
        canary: submit one job of each kind first, and the others when it has gone well.
        canary_for: a job has gone well when it has run for so many seconds; None: when it has succeeded.
        to_the_end: whether to wait until the jobs have ended; otherwise only until all are submitted.
    """

    timeout: float | None = None
    retries: int = 0
    retry_on: frozenset[FailureCause] = RETRY_ON
    max_parallel: int | None = None
    canary: bool = False
    canary_for: float | None = None
    to_the_end: bool = True


def add_canary_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--canary`` and ``--canary_for``."""
    parser.add_argument("--canary", action="store_true", help="one job of each cause first; the others if it succeeds")
    parser.add_argument(
        "--canary_for", type=duration, metavar="TIME", help="with --canary, or when it has run for so long: 10m"
    )


def add_wait_flags(parser: argparse.ArgumentParser, *, waits_anyway: bool = False) -> None:
    """Add ``--wait``, ``--wait_timeout``, ``--retries``, ``--retry_on`` and ``--max_parallel``.

    Args:
        parser: of the command.
        waits_anyway: whether the command waits for most jobs without these flags, which run one after the other.
    """
    what = "wait also for jobs in the background (--detach)" if waits_anyway else "wait until the jobs have ended"
    parser.add_argument("--wait", action="store_true", help=f"{what}; exit code 0: all succeeded")
    parser.add_argument(
        "--wait_timeout",
        type=duration,
        metavar="TIME",
        help="with --wait, at most so long: 90m; then exit code 3",
    )
    parser.add_argument(
        "--retries",
        type=integer_at_least(1),
        metavar="N",
        help="with --wait, submit jobs again, up to N times each",
    )
    parser.add_argument(
        "--retry_on",
        action="append",
        default=[],
        metavar="CAUSE",
        help="of these causes (default preempted,infrastructure)",
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
    canary, canary_for = getattr(args, "canary", False), getattr(args, "canary_for", None)
    if canary_for is not None and not canary:
        raise UsageError("wrong-usage", "--canary_for needs --canary", hint="add --canary")
    if args.wait:
        return WaitOptions(
            args.wait_timeout, args.retries or 0, causes or RETRY_ON, args.max_parallel, canary, canary_for
        )
    for name in ("wait_timeout", "retries", "max_parallel"):
        if getattr(args, name) is not None:
            raise UsageError("wrong-usage", f"--{name} needs --wait", hint="add --wait")
    return WaitOptions(canary=True, canary_for=canary_for, to_the_end=False) if canary else None
