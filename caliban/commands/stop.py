"""``caliban stop``: stop the running jobs of an experiment group, or of all groups."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from caliban.cli import flags, render
from caliban.cli.context import Context
from caliban.errors import CalibanError, ExitCode
from caliban.platforms.flags import add_cloud_key

if TYPE_CHECKING:
    from caliban.platforms.registry import Platforms
    from caliban.records import ExperimentRecord, GroupRecord, JobRecord, Outcome
    from caliban.store.database import Store

CHANGES_JOBS = True
DESCRIPTION = "Stop the running and queued jobs of an experiment group; without --xgroup, those of all your groups."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--xgroup``, ``--dry_run``, ``--cloud_key`` and ``--yes``."""
    flags.add_xgroup(parser)
    parser.add_argument("--dry_run", action="store_true", help="show which jobs would be stopped, and stop none")
    add_cloud_key(parser)
    flags.add_yes(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Refresh states, list what runs, ask, stop each job, report."""
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.submission.groups import read_group, read_recent
    from caliban.submission.refresh import refresh
    from caliban.submission.setup import make_platforms

    url = store_url(context.environ, context.home)
    platforms = make_platforms(context.environ, context.home, context.console, vars(args), context.clock)
    with open_store(url, Access.READ, context.console) as store:
        name = args.xgroup
        recorded = (
            [read_group(store, context.user, name, per_experiment=None)]
            if name
            else read_recent(store, context.user, None)
        )
    groups = refresh(recorded, platforms).groups
    running = [(experiment, job) for group in groups for experiment, job in _unfinished(group)]
    if not running:
        context.console.print("no running or queued jobs")
        return ExitCode.DONE
    context.console.print("the following jobs would be stopped:")
    for experiment, job in running:
        context.console.print(render.command_line(experiment))
        context.console.print(f"  {render.job_line(job)}")
    if args.dry_run:
        context.console.print("", "nothing was stopped: to stop these jobs, run this command without --dry_run")
        return ExitCode.DONE
    if not args.yes and not context.console.agreed(f"stop {render.count(len(running), 'job')}?", "stopped"):
        return ExitCode.NOT_DONE
    with open_store(url, Access.WRITE, context.console) as store:
        return _stop(running, platforms, store, context)


def _unfinished(group: GroupRecord) -> Iterator[tuple[ExperimentRecord, JobRecord]]:
    """Yield what may run. A job whose state is unknown does not exist on its platform any more."""
    from caliban.records import JobStatus

    for experiment in group.experiments:
        for job in experiment.jobs:
            if job.status in (JobStatus.SUBMITTED, JobStatus.RUNNING):
                yield experiment, job


def _stop(
    running: Sequence[tuple[ExperimentRecord, JobRecord]], platforms: Platforms, store: Store, context: Context
) -> int:
    """Stop each job, record its state at once, and report."""
    outcomes = []
    with context.console.progress("stopping", total=len(running), unit="job") as progress:
        for experiment, job in running:
            outcomes.append(_stop_one(experiment, job, platforms, store))
            progress.advance()
    for line in render.outcome_lines(outcomes):
        context.console.print(line)
    for line in render.failure_lines(outcomes):
        context.console.info(line)
    context.console.info(render.summary_line(outcomes))
    return ExitCode.DONE if all(outcome.error is None for outcome in outcomes) else ExitCode.NOT_DONE


def _stop_one(experiment: ExperimentRecord, job: JobRecord, platforms: Platforms, store: Store) -> Outcome:
    from caliban.records import Outcome
    from caliban.store.queries import record_states

    try:
        update = platforms.get(job.platform).stop(job)
        with store.writing() as session:
            record_states(session, {job.id: update})
    except CalibanError as error:
        return Outcome(experiment, job, error)
    return Outcome(experiment, job.updated(update))
