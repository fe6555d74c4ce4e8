"""``caliban resubmit``: its flags, and the order of the steps. A command like any plugin's."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from caliban.cli import flags, render
from caliban.cli.context import Context
from caliban.cli.outcomes import report_outcomes
from caliban.cli.selection import add_selection_flags, job_filter
from caliban.errors import ExitCode, UsageError
from caliban.platforms.flags import add_account_flags, integer_at_least
from caliban.platforms.registry import MIGRATION_TARGETS
from caliban.resubmit import change_flags, resources
from caliban.resubmit.code_options import CodeOptions, code_options
from caliban.resubmit.code_options import add_arguments as add_code_arguments
from caliban.waiting.flags import WaitOptions, add_wait_flags, wait_options

if TYPE_CHECKING:
    from caliban.platforms.registry import Platforms
    from caliban.platforms.resources import ResourceRequest
    from caliban.records import GroupRecord, Outcome, PlatformId
    from caliban.resubmit.overrides import Override
    from caliban.resubmit.plan import Plan
    from caliban.resubmit.selection import Choice
    from caliban.store.batches import RecordedBatch
    from caliban.store.database import Store
    from caliban.waiting.dispatching import FurtherJobs

DESCRIPTION = (
    "Re-run the jobs of an experiment group that failed or were stopped: rebuild their container images, and submit "
    "them again with the same parameters, or with those after -- replaced or added (docs/resubmit.md). "
    f"{resources.DESCRIPTION}"
)
USAGE = """caliban resubmit [-h] [--helpfull] [--xgroup XGROUP] [--dry_run]
                        [--all_jobs] [--project_id PROJECT_ID]
                        [--cloud_key CLOUD_KEY] [FLAGS] [-- PARAMETERS]"""
CHANGES_JOBS = True
TAKES_SCRIPT_ARGS = True


def describe_under_way(context: Context) -> Sequence[str]:
    """Return the open submissions of this process, for the report of an unforeseen error."""
    from caliban.submission.under_way import open_lines

    return open_lines(context.environ, context.home, context.user, context.console)


@dataclass(frozen=True)
class ResubmitRequest:
    """What the command line asks for.

    Attributes:
        xgroup: the experiment group's name.
        dry_run: show what would happen, and write nothing anywhere.
        choice: which experiments.
        yes: do not ask for confirmation.
        platform: where every job goes, migrated where it ran elsewhere; None: where each ran before.
        overrides: the changes of parameters, one for each combination; empty for none.
        resources: what changes in the resources of the jobs; None for nothing.
        code: what images are made of.
        wait: how to wait for the jobs; None for a command that ends when they are submitted, or have run here.
    """

    xgroup: str
    dry_run: bool
    choice: Choice
    yes: bool
    platform: PlatformId | None = None
    overrides: tuple[Override, ...] = ()
    resources: ResourceRequest | None = None
    code: CodeOptions = field(default_factory=CodeOptions)
    wait: WaitOptions | None = None

    def refreshed(self, group: GroupRecord) -> GroupRecord:
        """Return the group with the experiments whose states count; changed ones may be any."""
        return group if self.overrides else self.choice.possible(group)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``caliban_resubmit.rst``, in its order, then ours."""
    flags.add_xgroup(parser)
    flags.add_dry_run(parser)
    parser.add_argument(
        "--all_jobs",
        action="store_true",
        help="resubmit all jobs regardless of current state, otherwise only jobs that are in FAILED or STOPPED state "
        "will be resubmitted",
    )
    add_account_flags(parser)
    flags.add_yes(parser)
    parser.add_argument(
        "--platform",
        choices=list(MIGRATION_TARGETS),
        help="run the jobs on this platform, and migrate those that ran on a retired one (default: where each ran "
        "before)",
    )
    add_selection_flags(parser)
    parser.add_argument(
        "--max_attempts",
        type=integer_at_least(1),
        metavar="N",
        help="leave out experiments that have had N attempts or more",
    )
    parser.add_argument(
        "--limit", type=integer_at_least(1), metavar="N", help="at most N jobs, those of the first experiments"
    )
    change_flags.add_arguments(parser)
    resources.add_arguments(parser)
    add_code_arguments(parser)
    add_wait_flags(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Plan, show, ask, rebuild, submit, report."""
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.submission.setup import make_platforms

    url = store_url(context.environ, context.home)
    if not args.xgroup:
        with open_store(url, Access.READ, context.console) as store:
            raise _no_group_given(store, context.user)
    request = _request(args, context)
    platforms = make_platforms(context.environ, context.home, context.console, vars(args), context.clock)
    # Looked up first without a write: a mistyped name must not upgrade, or even create, a store.
    with open_store(url, Access.READ, context.console) as store:
        group = _read_group(request, context, store)
        if request.dry_run:
            return _dry_run(request, context, platforms, store, group)
    with open_store(url, Access.WRITE, context.console) as store:
        return _resubmit(request, context, platforms, store)


def _request(args: argparse.Namespace, context: Context) -> ResubmitRequest:
    from caliban.resubmit.selection import Choice

    platform = MIGRATION_TARGETS[args.platform] if args.platform else None
    choice = Choice(job_filter(args, context.clock), args.all_jobs, args.max_attempts, args.limit)
    return ResubmitRequest(
        args.xgroup,
        args.dry_run,
        choice,
        args.yes,
        platform,
        change_flags.read_overrides(args, context),
        resources.resource_request(args, context.cwd),
        code_options(args, context.cwd, context.home),
        wait_options(args),
    )


def _read_group(request: ResubmitRequest, context: Context, store: Store) -> GroupRecord:
    """Read the group, with as many attempts of each experiment as the choice needs.

    Raises:
        CalibanError: ``unknown-xgroup``, ``unknown-job``.
    """
    from caliban.submission.groups import read_group

    per_experiment = None if request.choice.needs_all_attempts else 1
    group = read_group(store, context.user, request.xgroup, per_experiment=per_experiment)
    request.choice.check(group)
    return group


def _no_group_given(store: Store, user: str) -> UsageError:
    from caliban.store.queries import group_names

    with store.reading() as session:
        names = group_names(session, user)
    known = f"your experiment groups: {', '.join(names[-10:])}" if names else f"{store.location} has no groups of yours"
    return UsageError("no-xgroup", "--xgroup is required", hint=f"run: caliban resubmit --xgroup NAME; {known}")


def _dry_run(request: ResubmitRequest, context: Context, platforms: Platforms, store: Store, group: GroupRecord) -> int:
    from caliban.resubmit import report
    from caliban.resubmit.code_step import compared
    from caliban.resubmit.code_step import show as show_code
    from caliban.resubmit.documents import plan_document
    from caliban.store.journal import Journal
    from caliban.submission.in_doubt import report_unreachable
    from caliban.submission.reconcile import describe_open
    from caliban.submission.refresh import refresh

    open_submissions = Journal(store, context.clock).open_submissions(user=context.user, group=group.name)
    in_progress = describe_open(open_submissions, context.clock)
    refreshed = refresh([request.refreshed(group)], platforms).groups[0]
    batch = change_flags.interrupted_batch(request, store, context)
    plan = _plan(group.updated(refreshed), request, in_progress, platforms, store, batch)
    comparison = compared(plan, context, platforms, store)
    plan = comparison.plan
    show = context.console.print
    foreign = tuple(_foreign_lines(plan, context, platforms, store)) if plan.jobs else ()
    context.console.document(lambda: plan_document(plan, foreign))
    if plan.jobs:
        _print(context, report.job_lines(plan))
        _print(context, report.migration_lines(plan))
        _print(context, foreign)
        show("")
        _print(context, report.image_lines(plan, context.home))
        _warn_of_sizes(plan, context)
        show_code(comparison, request.code, context.console)
    else:
        show(report.nothing_line(plan, request.choice))
    if plan.skipped:
        show("")
        _print(context, report.skipped_lines(plan))
    _report_problems(plan, context)
    report_unreachable(plan.group, len(plan.unreachable), context.console)
    if plan.ready:
        show("", "nothing was submitted: to resubmit these jobs, run this command without --dry_run")
    elif plan.jobs:
        show("", "nothing was submitted: fix the problems above, then run this command without --dry_run")
    return ExitCode.DONE


def _warn_of_sizes(plan: Plan, context: Context) -> None:
    from caliban.images.context_warnings import context_warnings
    from caliban.images.spec import BuildSpec

    needed = (image.source for image in plan.images if image.is_needed)
    for warning in dict.fromkeys(
        each for source in needed if isinstance(source, BuildSpec) for each in context_warnings(source)
    ):
        context.console.warn(warning)


def _resubmit(request: ResubmitRequest, context: Context, platforms: Platforms, store: Store) -> int:
    from caliban.resubmit import report
    from caliban.resubmit.code_step import compared
    from caliban.resubmit.code_step import show as show_code
    from caliban.resubmit.documents import resubmit_document
    from caliban.resubmit.plan import problems
    from caliban.resubmit.waiting import ended

    plan, is_in_doubt = _current_plan(request, context, platforms, store)
    if not plan.jobs:
        context.console.document(lambda: resubmit_document(plan, (), 0))
        context.console.print(report.nothing_line(plan, request.choice))
        store.close()
        return ended(plan, request, (), context, platforms, is_in_doubt=is_in_doubt)
    comparison = compared(plan, context, platforms, store)
    plan = comparison.plan
    _print(context, report.job_lines(plan))
    _print(context, report.migration_lines(plan))
    _print(context, _foreign_lines(plan, context, platforms, store))
    show_code(comparison, request.code, context.console)
    _report_problems(plan, context)
    if not plan.ready:
        context.console.document(lambda: resubmit_document(plan, problems(plan), 0))
        return ExitCode.NOT_DONE
    if plan.builds_images:
        platforms.context.engine()  # fail before the question when Docker does not run
    question = f"do you wish to resubmit these {len(plan.ready)} jobs?"
    if not request.yes and not context.console.agreed(question, "resubmitted"):
        return ExitCode.NOT_DONE
    outcomes, further = _submit(plan, request, context, platforms, store)
    store.close()  # it is not kept open while jobs are waited for
    return ended(plan, request, outcomes, context, platforms, further, is_in_doubt=is_in_doubt)


def _submit(
    plan: Plan, request: ResubmitRequest, context: Context, platforms: Platforms, store: Store
) -> tuple[Sequence[Outcome], FurtherJobs]:
    """Rebuild and submit what can be; the outcomes are those of the jobs with a problem too."""
    from caliban.resubmit.changes import record_experiments, recorded_jobs, with_recorded
    from caliban.resubmit.documents import resubmit_document
    from caliban.resubmit.plan import problems, ready_job
    from caliban.submission.images import Images
    from caliban.submission.pipeline import submit_jobs
    from caliban.submission.setup import build_user
    from caliban.submission.submit import InterruptedSubmissionError, Submitter
    from caliban.waiting.dispatching import FurtherJobs, split

    context.console.jobs_to_stderr = True  # standard output has the plan and the results
    if plan.builds_images:
        context.console.info("rebuilding containers...")
    images = Images(platforms.context, build_user(context.user))
    command = change_flags.journaled_command(request, plan.continued, context.user)
    submitter = Submitter(store, platforms, context.console, context.user, command=command)
    record = partial(record_experiments, store=store, user=context.user, group=plan.group, clock=context.clock)
    found = problems(plan)
    jobs, rest = split([ready_job(job) for job in plan.ready], request.wait, images)
    rest = recorded_jobs(rest, record)
    submitter.finishes = not rest
    try:
        found = [*found, *submit_jobs(jobs, images, submitter, record)]
    except InterruptedSubmissionError as interrupted:
        found, not_started = [*problems(plan), *interrupted.outcomes], interrupted.not_started + len(rest)
        report_outcomes(context.console, found, plan.group, not_started=not_started)
        raise
    finally:  # what was submitted is reported whatever ended it
        known = submitter.outcomes
        context.console.document(
            lambda: resubmit_document(plan, [*problems(plan), *known], len(plan.ready) - len(known))
        )
    return found, FurtherJobs(with_recorded(jobs, found), images, submitter.since, rest, command)


def _current_plan(request: ResubmitRequest, context: Context, platforms: Platforms, store: Store) -> tuple[Plan, bool]:
    """Return the plan, after open submissions were reconciled and states refreshed and recorded.

    Returns:
        The plan; whether jobs of experiments that are left out may be running, which only their platform knows.
    """
    from caliban.submission.in_doubt import reconcile_open, report_doubt, report_unreachable
    from caliban.submission.reconcile import describe_open
    from caliban.submission.refresh import refresh

    left = reconcile_open(store, platforms, context.user, request.xgroup)
    group = _read_group(request, context, store)
    [refreshed] = refresh([request.refreshed(group)], platforms).record(store, platforms)
    group = group.updated(refreshed)
    in_progress = describe_open([*left.in_progress, *left.in_doubt], context.clock)
    batch = change_flags.interrupted_batch(request, store, context)
    plan = _plan(group, request, in_progress, platforms, store, batch)
    change_flags.report_continued(plan, store, context)
    report_doubt(left.in_doubt, context.console)
    report_unreachable(plan.group, len(plan.unreachable), context.console)
    return plan, bool(left.in_doubt or plan.unreachable)


def _plan(
    group: GroupRecord,
    request: ResubmitRequest,
    in_progress: Mapping[int, str],
    platforms: Platforms,
    store: Store,
    continued: RecordedBatch | None,
) -> Plan:
    from caliban.resubmit.changes import Rules, change_jobs, with_same_command_lines
    from caliban.resubmit.forecast import forecasts
    from caliban.resubmit.kept_image import check_kept_images
    from caliban.resubmit.migrate import migrate
    from caliban.resubmit.plan import Plan
    from caliban.resubmit.preflight import check_jobs, plan_jobs, with_migration_hint
    from caliban.resubmit.selection import select
    from caliban.store.code import recorded_builds
    from caliban.store.first_submissions import first_submissions

    choice, connect = request.choice, not request.dry_run
    first = first_submissions(store, (each.id for each in group.experiments if each.latest is None))
    chosen = replace(choice, limit=None) if request.overrides else choice
    selection = select(group, chosen, in_progress, first)
    builds = recorded_builds(store, (each.template.id for each in selection.selected))
    planned = plan_jobs(selection.selected, builds, request.code, request.platform)
    jobs = [migrate(job, platforms, request.platform) for job in planned]
    jobs = resources.change_resources(jobs, request.resources, platforms)
    changed = change_jobs(jobs, group, request.overrides, Rules.of(choice, in_progress, continued))
    jobs = with_same_command_lines(changed.jobs, group)
    jobs = check_kept_images(jobs, platforms.context.engine, connect=connect)
    jobs = with_migration_hint(check_jobs(jobs, platforms, connect=connect), group.name)
    expected = forecasts((job.template for job in jobs if job.problem is None), group)
    return Plan(group.name, tuple(jobs), (*selection.skipped, *changed.skipped), continued, expected)


def _foreign_lines(plan: Plan, context: Context, platforms: Platforms, store: Store) -> Iterable[str]:
    """Return what is part of the re-run because someone else recorded it."""
    from caliban.resubmit.foreign import Self, foreign_lines
    from caliban.store.recorders import submitters

    own = Self(context.user, socket.gethostname())
    recorded_by = submitters(store, (job.template.id for job in plan.jobs))
    return foreign_lines(plan.jobs, recorded_by, own, platforms, context.home)


def _report_problems(plan: Plan, context: Context) -> None:
    """Report on standard error which of the planned jobs cannot be resubmitted, and why."""
    from caliban.resubmit.plan import problems

    for line in render.failure_lines(problems(plan)):
        context.console.info(line)


def _print(context: Context, lines: Iterable[str]) -> None:
    for line in lines:
        context.console.print(line)
