"""``caliban status``: experiment groups, and the state of their jobs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caliban.cli import flags, render
from caliban.cli.context import Context
from caliban.errors import ExitCode, StoreError
from caliban.platforms.flags import integer_at_least

if TYPE_CHECKING:
    from caliban.attempts import Submission
    from caliban.platforms.registry import Platforms
    from caliban.records import GroupRecord
    from caliban.store.database import Store
    from caliban.submission.refresh import Refreshed

DESCRIPTION = "Show experiment groups, their experiments, and the current state of their jobs."

_RECENT_JOBS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--xgroup`` and ``--max_jobs``."""
    flags.add_xgroup(parser)
    parser.add_argument(
        "--max_jobs",
        type=integer_at_least(0),
        metavar="N",
        help="with --xgroup, how many jobs of each experiment to show, the most recent ones (default 1); without, how "
        f"many of your most recent jobs to show (default {_RECENT_JOBS}); 0 for all",
    )


def run(args: argparse.Namespace, context: Context) -> int:
    """Read the store, query the platforms about unfinished jobs, record what changed, print.

    Returns:
        NOT_DONE while a job may run that is not listed: an interrupted command may have submitted it. A job that cannot
        be asked about is listed, with the reason.
    """
    from caliban.submission.in_doubt import report_doubt, report_unreachable_jobs
    from caliban.submission.refresh import refresh
    from caliban.submission.setup import make_platforms

    platforms = make_platforms(context.environ, context.home, context.console, vars(args), context.clock)
    recorded, in_doubt = _read(args, context, platforms)
    groups = _record(refresh(recorded, platforms), context, platforms)
    if not args.xgroup:
        context.console.print(_heading(args.max_jobs, context.user))
        if not groups:
            context.console.info(f"{context.user} has no jobs yet; to run experiments, see: caliban run --help")
    for group in groups:
        if not args.xgroup:
            context.console.print("")
        for line in render.group_lines(group, context.home):
            context.console.print(line)
    report_doubt(in_doubt, context.console)
    report_unreachable_jobs(groups, context.console)
    return ExitCode.NOT_DONE if in_doubt else ExitCode.DONE


def _read(
    args: argparse.Namespace, context: Context, platforms: Platforms
) -> tuple[list[GroupRecord], Sequence[Submission]]:
    """Return the groups to show, after reconciling what interrupted commands left open, and what is still in doubt."""
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.submission.in_doubt import read_open, reconcile_open

    url = store_url(context.environ, context.home)
    with open_store(url, Access.READ, context.console) as store:
        groups = _groups(args, context.user, store)
        left_open = read_open(store, platforms, context.user, args.xgroup)
    if not left_open.in_doubt and not left_open.unsent:
        return groups, ()
    try:
        with open_store(url, Access.WRITE, context.console) as store:
            in_doubt = reconcile_open(store, platforms, context.user, args.xgroup).in_doubt
            return _groups(args, context.user, store), in_doubt
    except StoreError as error:
        context.console.warn(f"cannot settle the submissions of an interrupted command: {error.message}")
        return groups, left_open.in_doubt


def _record(refreshed: Refreshed, context: Context, platforms: Platforms) -> Sequence[GroupRecord]:
    """Record new states, and return the groups as they are recorded; as they were reported if that is not possible."""
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store

    if refreshed.is_recorded:
        return refreshed.groups
    try:
        url = store_url(context.environ, context.home)
        with open_store(url, Access.WRITE, context.console) as store:
            return refreshed.record(store, platforms)
    except StoreError as error:
        context.console.warn(f"cannot record the states below: {error.message}: {error.cause}")
        return refreshed.groups


def _heading(max_jobs: int | None, user: str) -> str:
    if max_jobs == 0:
        return f"all jobs of user {user}:"
    return f"most recent {render.count(_RECENT_JOBS if max_jobs is None else max_jobs, 'job')} for user {user}:"


def _groups(args: argparse.Namespace, user: str, store: Store) -> list[GroupRecord]:
    from caliban.submission.groups import read_group, read_recent

    if not args.xgroup:
        limit = _RECENT_JOBS if args.max_jobs is None else args.max_jobs
        return read_recent(store, user, limit or None)
    per_experiment = 1 if args.max_jobs is None else args.max_jobs
    return [read_group(store, user, args.xgroup, per_experiment=per_experiment or None)]
