"""``caliban wait``: wait until jobs have ended, for scripts and people."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from caliban.cli import documents, flags
from caliban.cli.context import Context
from caliban.cli.selection import add_selection_flags, job_filter
from caliban.durations import duration_text
from caliban.platforms.flags import add_cloud_key, duration

if TYPE_CHECKING:
    from caliban.records import JsonObject
    from caliban.waiting.looks import Look, Wanted
    from caliban.waiting.wait import Waited, Waiter

DESCRIPTION = (
    "Wait until jobs have ended, and exit with 0 if all of them succeeded, with 1 if some did not, with 3 if --timeout "
    "came first. The latest job of each experiment counts, also one that is submitted meanwhile. Without --xgroup and "
    "flags that select, wait for all of your jobs that have not ended. Ctrl-C ends the waiting, and no job."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--xgroup``, the flags that select jobs, ``--timeout``, ``--cloud_key`` and ``--json``."""
    flags.add_xgroup(parser)
    add_selection_flags(parser)
    parser.add_argument(
        "--timeout",
        type=duration,
        metavar="TIME",
        help="the longest time to wait: 24h, 90m, 1h30m, or a number of seconds (default: as long as it takes)",
    )
    add_cloud_key(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Look until the selected jobs have ended, and summarize how."""
    from caliban.submission.setup import make_platforms
    from caliban.waiting.looks import Looker, Wanted
    from caliban.waiting.reporters import WaitReporter
    from caliban.waiting.wait import Waiter

    wanted = Wanted(args.xgroup or None, job_filter(args, context.clock))
    reporter = WaitReporter(context.console)
    platforms = make_platforms(context.environ, context.home, reporter, vars(args), context.clock)
    waiter = Waiter(Looker(wanted, context, platforms, reporter), context, reporter, args.timeout)
    try:
        waited = waiter.wait()
    except KeyboardInterrupt:
        _report_interrupt(waiter, wanted, args, context)
        raise
    _report(waited, wanted, args, context)
    return waited.exit_code


def _report(waited: Waited, wanted: Wanted, args: argparse.Namespace, context: Context) -> None:
    from caliban.cli.render import count
    from caliban.submission.in_doubt import report_doubt, report_unreachable_jobs
    from caliban.waiting.view import end_lines, going_on, unknown_lines

    look, console = waited.look, context.console
    console.document(lambda: _document(context.user, look, waited.seconds, is_timed_out=waited.timed_out))
    if not look.experiments:
        console.print("no running or queued jobs" if wanted.takes_unfinished else "no jobs match")
        return
    console.listing(*end_lines(look, wanted.filter.typed))
    console.info(*unknown_lines(look))
    if waited.timed_out:
        number = count(len(look.unfinished), "job")
        console.info(
            f"timeout after {duration_text(waited.seconds)}: {number} not ended, and still running or queued",
            f"to go on waiting, run: {going_on(look, wanted, _other_flags(args))}",
        )
    report_doubt(look.left.in_doubt, console)
    report_unreachable_jobs(look.groups, console)


def _report_interrupt(waiter: Waiter, wanted: Wanted, args: argparse.Namespace, context: Context) -> None:
    """Report that nothing was stopped, and how to go on."""
    from caliban.cli.render import count
    from caliban.waiting.view import going_on

    look = waiter.last
    if look is None:
        return
    seconds = waiter.seconds
    context.console.document(lambda: _document(context.user, look, seconds, is_timed_out=False))
    context.console.info(
        f"not waiting any longer: {count(len(look.unfinished), 'job')} not ended, and still running or queued",
        f"to go on waiting, run: {going_on(look, wanted, _other_flags(args))}",
    )


def _other_flags(args: argparse.Namespace) -> list[str]:
    timeout = [] if args.timeout is None else ["--timeout", str(args.timeout)]
    return timeout + ([] if args.cloud_key is None else ["--cloud_key", str(args.cloud_key)])


def _document(user: str, look: Look, seconds: float, *, is_timed_out: bool) -> JsonObject:
    experiments = look.experiments
    return documents.document(
        "caliban.wait/1",
        user=user,
        timed_out=is_timed_out,
        waited_seconds=round(seconds, 3),
        unfinished=len(look.unfinished),
        removed=look.removed,
        summary=documents.experiments_summary(experiments),
        groups=[
            {**documents.group_fields(group), "summary": documents.experiments_summary(group.experiments)}
            for group in look.groups
        ],
        in_doubt=documents.submissions_fields(look.left.in_doubt),
        in_progress=documents.submissions_fields(look.left.in_progress),
    )
