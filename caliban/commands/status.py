"""``caliban status``: experiment groups, and the state of their jobs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from caliban.cli import flags, render
from caliban.cli.context import Context
from caliban.errors import ExitCode, StoreError

if TYPE_CHECKING:
    from caliban.platforms.base import Platforms
    from caliban.records import GroupRecord, JobStatus, JsonObject
    from caliban.store.database import Store

DESCRIPTION = "Show experiment groups, their experiments, and the state of their jobs, brought up to date."

_RECENT_JOBS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--xgroup`` and ``--max_jobs``."""
    flags.add_xgroup(parser)
    parser.add_argument(
        "--max_jobs",
        type=flags.at_least(0),
        metavar="N",
        help="with --xgroup, how many jobs of each experiment to show, the most recent ones (default 1); without, how "
        f"many of your most recent jobs to show (default {_RECENT_JOBS}); 0 for all",
    )


def run(args: argparse.Namespace, context: Context) -> int:
    """Read, ask the platforms about what is unfinished, write back what changed, print."""
    from caliban.platforms.job_summary import title
    from caliban.submission.refresh import refresh
    from caliban.submission.setup import make_platforms

    platforms = make_platforms(context.environ, context.home, context.console)
    groups = _read(args, context, platforms)
    refreshed = refresh(groups, platforms)
    if refreshed.changes:
        _write_back(refreshed.changes, context)
    if not args.xgroup:
        context.console.print(_heading(args.max_jobs, context.user))
    for group in refreshed.groups:
        if not args.xgroup:
            context.console.print("")
        for line in render.group_lines(group, title, context.home):
            context.console.print(line)
    return ExitCode.DONE


def _read(args: argparse.Namespace, context: Context, platforms: Platforms) -> list[GroupRecord]:
    """The groups to show, after what an interrupted command left open in them was finished."""
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.store.journal import Journal
    from caliban.submission.reconcile import may_be_under_way, reconcile

    url = store_url(context.environ, context.home)
    with open_store(url, Access.READ, context.console) as store:
        groups = _groups(args, context.user, store)
        left_open = Journal(store).open_submissions(user=context.user, group=args.xgroup)
    if all(may_be_under_way(submission, context.now()) for submission in left_open):
        return groups
    try:
        with open_store(url, Access.WRITE, context.console) as store:
            reconcile(Journal(store), platforms, context.console, user=context.user, group=args.xgroup)
            return _groups(args, context.user, store)
    except StoreError as error:
        context.console.warn(f"what an interrupted command left open could not be finished: {error.message}")
        return groups


def _write_back(changes: Mapping[int, tuple[JobStatus, JsonObject | None]], context: Context) -> None:
    """Record new states. A store that cannot be written must not keep a person from seeing them."""
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.store.queries import record_states

    try:
        url = store_url(context.environ, context.home)
        with open_store(url, Access.WRITE, context.console) as store, store.writing() as session:
            record_states(session, changes)
    except StoreError as error:
        context.console.warn(f"the states below could not be recorded: {error.message}: {error.cause}")


def _heading(max_jobs: int | None, user: str) -> str:
    if max_jobs == 0:
        return f"all jobs of user {user}:"
    return f"most recent {render.count(_RECENT_JOBS if max_jobs is None else max_jobs, 'job')} for user {user}:"


def _groups(args: argparse.Namespace, user: str, store: Store) -> list[GroupRecord]:
    from caliban.store.queries import group_attempts, recent_attempts
    from caliban.submission.groups import unknown_group

    with store.reading() as session:
        if not args.xgroup:
            limit = _RECENT_JOBS if args.max_jobs is None else args.max_jobs
            return recent_attempts(session, user, limit or None)
        per_experiment = 1 if args.max_jobs is None else args.max_jobs
        group = group_attempts(session, user, args.xgroup, per_experiment=per_experiment or None)
        if group is None:
            raise unknown_group(session, store, user, args.xgroup)
        return [group]
