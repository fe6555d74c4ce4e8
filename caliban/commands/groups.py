"""``caliban groups``: the experiment groups, with the recorded states of their experiments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from caliban.cli import documents, flags
from caliban.cli.columns import table
from caliban.cli.context import Context
from caliban.durations import ago_text
from caliban.errors import ExitCode
from caliban.escapes import escaped

if TYPE_CHECKING:
    from caliban.summary import GroupCounts

DESCRIPTION = (
    "List your experiment groups, the one with the newest job last. States are those last recorded: platforms are not "
    "asked. RUNNING includes jobs that wait to run; LAST is when the newest job was submitted."
)

_HEADINGS = ("NAME", "EXPERIMENTS", "SUCCEEDED", "FAILED", "RUNNING", "LAST")
_NUMBERS = (1, 2, 3, 4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    flags.add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Read the store, print."""
    groups = _read(context)
    context.console.document(lambda: documents.groups_document(context.user, groups))
    if not groups:
        context.console.info(
            f"{context.user} has no experiment groups yet; to run experiments, see: caliban run --help"
        )
        return ExitCode.DONE
    rows = [_row(group, context.now()) for group in groups]
    context.console.listing(*table(_HEADINGS, rows, right=_NUMBERS, width=context.console.width))
    if any(_unfinished(group) for group in groups):
        context.console.info("states as last recorded; to refresh those of a group, run: caliban status --xgroup NAME")
    return ExitCode.DONE


def _read(context: Context) -> Sequence[GroupCounts]:
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.store.queries import group_counts

    with (
        open_store(store_url(context.environ, context.home), Access.READ, context.console) as store,
        store.reading() as session,
    ):
        return group_counts(session, context.user)


def _row(group: GroupCounts, now: datetime) -> Sequence[str]:
    counts = (group.experiments, group.counts.get("succeeded", 0), group.counts.get("failed", 0), _unfinished(group))
    last = ago_text((now - group.last).total_seconds()) if group.last else "never"
    return (escaped(group.name), *map(str, counts), last)


def _unfinished(group: GroupCounts) -> int:
    return group.counts.get("running", 0) + group.counts.get("submitted", 0)
