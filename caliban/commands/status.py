"""``caliban status``: experiment groups, and the state of their jobs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from caliban.cli import documents, flags, render
from caliban.cli.context import Context
from caliban.cli.history import history_lines
from caliban.cli.selection import add_selection_flags, job_filter
from caliban.cli.summaries import command_lines, summary_lines
from caliban.commands.listing import RECENT_JOBS, Listing, ListingRequest, look
from caliban.durations import parse_duration
from caliban.errors import ExitCode, UsageError
from caliban.input_files import shortened
from caliban.platforms.flags import integer_at_least
from caliban.records import GroupRecord
from caliban.summary import summary_of

DESCRIPTION = (
    "Show experiment groups, their experiments, the current state of their jobs, and why jobs failed. The flags that "
    "select jobs are combined with and; without --xgroup, they select from all of your groups."
)

_INTERVAL = 5.0
_LONGEST_INTERVAL = 86_400.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--xgroup``, ``--max_jobs``, the flags that select jobs, ``--history``, ``--watch`` and ``--json``."""
    flags.add_xgroup(parser)
    parser.add_argument(
        "--max_jobs",
        type=integer_at_least(0),
        metavar="N",
        help="with --xgroup, how many jobs of each experiment to show, the most recent ones (default 1); without, how "
        f"many of your most recent jobs to show (default {RECENT_JOBS}; all where flags select jobs); 0 for all",
    )
    add_selection_flags(parser)
    parser.add_argument(
        "--history",
        action="store_true",
        help="show all attempts of each experiment: when each started, how long it ran, its image, who submitted it, "
        "what changed since the attempt before, and its result",
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help="refresh the states until Ctrl-C: redraw them on a terminal, print a line for each change elsewhere",
    )
    parser.add_argument(
        "--interval",
        type=_seconds,
        metavar="TIME",
        help="with --watch, the time between two looks: seconds, or 30s, 2m (default 5)",
    )
    flags.add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Read the store, query the platforms about unfinished jobs, record what changed, print.

    Returns:
        NOT_DONE while a job may run that is not listed: an interrupted command may have submitted it. A job that cannot
        be asked about is listed, with the reason.
    """
    from caliban.submission.in_doubt import report_doubt, report_unreachable_jobs
    from caliban.submission.setup import make_platforms

    if args.as_json and args.watch:
        raise UsageError(
            "conflicting-flags",
            "--json and --watch cannot be combined",
            cause="--json writes one document, when everything is known",
            hint="run the command without --watch whenever the states are needed",
        )
    if args.interval is not None and not args.watch:
        raise UsageError("wrong-usage", "--interval needs --watch", hint="add --watch")
    selected = job_filter(args, context.clock)
    request = ListingRequest(args.xgroup or None, args.max_jobs, selected, args.history)
    platforms = make_platforms(context.environ, context.home, context.console, vars(args), context.clock)
    if args.watch:
        from caliban.commands.watch import watch

        return watch(request, _INTERVAL if args.interval is None else args.interval, context, platforms)
    listing = look(request, context, platforms)
    context.console.document(lambda: documents.status_document(context.user, listing.groups, listing.in_doubt))
    print_listing(listing, request, context)
    report_doubt(listing.in_doubt, context.console)
    report_unreachable_jobs(listing.groups, context.console)
    return ExitCode.NOT_DONE if listing.in_doubt else ExitCode.DONE


def print_listing(listing: Listing, request: ListingRequest, context: Context) -> None:
    """Print the groups, each with its summary."""
    console = context.console
    if request.xgroup is None:
        console.print(_heading(request, context.user))
    if not listing.groups:
        _print_nothing(request, context)
    for group in listing.groups:
        if request.xgroup is None:
            console.print("")
        console.listing(*tree_lines(group, request, context))
        summary = summary_of(group.experiments)
        console.listing(*summary_lines(summary, only_listed=request.recent_jobs is not None and not request.xgroup))
        console.print(*command_lines(summary, group.name, request.selected.typed))


def tree_lines(group: GroupRecord, request: ListingRequest, context: Context) -> Iterator[str]:
    """Format the experiments of a group, with their jobs or their history."""
    if request.with_history:
        from caliban.platforms.registry import resources_of

        now = context.clock.utc_now()
        return history_lines(group, context.home, now, request.max_jobs or None, resources_of)
    return render.group_lines(group, context.home, context.console.width)


def _print_nothing(request: ListingRequest, context: Context) -> None:
    if request.is_recent:
        context.console.info(f"{context.user} has no jobs yet; to run experiments, see: caliban run --help")
        return
    if request.xgroup is not None:
        context.console.print(f"xgroup {request.xgroup}:")
    context.console.print("no jobs match")


def _heading(request: ListingRequest, user: str) -> str:
    jobs = "all jobs" if request.recent_jobs is None else f"most recent {render.count(request.recent_jobs, 'job')}"
    if not request.selected.takes_all:
        return f"{jobs.replace('all jobs', 'jobs')} of user {user} that match:"
    return f"all jobs of user {user}:" if request.recent_jobs is None else f"{jobs} for user {user}:"


def _seconds(text: str) -> float:
    """Return a time in seconds; the ``type`` of a flag."""
    duration = parse_duration(text) or parse_duration(f"{text}s")
    seconds = duration.total_seconds() if duration is not None else 0.0
    if not 1 <= seconds <= _LONGEST_INTERVAL:
        raise argparse.ArgumentTypeError(f'expected seconds, 1 or more, or a time such as 30s, got "{shortened(text)}"')
    return seconds
