"""``caliban abandon``: give up submissions and jobs of a group whose state their platform cannot report any more."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from caliban.cli import documents, flags, render
from caliban.cli.context import Context
from caliban.clock import local_text
from caliban.errors import ExitCode, UsageError
from caliban.platforms.flags import add_account_flags

if TYPE_CHECKING:
    from caliban.attempts import Submission
    from caliban.records import JsonObject
    from caliban.store.database import Store
    from caliban.submission.abandoning import Unanswered

CHANGES_JOBS = True
DESCRIPTION = (
    "Give up the jobs of an experiment group whose state cannot be determined, because their cluster, project or "
    "machine was deleted or renamed. Their experiments can then be resubmitted. Nothing is stopped: a job that was "
    "given up may still be running."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--xgroup``, ``--submission``, ``--dry_run``, those for accounts, ``--yes`` and ``--json``."""
    flags.add_xgroup(parser)
    parser.add_argument(
        "--submission",
        metavar="NAME",
        help="give up only the submission or job of this name (default: all whose state cannot be determined)",
    )
    parser.add_argument("--dry_run", action="store_true", help="show what would be given up, and change nothing")
    add_account_flags(parser)
    flags.add_yes(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Ask the platforms once more, list what they do not answer for, ask the user, close it.

    Returns:
        NOT_DONE where something is left in doubt: the answer was no, or another command is working on it.
    """
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.submission.abandoning import unanswered
    from caliban.submission.groups import read_group
    from caliban.submission.setup import make_platforms

    if not args.xgroup:
        raise UsageError(
            "no-xgroup", "--xgroup is required", hint="to list your experiment groups, run: caliban status"
        )
    url = store_url(context.environ, context.home)
    platforms = make_platforms(context.environ, context.home, context.console, vars(args), context.clock)
    with open_store(url, Access.READ, context.console) as store:
        read_group(store, context.user, args.xgroup)  # a mistyped name must not upgrade, or even create, a store
        if args.dry_run:
            found = unanswered(store, platforms, context.user, args.xgroup, args.submission, look_up=False)
            _show(found, context)
            context.console.document(lambda: _document("caliban.abandon-plan/1", found, args.xgroup))
            context.console.print("", "nothing was given up: to give up these jobs, run this command without --dry_run")
            return ExitCode.DONE
    with open_store(url, Access.WRITE, context.console) as store:
        found = unanswered(store, platforms, context.user, args.xgroup, args.submission, look_up=True)
        _show(found, context)
        if found.number:
            return _abandon(found, args, context, store)
    context.console.document(lambda: _document("caliban.abandon/1", found, args.xgroup, given_up=0))
    return ExitCode.NOT_DONE if found.in_progress else ExitCode.DONE


def _show(found: Unanswered, context: Context) -> None:
    """Print what can be given up and, on standard error, what cannot."""
    for submission in found.in_progress:
        context.console.warn(
            f"{submission.name} is not given up: it is being submitted by {submission.user} on {submission.host} "
            f"(process {submission.pid})"
        )
    if not found.number:
        context.console.print("nothing to give up: the state of every job is known")
        return
    context.console.print("the following jobs would be given up:")
    for submission in found.submissions:
        experiment = found.experiment_of(submission)
        context.console.print(render.command_line(experiment) if experiment else "(deleted experiment)")
        context.console.print(f"  {_submission_line(submission)}")
    for experiment, job in found.jobs:
        context.console.print(render.command_line(experiment))
        context.console.print(f"  {render.job_line(job)}")


def _document(schema: str, found: Unanswered, group: str, **counts: int) -> JsonObject:
    """Return what is or would be given up."""
    return documents.document(
        schema,
        group=group,
        jobs=[
            {"experiment": documents.experiment_fields(experiment), "job": documents.job_fields(job)}
            for experiment, job in found.jobs
        ],
        submissions=documents.submissions_fields(found.submissions),
        in_progress=documents.submissions_fields(found.in_progress),
        **counts,
    )


def _submission_line(submission: Submission) -> str:
    """Return what is needed to look for the job by hand."""
    place = ", ".join(f"{key}: {value}" for key, value in submission.destination.items())
    return (
        f"{submission.name} ({submission.platform}{', ' if place else ''}{place}), submitted by {submission.user} on "
        f"{submission.host} at {local_text(submission.created)}, token {submission.token}"
    )


def _abandon(found: Unanswered, args: argparse.Namespace, context: Context, store: Store) -> ExitCode:
    from caliban.submission.abandoning import abandon

    question = f"give up {render.count(found.number, 'job')}, even if still running?"
    if not args.yes and not context.console.agreed(question, "given up"):
        return ExitCode.NOT_DONE
    number = abandon(found, store, context.user)
    context.console.document(lambda: _document("caliban.abandon/1", found, args.xgroup, given_up=number))
    context.console.info(
        f"{render.count(number, 'job')} given up; to submit again, run: "
        f"caliban resubmit --xgroup {shlex.quote(args.xgroup)}"
    )
    return ExitCode.DONE if number == found.number and not found.in_progress else ExitCode.NOT_DONE
