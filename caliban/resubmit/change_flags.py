"""The command line of changed parameters: words after ``--``, and ``--experiment_config``; and typing it again."""

from __future__ import annotations

import argparse
import hashlib
from typing import TYPE_CHECKING

from caliban.cli import flags
from caliban.cli.context import Context

if TYPE_CHECKING:
    from caliban.resubmit.command import ResubmitRequest
    from caliban.resubmit.overrides import Override
    from caliban.resubmit.plan import Plan
    from caliban.store.batches import RecordedBatch
    from caliban.store.database import Store
    from caliban.submission.submit import Command

_HELP = "JSON file with parameters to change, or 'stdin'; lists make several experiments of each, null removes one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--experiment_config FILE``."""
    flags.add_experiment_config(parser, _HELP)


def read_overrides(args: argparse.Namespace, context: Context) -> tuple[Override, ...]:
    """Return the changes of each combination of the file, with the words after ``--`` in each; empty for no changes.

    Raises:
        UsageError: the words or the file are wrong, or both set one parameter.
    """
    if not args.script_args and args.experiment_config is None:
        return ()
    from caliban.resubmit.overrides import Override, check_conflicts, parse_words
    from caliban.submission.experiments import parse_changes, read_experiments

    parts = parse_words(args.script_args)
    if args.experiment_config is None:
        return (Override(parts),)
    text, source = read_experiments(args.experiment_config, context.cwd, context.console.read_input)
    overrides = tuple(Override(parts, settings) for settings in parse_changes(text, source=source))
    for override in overrides:
        check_conflicts(parts, override.settings, source)
    return overrides if parts or any(each.settings for each in overrides) else ()


def command_key(request: ResubmitRequest, user: str) -> str:
    """Return what ``batches.command`` stores: equal for equal commands."""
    from caliban.resubmit.resources import key_of
    from caliban.store.views import canonical

    choice = request.choice
    limits = [choice.all_jobs, choice.max_attempts, choice.limit]
    changes = [[[each.words for each in override.parts], override.settings] for override in request.overrides]
    parts: list[object] = ["resubmit", user, request.xgroup, request.platform, choice.filter.typed, limits, changes]
    resources = key_of(request.resources)
    if resources:
        parts.append(resources)
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


def interrupted_batch(request: ResubmitRequest, store: Store, context: Context) -> RecordedBatch | None:
    """Return the batch that the same command with changed parameters left unfinished the last time, or None.

    Without changed parameters, the states of the jobs say what is left to do.
    """
    from caliban.store.batches import latest_batch

    if not request.overrides or not store.has_batches:
        return None
    with store.reading() as session:
        batch = latest_batch(session, context.clock, command_key(request, context.user))
    return None if batch is None or batch.is_finished else batch


def journaled_command(request: ResubmitRequest, continued: RecordedBatch | None, user: str) -> Command | None:
    """Return what the journal needs to continue a command with changed parameters; None for any other."""
    from caliban.submission.submit import Command

    if not request.overrides:
        return None
    return Command(command_key(request, user), continued.newest_job if continued else None)


def report_continued(plan: Plan, store: Store, context: Context) -> None:
    """Report that an interrupted command is continued. One that has nothing left to submit is recorded as finished."""
    from caliban.store.journal import Journal
    from caliban.submission.batches import continued_text

    if plan.continued is None:
        return
    before = plan.submitted_before
    if before:
        total = before + len(plan.jobs)
        context.console.info(f"continuing {continued_text(plan.continued, before, total, context.clock)}")
    if before and not plan.jobs:
        Journal(store).finish(plan.continued.batch.id)
