"""``caliban status``: experiment groups, and the state of their jobs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from caliban.cli import flags, render
from caliban.cli.context import Context
from caliban.errors import ExitCode, StoreError
from caliban.platforms.flags import integer_at_least

if TYPE_CHECKING:
    from caliban.platforms.registry import Platforms
    from caliban.records import GroupRecord, JobUpdate
    from caliban.store.database import Store

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
    """Read the store, query the platforms about unfinished jobs, record what changed, print."""
    from caliban.submission.refresh import refresh
    from caliban.submission.setup import make_platforms

    platforms = make_platforms(context.environ, context.home, context.console, vars(args), context.clock)
    groups = _read(args, context, platforms)
    refreshed = refresh(groups, platforms)
    if refreshed.changes:
        _record(refreshed.changes, context)
    if not args.xgroup:
        context.console.print(_heading(args.max_jobs, context.user))
        if not refreshed.groups:
            context.console.info(f"{context.user} has no jobs yet; to run experiments, see: caliban run --help")
    for group in refreshed.groups:
        if not args.xgroup:
            context.console.print("")
        for line in render.group_lines(group, context.home):
            context.console.print(line)
    return ExitCode.DONE


def _read(args: argparse.Namespace, context: Context, platforms: Platforms) -> list[GroupRecord]:
    """Return the groups to show, after reconciling what an interrupted command left open in them."""
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.store.journal import Journal
    from caliban.submission.reconcile import needs_settling, reconcile

    url = store_url(context.environ, context.home)
    with open_store(url, Access.READ, context.console) as store:
        groups = _groups(args, context.user, store)
        left_open = Journal(store).open_submissions(user=context.user, group=args.xgroup)
    if not any(needs_settling(submission, context.clock) for submission in left_open):
        return groups
    try:
        with open_store(url, Access.WRITE, context.console) as store:
            reconcile(Journal(store), platforms, context.console, user=context.user, group=args.xgroup)
            return _groups(args, context.user, store)
    except StoreError as error:
        context.console.warn(f"cannot settle the submissions of an interrupted command: {error.message}")
        return groups


def _record(changes: Mapping[int, JobUpdate], context: Context) -> None:
    """Record new states. They are shown even where the store cannot be written."""
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.store.queries import record_states

    try:
        url = store_url(context.environ, context.home)
        with open_store(url, Access.WRITE, context.console) as store, store.writing() as session:
            record_states(session, changes)
    except StoreError as error:
        context.console.warn(f"cannot record the states below: {error.message}: {error.cause}")


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
