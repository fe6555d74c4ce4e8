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
from caliban.waiting.dispatching import Dispatcher, FurtherJobs
from caliban.waiting.flags import WaitOptions
from caliban.waiting.looks import Look, Looker, Wanted
from caliban.waiting.reporters import WaitReporter
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

    def after(self, look: Look | None, dispatcher: Dispatcher | None) -> list[Outcome]:
        """Return the outcomes as they are now: the latest job of an experiment counts.

        Where an attempt failed and no newer job has come, its error stays. What is not submitted yet has no outcome.
        """
        now = {each.id: each for each in look.experiments} if look else {}
        outcomes = [
            _updated(outcome, now[outcome.experiment.id].latest) if outcome.experiment.id in now else outcome
            for outcome in (*self.outcomes, *(dispatcher.outcomes if dispatcher else ()))
        ]
        known = {outcome.experiment.id for outcome in outcomes}
        known |= {job.experiment.id for job in dispatcher.not_started} if dispatcher else set()
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
    document: Callable[[Sequence[Outcome], int], None],
    further: FurtherJobs | None = None,
) -> ExitCode:
    """Wait until the jobs have ended, and report their results.

    Args:
        submitted: what is waited for.
        options: how.
        context: the process.
        platforms: where the jobs run.
        document: sets what ``--json`` writes: outcomes, and how many attempts were not started.
        further: what may be submitted meanwhile; None where nothing was submitted.

    Raises:
        KeyboardInterrupt: after Ctrl-C; what was known by then was reported.
    """
    wanted = replace(submitted.wanted, attempts=options.retries + 2)  # one more than the retries and what they retry
    if further:
        wanted = replace(wanted, ids=(wanted.ids or frozenset()) | {job.experiment.id for job in further.rest})
    reporter = WaitReporter(context.console)
    looking = Platforms(replace(platforms.context, reporter=reporter))
    dispatcher = Dispatcher(further, options, context, platforms) if further else None
    waiter = Waiter(Looker(wanted, context, looking, reporter), context, reporter, options.timeout, dispatcher)

    def report(look: Look | None, head: str | None) -> tuple[ExitCode, list[Outcome]]:
        outcomes, not_started = submitted.after(look, dispatcher), len(dispatcher.not_started) if dispatcher else 0
        document(outcomes, not_started)
        code = report_outcomes(context.console, outcomes, submitted.group, not_started=not_started)
        if head is not None and look is not None and (look.unfinished or not_started):
            number = render.count(len(look.unfinished), "job")
            context.console.info(f"{head}: {number} not ended, and still running or queued")
            again = f"to go on waiting, run: {going_on(look, wanted, _cloud_key(platforms))}"
            context.console.info(again if not not_started else "to submit the rest, run the same command again")
        return code, outcomes

    try:
        waited = waiter.wait()
    except BaseException:
        report(waiter.last, "not waiting any longer")
        raise
    code, outcomes = report(waited.look, f"timeout after {duration_text(waited.seconds)}" if waited.timed_out else None)
    context.console.info(*unknown_lines(waited.look))
    if waited.timed_out:
        return ExitCode.TIMED_OUT
    if not options.to_the_end:
        return code
    return code if all(_has_succeeded(each) for each in outcomes) else ExitCode.NOT_DONE


def _has_succeeded(outcome: Outcome) -> bool:
    return outcome.error is None and outcome.job is not None and outcome.job.status is JobStatus.SUCCEEDED


def _cloud_key(platforms: Platforms) -> list[str]:
    key = cloud_key(platforms.context.options)
    return [] if key is None else ["--cloud_key", str(key)]
