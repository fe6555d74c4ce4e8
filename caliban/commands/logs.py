"""``caliban logs``: the output of jobs, while they run and after they ended."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from caliban.cli import flags, render
from caliban.cli.context import Context
from caliban.cli.selection import add_selection_flags, job_filter
from caliban.errors import CalibanError, ExitCode, UsageError
from caliban.platforms.flags import add_account_flags, integer_at_least
from caliban.records import JobStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caliban.commands.log_output import Wanted
    from caliban.submission.log_selection import Choice
    from caliban.submission.output import ChosenJob

DESCRIPTION = (
    "Show the output of jobs, while they run and after they ended, on all platforms; without --xgroup, --job or other "
    "flags that choose jobs, that of your most recent job."
)

_MAX_FOLLOWED = 100
"""Each job that is followed needs a connection of its own."""

_ATTEMPT = re.compile(r"-?[1-9]\d{0,8}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose jobs, and those that choose lines."""
    flags.add_xgroup(parser)
    add_selection_flags(parser)
    parser.add_argument("--failed", action="store_true", help="only failed jobs, as --state failed")
    parser.add_argument(
        "--attempt",
        type=_attempt,
        metavar="N",
        help="the N-th attempt of each experiment, from 1 on; -1 is the latest one, -2 the one before (default: the "
        "latest); with --job, of the experiment of that job",
    )
    parser.add_argument("-f", "--follow", action="store_true", help="show what is written until the jobs end")
    parser.add_argument("--tail", type=integer_at_least(0), metavar="N", help="only the last N lines of each job")
    parser.add_argument(
        "--grep",
        metavar="REGEX",
        help="only lines that have a match of this regular expression of Python; --tail then counts these lines",
    )
    parser.add_argument("--timestamps", action="store_true", help="put the time in front of each line, in UTC")
    parser.add_argument(
        "--path", action="store_true", help="print only the path of the file that has the output on this machine"
    )
    flags.add_json(parser)
    add_account_flags(parser)


def _attempt(text: str) -> int:
    if not _ATTEMPT.fullmatch(text):
        raise argparse.ArgumentTypeError(f'expected an integer other than 0, got "{text}"')
    return int(text)


def run(args: argparse.Namespace, context: Context) -> int:
    """Choose the jobs, refresh their states, and show what each wrote, from the best source that has it.

    Returns:
        NOT_DONE where the output of a job could not be shown.
    """
    _check(args)
    wanted, choice = _wanted(args), _choice(args, context)

    from caliban.store.address import store_url
    from caliban.submission.log_selection import choose
    from caliban.submission.setup import make_platforms

    url = store_url(context.environ, context.home)
    platforms = make_platforms(context.environ, context.home, context.console, vars(args), context.clock)
    jobs = choose(choice, url, context.user, platforms, context.console)
    if not jobs:
        context.console.info(_nothing(choice, context.user))
    if args.path:
        return _print_paths(jobs, context)
    _check_number(jobs, args)

    from caliban.commands.log_output import LogOutput

    return LogOutput(context, platforms, url, wanted, names_one=choice.names_one).show(jobs, choice.is_default)


def _check(args: argparse.Namespace) -> None:
    """Check that the flags can be combined.

    Raises:
        UsageError: ``conflicting-flags``.
    """
    if args.as_json and args.follow:
        raise UsageError(
            "conflicting-flags",
            "--json and --follow cannot be combined",
            cause="--json writes one document, when everything is known",
            hint="leave out one of them",
        )
    if args.follow and args.grep is not None and args.tail is not None:
        raise UsageError(
            "conflicting-flags", "--follow, --grep and --tail cannot be combined", hint="leave out one of them"
        )
    others = ("follow", "tail", "grep", "timestamps", "as_json")
    given = [name for name in others if getattr(args, name) is not None and getattr(args, name) is not False]
    if args.path and given:
        raise UsageError(
            "conflicting-flags",
            f"--path and --{given[0].removeprefix('as_')} cannot be combined",
            hint="--path prints paths only: leave out one of them",
        )


def _wanted(args: argparse.Namespace) -> Wanted:
    from caliban.commands.log_output import Wanted
    from caliban.outputs.line_choice import Pattern

    try:
        pattern = None if args.grep is None else Pattern(args.grep)
    except ValueError as error:
        raise UsageError(
            "invalid-value",
            f'--grep: "{args.grep}" is not a regular expression',
            cause=str(error),
            hint="put a backslash before characters that stand for themselves: \\( \\[ \\* \\+ \\?",
        ) from error
    return Wanted(args.tail, pattern, args.follow, args.timestamps)


def _choice(args: argparse.Namespace, context: Context) -> Choice:
    from dataclasses import replace

    from caliban.submission.log_selection import Choice

    chosen = job_filter(args, context.clock)
    if args.failed:
        chosen = replace(chosen, states=chosen.states | {JobStatus.FAILED})
    return Choice(chosen, args.xgroup, args.attempt)


def _nothing(choice: Choice, user: str) -> str:
    if choice.is_default:
        return f"{user} has no jobs yet; to run experiments, see: caliban run --help"
    return "no jobs match"


def _check_number(jobs: Sequence[ChosenJob], args: argparse.Namespace) -> None:
    unfinished = sum(not each.job.status.is_final for each in jobs)
    if args.follow and unfinished > _MAX_FOLLOWED:
        raise CalibanError(
            "too-many-jobs",
            f"cannot follow {render.count(unfinished, 'job')} at a time",
            cause=f"at most {_MAX_FOLLOWED} can be followed",
            hint="choose some of them with --xgroup, --job, --match or --since",
        )


def _print_paths(jobs: Sequence[ChosenJob], context: Context) -> int:
    """Print the path of each file there is; a job that has none is an error, which the others do not suffer from."""
    from caliban.submission.output import existing_log

    missing = [each.job for each in jobs if existing_log(context.home, each.job) is None]
    for each in jobs:
        path = existing_log(context.home, each.job)
        if path is not None:
            context.console.print(str(path))
    for job in missing:
        context.console.error(
            CalibanError(
                "no-log-file",
                f"no file of this machine has the output of job {job.id}",
                hint=f"to show the output, run: caliban logs --job {job.id}",
            )
        )
    return ExitCode.NOT_DONE if missing else ExitCode.DONE
