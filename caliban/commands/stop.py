"""``caliban stop``: end the running jobs of an experiment group, or of all groups."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from caliban.cli import flags, render
from caliban.cli.context import Context
from caliban.errors import CalibanError, ExitCode

if TYPE_CHECKING:
    from caliban.platforms.base import Platforms
    from caliban.records import ExperimentRecord, GroupRecord, JobRecord, Outcome
    from caliban.store.database import Store

DESCRIPTION = "Stop the jobs of an experiment group that run or wait; without --xgroup, those of all your groups."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--xgroup``, ``--dry_run``, ``--yes`` and what Google wants."""
    flags.add_xgroup(parser)
    parser.add_argument("--dry_run", action="store_true", help="show which jobs would be stopped, and stop none")
    flags.add_cloud_key(parser)
    flags.add_yes(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Bring states up to date, list what runs, ask, stop each, report."""
    from caliban.platforms.job_summary import title
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.submission.refresh import refresh
    from caliban.submission.setup import make_platforms

    url = store_url(context.environ, context.home)
    platforms = make_platforms(context.environ, context.home, context.console, cloud_key=args.cloud_key)
    with open_store(url, Access.READ, context.console) as store:
        groups = refresh(_groups(store, context.user, args.xgroup), platforms).groups
    running = [(experiment, job) for group in groups for experiment, job in _unfinished(group)]
    if not running:
        context.console.print("nothing to stop: no job runs or waits")
        return ExitCode.DONE
    context.console.print("the following jobs would be stopped:")
    for experiment, job in running:
        context.console.print(render.command_line(experiment))
        context.console.print(f"  {render.job_line(job, title)}")
    if args.dry_run:
        context.console.print("\nnothing was stopped: to stop these jobs, run this command again without --dry_run")
        return ExitCode.DONE
    if not args.yes and not context.console.agreed(f"do you wish to stop these {len(running)} jobs?", "stopped"):
        return ExitCode.NOT_DONE
    with open_store(url, Access.WRITE, context.console) as store:
        return _stop(running, platforms, store, context)


def _groups(store: Store, user: str, name: str | None) -> list[GroupRecord]:
    """The group of that name, or all of the user's, each experiment with all of its jobs."""
    from caliban.store.queries import group_attempts, recent_attempts
    from caliban.submission.groups import unknown_group

    with store.reading() as session:
        if not name:
            return recent_attempts(session, user, None)
        group = group_attempts(session, user, name, per_experiment=None)
        if group is None:
            raise unknown_group(session, store, user, name)
        return [group]


def _unfinished(group: GroupRecord) -> Iterator[tuple[ExperimentRecord, JobRecord]]:
    """What may run. A job in an unknown state has been forgotten by its platform."""
    from caliban.records import JobStatus

    for experiment in group.experiments:
        for job in experiment.jobs:
            if job.status in (JobStatus.SUBMITTED, JobStatus.RUNNING):
                yield experiment, job


def _stop(
    running: Sequence[tuple[ExperimentRecord, JobRecord]], platforms: Platforms, store: Store, context: Context
) -> int:
    """Stop each, record how it stands after that at once, and report."""
    from caliban.platforms.job_summary import title

    outcomes = []
    with context.console.progress("stopping", total=len(running), unit="job") as progress:
        for experiment, job in running:
            outcomes.append(_stop_one(experiment, job, platforms, store))
            progress.advance()
    for line in render.outcome_lines(outcomes, title, lambda job: None):
        context.console.print(line)
    for line in render.failure_lines(outcomes):
        context.console.info(line)
    context.console.info(render.summary_line(outcomes))
    return ExitCode.DONE if all(outcome.error is None for outcome in outcomes) else ExitCode.NOT_DONE


def _stop_one(experiment: ExperimentRecord, job: JobRecord, platforms: Platforms, store: Store) -> Outcome:
    from caliban.records import Outcome
    from caliban.store.queries import record_states

    try:
        after = platforms.get(job.platform).stop(job)
        with store.writing() as session:
            record_states(session, {job.id: (after.status, after.details)})
    except CalibanError as error:
        return Outcome(experiment, job, error)
    details = job.details if after.details is None else after.details
    return Outcome(experiment, replace(job, status=after.status, details=details, refresh_error=None))
