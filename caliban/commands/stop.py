"""``caliban stop``: stop the running jobs of an experiment group, or of all groups."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from caliban.cli import documents, flags, render
from caliban.cli.context import Context
from caliban.cli.selection import add_selection_flags, job_filter
from caliban.errors import ExitCode, StoreError
from caliban.platforms.flags import add_cloud_key

if TYPE_CHECKING:
    from caliban.attempts import Submission
    from caliban.platforms.registry import Platforms
    from caliban.records import GroupRecord, JsonObject, Outcome
    from caliban.reporter import Progress
    from caliban.store.database import Store
    from caliban.submission.ending import Ended, Ending, Unfinished
    from caliban.submission.in_doubt import OpenSubmissions
    from caliban.submission.refresh import Refreshed

CHANGES_JOBS = True
DESCRIPTION = (
    "Stop the running and queued jobs of an experiment group; without --xgroup, those of all your groups. With flags "
    "that select jobs, only those are stopped, and commands that still submit go on."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--xgroup``, the flags that select jobs, ``--dry_run``, ``--cloud_key``, ``--yes`` and ``--json``."""
    flags.add_xgroup(parser)
    add_selection_flags(parser)
    parser.add_argument("--dry_run", action="store_true", help="show which jobs would be stopped, and stop none")
    add_cloud_key(parser)
    flags.add_yes(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Read store and journal, refresh states, list what runs, ask, stop, report.

    Returns:
        NOT_DONE where a job may run on: it could not be stopped, or an interrupted command may have submitted it.
    """
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.submission.ending import Ending, unfinished
    from caliban.submission.in_doubt import report_doubt, report_unreachable_jobs
    from caliban.submission.refresh import refresh
    from caliban.submission.setup import make_platforms

    selected = job_filter(args, context.clock)
    url = store_url(context.environ, context.home)
    platforms = make_platforms(context.environ, context.home, context.console, vars(args), context.clock)
    groups, left = _read(args, platforms, context)
    refreshed = refresh(selected.unchanging().apply(groups), platforms)
    chosen = selected.again().apply(refreshed.groups)
    found = unfinished(chosen, left.in_progress if selected.takes_all else ())
    if not found and not args.dry_run and selected.takes_all:
        found = _end_open_commands(args.xgroup, refreshed, platforms, context)
    owners = {experiment.id: group.name for group in refreshed.groups for experiment in group.experiments}
    if not found or args.dry_run:
        context.console.document(
            lambda: _plan_document(found, left, owners) if args.dry_run else _nothing_document(left)
        )
    if not found:
        which = "" if selected.takes_all else " match"
        context.console.print(f"no running or queued jobs{' are known' if left.in_doubt and not which else which}")
        report_doubt(left.in_doubt, context.console)
        return ExitCode.NOT_DONE if left.in_doubt else ExitCode.DONE
    _show(found, context)
    if args.dry_run:
        report_doubt(left.in_doubt, context.console)
        report_unreachable_jobs(chosen, context.console)
        context.console.print("", "nothing was stopped: to stop these jobs, run this command without --dry_run")
        return ExitCode.DONE
    if not args.yes and not context.console.agreed(f"stop {render.count(len(found), 'job')}?", "stopped"):
        return ExitCode.NOT_DONE
    with (
        open_store(url, Access.WRITE, context.console) as store,
        context.console.progress("stopping", total=len(found), unit="job") as progress,
    ):
        refreshed.record(store, platforms)
        ending = Ending(
            store,
            platforms,
            context.user,
            lambda: _groups(args.xgroup, context, store),
            args.xgroup,
            only_found=not selected.takes_all,
        )
        ended = _end(found, ending, progress, left, owners, context)
    code = _report(ended, context)
    context.console.document(lambda: _document(ended, owners))
    stopped = {outcome.job.id for outcome in ended.outcomes if outcome.job and outcome.error is None}
    report_unreachable_jobs(chosen, context.console, stopped=stopped)
    return code


def _read(
    args: argparse.Namespace, platforms: Platforms, context: Context
) -> tuple[list[GroupRecord], OpenSubmissions]:
    """Return the groups, and the submissions that are open after those of interrupted commands were looked up."""
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.submission.in_doubt import read_open, reconcile_open

    url = store_url(context.environ, context.home)
    with open_store(url, Access.READ, context.console) as store:
        groups = _groups(args.xgroup, context, store)
        left = read_open(store, platforms, context.user, args.xgroup)
    if (left.in_doubt or left.unsent) and not args.dry_run:
        with open_store(url, Access.WRITE, context.console) as store:
            left = reconcile_open(store, platforms, context.user, args.xgroup)
            groups = _groups(args.xgroup, context, store)
    return groups, left


def _end(
    found: Unfinished,
    ending: Ending,
    progress: Progress,
    left: OpenSubmissions,
    owners: Mapping[int, str],
    context: Context,
) -> Ended:
    """Stop what was found; where that is interrupted or fails, report in the document what was stopped until then."""
    from caliban.submission.ending import Ended

    outcomes: dict[int, Outcome] = {}
    try:
        return ending.end(found, progress, outcomes)
    except BaseException:
        known = Ended(tuple(dict(outcomes).values()), 0, left)
        not_started = sum(job.id not in outcomes for _, job in found.jobs)
        context.console.document(lambda: _document(known, owners, not_started))
        raise


def _groups(xgroup: str | None, context: Context, store: Store) -> list[GroupRecord]:
    from caliban.submission.groups import read_group, read_recent

    if xgroup:
        return [read_group(store, context.user, xgroup, per_experiment=None)]
    return read_recent(store, context.user, None)


def _end_open_commands(xgroup: str | None, refreshed: Refreshed, platforms: Platforms, context: Context) -> Unfinished:
    """Let commands that have not submitted anything yet, since they build an image, submit nothing of the group.

    Returns:
        What they submitted since the store was read.
    """
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.store.group_stop import end_group
    from caliban.submission.ending import unfinished
    from caliban.submission.in_doubt import read_open

    url = store_url(context.environ, context.home)
    with open_store(url, Access.READ, context.console) as store:
        if not store.has_batches:  # no command of this version has used it
            return unfinished([], [])
    try:
        with open_store(url, Access.WRITE, context.console) as store:
            refreshed.record(store, platforms)
            with store.writing() as session:
                end_group(session, context.clock, context.user, xgroup)
            left = read_open(store, platforms, context.user, xgroup)
            return unfinished(_groups(xgroup, context, store), left.in_progress)
    except StoreError as error:
        context.console.warn(f"cannot tell other commands to submit nothing more: {error.message}")
        return unfinished([], [])


def _show(found: Unfinished, context: Context) -> None:
    context.console.print("the following jobs would be stopped:")
    for experiment, job in found.jobs:
        context.console.print(render.command_line(experiment))
        context.console.print(f"  {render.job_line(job)}")
    for submission in found.submissions:
        of = found.experiments.get(submission.experiment_id)
        context.console.print(render.command_line(of) if of else submission.name)
        queued = "" if submission.may_have_been_sent else "queued, "
        context.console.print(f"  {queued}{_submitter(submission)}")


def _plan_document(found: Unfinished, left: OpenSubmissions, owners: Mapping[int, str]) -> JsonObject:
    """Return what ``--dry_run`` would stop; ``owners`` are the names of groups by ``experiments.id``."""
    jobs = [
        {
            "group": owners.get(experiment.id),
            "experiment": documents.experiment_fields(experiment),
            "job": documents.job_fields(job),
        }
        for experiment, job in found.jobs
    ]
    return documents.document(
        "caliban.stop-plan/1",
        jobs=jobs,
        submissions=documents.submissions_fields(found.submissions),
        in_doubt=documents.submissions_fields(left.in_doubt),
    )


def _nothing_document(left: OpenSubmissions) -> JsonObject:
    from caliban.submission.ending import Ended

    return _document(Ended((), 0, left), {})


def _document(ended: Ended, owners: Mapping[int, str], not_started: int = 0) -> JsonObject:
    """Return what was stopped."""
    jobs = [
        {
            "group": owners.get(outcome.experiment.id),
            **documents.outcome_fields(outcome),
            "ok": outcome.error is None,  # a job that was stopped did not succeed, but the command did
        }
        for outcome in ended.outcomes
    ]
    return documents.document(
        "caliban.stop/1",
        summary=documents.summary_fields(ended.outcomes, not_started),
        jobs=jobs,
        cancelled=ended.cancelled,
        in_doubt=documents.submissions_fields(ended.left.in_doubt),
        in_progress=documents.submissions_fields(ended.left.in_progress),
    )


def _submitter(submission: Submission) -> str:
    return f"being submitted by {submission.user} on {submission.host} (process {submission.pid})"


def _report(ended: Ended, context: Context) -> int:
    from caliban.submission.in_doubt import report_doubt

    for line in render.outcome_lines(ended.outcomes):
        context.console.print(line)
    for line in render.failure_lines(ended.outcomes):
        context.console.info(line)
    if ended.outcomes:
        context.console.info(render.count_line(ended.outcomes))
    if ended.cancelled:
        context.console.info(f"{render.count(ended.cancelled, 'queued job')} cancelled before submission")
    report_doubt(ended.left.in_doubt, context.console)
    for submission in ended.left.in_progress:
        context.console.warn(f"{submission.name} is still {_submitter(submission)}: run this command again")
    is_done = all(outcome.error is None for outcome in ended.outcomes)
    return ExitCode.DONE if is_done and not (ended.left.in_doubt or ended.left.in_progress) else ExitCode.NOT_DONE
