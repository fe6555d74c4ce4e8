"""``caliban resubmit``: flags, and the order of the steps. A plugin by the same interface as anybody's."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from caliban.cli import flags, render
from caliban.cli.context import Context
from caliban.cli.outcomes import report_outcomes
from caliban.config import SUCCESSORS
from caliban.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from caliban.platforms.base import Platforms
    from caliban.records import GroupRecord, PlatformName
    from caliban.resubmit.plan import Plan
    from caliban.store.database import Store

DESCRIPTION = (
    "Re-run the jobs of an experiment group that failed or were stopped: rebuild their container images from the "
    "folders that they were built from, and submit them again with the parameters that they had."
)


@dataclass(frozen=True)
class ResubmitRequest:
    """What was asked for on the command line.

    Attributes:
        xgroup: the experiment group's name.
        dry_run: show what would happen, and write nothing anywhere.
        all_jobs: every experiment, whatever the state of its latest job.
        project_id: where jobs of Google's platforms go; None: where they went before.
        cloud_key: a service-account key file, or None.
        yes: do not ask.
        platform: where every job goes, those of its predecessors moved over; None: where each ran before.
    """

    xgroup: str
    dry_run: bool
    all_jobs: bool
    project_id: str | None
    cloud_key: Path | None
    yes: bool
    platform: PlatformName | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``caliban_resubmit.rst``, in its order, then ours: ``--yes`` and ``--platform``."""
    flags.add_xgroup(parser)
    flags.add_dry_run(parser)
    parser.add_argument(
        "--all_jobs",
        action="store_true",
        help="resubmit all jobs regardless of current state, otherwise only jobs that are in FAILED or STOPPED state "
        "will be resubmitted",
    )
    flags.add_project_id(parser)
    flags.add_cloud_key(parser)
    flags.add_yes(parser)
    parser.add_argument(
        "--platform",
        choices=list(SUCCESSORS),
        help="run the jobs on this platform, moving over those of AI Platform Training: vertex for Vertex AI; what has "
        "no counterpart there is told first (default: where each job ran before)",
    )


def run(args: argparse.Namespace, context: Context) -> int:
    """Plan, show, ask, rebuild, submit, report."""
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.submission.setup import make_platforms

    url = store_url(context.environ, context.home)
    if not args.xgroup:
        with open_store(url, Access.READ, context.console) as store:
            raise _no_group_given(store, context.user)
    request = ResubmitRequest(
        xgroup=args.xgroup,
        dry_run=args.dry_run,
        all_jobs=args.all_jobs,
        project_id=args.project_id,
        cloud_key=args.cloud_key,
        yes=args.yes,
        platform=SUCCESSORS[args.platform] if args.platform else None,
    )
    platforms = make_platforms(
        context.environ,
        context.home,
        context.console,
        project_id=request.project_id,
        cloud_key=request.cloud_key,
    )
    # Looked up first without a write: a mistyped name must not upgrade, or even make, a store.
    with open_store(url, Access.READ, context.console) as store:
        group = _read_group(store, context.user, request.xgroup)
        if request.dry_run:
            return _dry_run(request, context, platforms, store, group)
    with open_store(url, Access.WRITE, context.console) as store:
        return _resubmit(request, context, platforms, store)


def _no_group_given(store: Store, user: str) -> UsageError:
    from caliban.store.queries import group_names

    with store.reading() as session:
        names = group_names(session, user)
    known = f"your experiment groups: {', '.join(names[-10:])}" if names else f"{store.location} has no groups of yours"
    return UsageError(
        "no-xgroup",
        "which experiment group is to be resubmitted is not said",
        hint=f"caliban resubmit --xgroup NAME; {known}",
    )


def _read_group(store: Store, user: str, name: str) -> GroupRecord:
    """The group with the latest attempt of each experiment."""
    from caliban.store.queries import group_attempts
    from caliban.submission.groups import unknown_group

    with store.reading() as session:
        group = group_attempts(session, user, name, per_experiment=1)
        if group is None:
            raise unknown_group(session, store, user, name)
    return group


def _dry_run(request: ResubmitRequest, context: Context, platforms: Platforms, store: Store, group: GroupRecord) -> int:
    from caliban.resubmit import report
    from caliban.store.journal import Journal
    from caliban.submission.reconcile import describe_open
    from caliban.submission.refresh import refresh

    under_way = describe_open(Journal(store).open_submissions(user=context.user, group=group.name), context.now())
    plan = _plan(refresh([group], platforms).groups[0], request, under_way, platforms)
    show = context.console.print
    if plan.jobs:
        _print(context, report.job_lines(plan))
        _print(context, report.moving_lines(plan))
        show("")
        _print(context, report.image_lines(plan, context.home))
    else:
        show(report.nothing_line(plan, all_jobs=request.all_jobs))
    if plan.skipped:
        show("")
        _print(context, report.skipped_lines(plan))
    _tell_problems(plan, context)
    if plan.ready:
        show("\nnothing was submitted: to actually resubmit these jobs, run this command again without --dry_run")
    elif plan.jobs:
        show("\nnothing was submitted: once what is in the way is mended, run this command again without --dry_run")
    return ExitCode.DONE


def _resubmit(request: ResubmitRequest, context: Context, platforms: Platforms, store: Store) -> int:
    from caliban.platforms.job_summary import ending, title
    from caliban.resubmit import report
    from caliban.resubmit.execution import rebuild, resubmit
    from caliban.submission.setup import build_user
    from caliban.submission.submit import InterruptedSubmissionError, Submitter

    plan = _current_plan(request, context, platforms, store)
    if not plan.jobs:
        context.console.print(report.nothing_line(plan, all_jobs=request.all_jobs))
        return ExitCode.DONE
    _print(context, report.job_lines(plan))
    _print(context, report.moving_lines(plan))
    _tell_problems(plan, context)
    if not plan.ready:
        return ExitCode.NOT_DONE
    if plan.builds:
        platforms.context.engine()  # better to hear now than after the question that Docker does not run
    question = f"do you wish to resubmit these {len(plan.ready)} jobs?"
    if not request.yes and not context.console.agreed(question, "resubmitted"):
        return ExitCode.NOT_DONE
    images = rebuild(plan, platforms, context.console, build_user(context.user))
    submitter = Submitter(store, platforms, context.console, context.user)
    try:
        outcomes = resubmit(plan, images, platforms, submitter)
    except InterruptedSubmissionError as interrupted:
        report_outcomes(context.console, interrupted.outcomes, title, ending, not_begun=interrupted.not_begun)
        raise
    return report_outcomes(context.console, outcomes, title, ending)


def _current_plan(request: ResubmitRequest, context: Context, platforms: Platforms, store: Store) -> Plan:
    """The plan, after what is open in the journal and the states in the store were brought up to date."""
    from caliban.store.journal import Journal
    from caliban.store.queries import record_states
    from caliban.submission.reconcile import describe_open, reconcile
    from caliban.submission.refresh import refresh

    still_open = reconcile(Journal(store), platforms, context.console, user=context.user, group=request.xgroup)
    refreshed = refresh([_read_group(store, context.user, request.xgroup)], platforms)
    if refreshed.changes:
        with store.writing() as session:
            record_states(session, refreshed.changes)
    return _plan(refreshed.groups[0], request, describe_open(still_open, context.now()), platforms)


def _plan(group: GroupRecord, request: ResubmitRequest, under_way: Mapping[int, str], platforms: Platforms) -> Plan:
    from caliban.resubmit.migrate import move
    from caliban.resubmit.plan import make_plan
    from caliban.resubmit.preflight import image_sources, job_problems, with_migration_hint
    from caliban.resubmit.selection import select

    selected = select(group, all_jobs=request.all_jobs, under_way=under_way)
    moved = move(selected, platforms, request.platform)
    selection, sources = moved.selection, image_sources(moved.selection)
    problems = job_problems(selection, sources, platforms, connect=not request.dry_run, known=moved.problems)
    return make_plan(group.name, selection, sources, with_migration_hint(problems, group.name), moved.lost)


def _tell_problems(plan: Plan, context: Context) -> None:
    """Say on standard error which of the planned jobs cannot be resubmitted, and why."""
    from caliban.records import Outcome

    for line in render.failure_lines([Outcome(job.experiment, None, job.problem) for job in plan.jobs]):
        context.console.info(line)


def _print(context: Context, lines: Iterable[str]) -> None:
    for line in lines:
        context.console.print(line)
