"""Wait for the jobs that a command has submitted, and report how they ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from caliban.cli import render
from caliban.cli.context import Context
from caliban.cli.outcomes import report_outcomes
from caliban.durations import duration_text
from caliban.errors import ExitCode
from caliban.platforms.flags import cloud_key
from caliban.platforms.registry import Platforms
from caliban.records import JobRecord, JobStatus, Outcome
from caliban.waiting.flags import WaitOptions
from caliban.waiting.looks import Look, Looker, Wanted
from caliban.waiting.reporters import WaitReporter
from caliban.waiting.retrying import Resubmittable, Retries
from caliban.waiting.view import going_on, unknown_lines
from caliban.waiting.wait import Waiter


@dataclass(frozen=True)
class Submitted:
    """What a command has submitted.

    Attributes:
        group: the experiment group's name.
        outcomes: one for each attempt.
        others: ``experiments.id`` of those that are waited for, too: an interrupted command has submitted them.
        if_unfinished: likewise, if they have not ended: another command runs them.
    """

    group: str
    outcomes: Sequence[Outcome]
    others: frozenset[int] = frozenset()
    if_unfinished: frozenset[int] = frozenset()

    @property
    def wanted(self) -> Wanted:
        """What is waited for."""
        ids = frozenset(each.experiment.id for each in self.outcomes)
        return Wanted(self.group, ids=ids | self.others, if_unfinished=self.if_unfinished - ids)

    def after(self, look: Look | None) -> list[Outcome]:
        """Return the outcomes as they are now: the latest job of an experiment counts.

        Where an attempt failed and no newer job has come, its error stays.
        """
        now = {each.id: each for each in look.experiments} if look else {}
        outcomes = [
            _updated(outcome, now[outcome.experiment.id].latest) if outcome.experiment.id in now else outcome
            for outcome in self.outcomes
        ]
        known = {outcome.experiment.id for outcome in outcomes}
        return [*outcomes, *(Outcome(each, each.latest) for each in now.values() if each.id not in known)]


def _updated(outcome: Outcome, job: JobRecord | None) -> Outcome:
    if job is None:
        return outcome
    before = outcome.job or outcome.experiment.latest
    if outcome.job is None and before is not None and job.id <= before.id:
        return outcome
    is_same = outcome.job is not None and outcome.job.id == job.id
    keeps_error = is_same and job.status is not JobStatus.SUCCEEDED
    return Outcome(outcome.experiment, job, outcome.error if keeps_error else None)


def wait_for(
    submitted: Submitted,
    options: WaitOptions,
    context: Context,
    platforms: Platforms,
    document: Callable[[Sequence[Outcome]], None],
    again: Resubmittable | None = None,
) -> ExitCode:
    """Wait until the jobs have ended, and report their results.

    Args:
        submitted: what is waited for.
        options: how.
        context: the process.
        platforms: where the jobs run.
        document: sets what ``--json`` writes.
        again: how jobs are submitted again, for retries; None where nothing was submitted.

    Raises:
        KeyboardInterrupt: after Ctrl-C; what was known by then was reported.
    """
    wanted = replace(submitted.wanted, attempts=options.retries + 2)  # one more than the retries and what they retry
    reporter = WaitReporter(context.console)
    looking = Platforms(replace(platforms.context, reporter=reporter))
    retrier = Retries(again, options, context, platforms) if again and options.retries else None
    waiter = Waiter(Looker(wanted, context, looking, reporter), context, reporter, options.timeout, retrier)
    key = _cloud_key(platforms)
    try:
        waited = waiter.wait()
    except BaseException as error:
        outcomes = submitted.after(waiter.last)
        document(outcomes)
        report_outcomes(context.console, outcomes, submitted.group)
        if isinstance(error, KeyboardInterrupt) and waiter.last is not None:
            context.console.info(
                f"not waiting any longer: {render.count(len(waiter.last.unfinished), 'job')} not ended, and still "
                "running or queued",
                f"to go on waiting, run: {going_on(waiter.last, wanted, key)}",
            )
        raise
    outcomes, look = submitted.after(waited.look), waited.look
    document(outcomes)
    code = report_outcomes(context.console, outcomes, submitted.group)
    context.console.info(*unknown_lines(look))
    if waited.timed_out:
        rest = render.count(len(look.unfinished), "experiment")
        context.console.info(
            f"timeout: {rest} of {len(look.experiments)} not ended after {duration_text(waited.seconds)}",
            f"to go on waiting, run: {going_on(look, wanted, key)}",
        )
        return ExitCode.TIMED_OUT
    return code if all(_has_succeeded(each) for each in outcomes) else ExitCode.NOT_DONE


def _has_succeeded(outcome: Outcome) -> bool:
    return outcome.error is None and outcome.job is not None and outcome.job.status is JobStatus.SUCCEEDED


def _cloud_key(platforms: Platforms) -> list[str]:
    key = cloud_key(platforms.context.options)
    return [] if key is None else ["--cloud_key", str(key)]
