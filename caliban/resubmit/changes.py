"""Re-run experiments with changed parameters: one planned job for each chosen experiment and combination of changes.

A changed experiment is another experiment of the same group. One that exists already is used again, whatever its latest
job ended with: it was asked for. Changes that make the same experiment of several are submitted once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from caliban.errors import CalibanError, UsageError
from caliban.records import ExperimentRecord, GroupRecord, JobStatus, Outcome
from caliban.resubmit.overrides import Applied, Override, apply
from caliban.resubmit.plan import Change, PlannedJob
from caliban.resubmit.selection import ALREADY_SUBMITTED, Choice, SkippedExperiment, state_text
from caliban.store.origins import ExperimentIndex, record_derived
from caliban.submission.experiments import MAX_EXPERIMENTS

if TYPE_CHECKING:
    from caliban.clock import Clock
    from caliban.store.batches import RecordedBatch
    from caliban.store.database import Store
    from caliban.submission.pipeline import ReadyJob, RecordExperiments


@dataclass(frozen=True)
class Rules:
    """What leaves out a changed experiment that exists already.

    Attributes:
        choice: its limits on attempts and jobs.
        in_progress: why some experiments cannot be re-run now, by ``experiments.id``.
        newest_job: ``batches.newest_job`` of the interrupted command that this one continues, or None.
    """

    choice: Choice
    in_progress: Mapping[int, str]
    newest_job: int | None = None

    @classmethod
    def of(cls, choice: Choice, in_progress: Mapping[int, str], continued: RecordedBatch | None) -> Rules:
        """Return the rules of a command."""
        return cls(choice, in_progress, continued.newest_job if continued else None)


@dataclass(frozen=True)
class Changed:
    """The jobs after the changes, and what is left out."""

    jobs: tuple[PlannedJob, ...]
    skipped: tuple[SkippedExperiment, ...]


def change_jobs(jobs: Sequence[PlannedJob], group: GroupRecord, overrides: Sequence[Override], rules: Rules) -> Changed:
    """Return the jobs with changed parameters; without changes, they stay as they are.

    Args:
        jobs: of the chosen experiments.
        group: with all experiments, their latest jobs refreshed.
        overrides: one for each combination; empty for none.
        rules: what leaves out an experiment that exists already.

    Raises:
        UsageError: ``too-many-experiments``.
    """
    if not overrides:
        return Changed(tuple(jobs), ())
    if len(jobs) * len(overrides) > MAX_EXPERIMENTS:
        raise UsageError(
            "too-many-experiments",
            f"{len(jobs):,} chosen experiments with {len(overrides):,} combinations of parameters each are "
            f"{len(jobs) * len(overrides):,} jobs",
            cause=f"at most {MAX_EXPERIMENTS:,} are possible",
            hint="choose fewer experiments (--job, --match, --state), or shorten the lists",
        )
    index = ExperimentIndex(group.experiments)
    merged: dict[object, PlannedJob] = {}
    for job in jobs:
        for changed, failure in _combinations(job, overrides, index):
            key = (index.key(changed.experiment), failure)
            merged[key] = _merged(merged[key], changed) if key in merged else changed
    return _limited(list(merged.values()), rules)


def _combinations(
    job: PlannedJob, overrides: Sequence[Override], index: ExperimentIndex
) -> Iterator[tuple[PlannedJob, str | None]]:
    """Yield a job for each combination; one that cannot be applied is a job with a problem, and why."""
    for override in overrides:
        try:
            applied = apply(job.experiment, override)
        except CalibanError as error:
            yield replace(job, problem=job.problem or error), error.message
        else:
            yield (_changed(job, applied, index) if applied.changes else job), None


def _changed(job: PlannedJob, applied: Applied, index: ExperimentIndex) -> PlannedJob:
    origin = job.experiment
    wanted = ExperimentRecord(0, applied.args, applied.kwargs, origin.container, origin=origin.id)
    return replace(job, experiment=index.find(wanted) or wanted, change=Change(origin, applied.changes))


def _merged(first: PlannedJob, second: PlannedJob) -> PlannedJob:
    """Return the one job of two that become the same; one that is not changed is kept."""
    kept, other = (second, first) if first.is_changed and not second.is_changed else (first, second)
    change = kept.change or Change(kept.experiment, ())
    before = other.change or Change(other.experiment, ())
    also_from = dict.fromkeys((*change.also_from, before.origin.id, *before.also_from))
    also_from.pop(change.origin.id, None)
    return replace(kept, change=replace(change, also_from=tuple(also_from)))


def _limited(jobs: Sequence[PlannedJob], rules: Rules) -> Changed:
    """Leave out what runs, what was submitted, and what is beyond ``--limit``, which counts jobs."""
    limit = rules.choice.limit
    kept: list[PlannedJob] = []
    skipped: list[SkippedExperiment] = []
    beyond: dict[int, list[ExperimentRecord]] = {}
    for job in jobs:
        reason = _reason_to_skip(job, rules)
        if reason is not None:
            skipped.append(SkippedExperiment(job.experiment, reason))
        elif limit is not None and len(kept) >= limit:
            beyond.setdefault(job.origin.id, []).append(job.origin)
        else:
            kept.append(job)
    total = Counter(job.origin.id for job in jobs)
    for origin_id, origins in beyond.items():
        of = f", {len(origins)} of its {total[origin_id]} combinations" if total[origin_id] > 1 else ""
        skipped.append(SkippedExperiment(origins[0], f"beyond --limit {limit}{of}"))
    return Changed(tuple(kept), tuple(skipped))


def _reason_to_skip(job: PlannedJob, rules: Rules) -> str | None:
    """Return why an experiment is not submitted, where the changes lead to a recorded one."""
    latest = job.experiment.latest
    is_newer = latest is not None and rules.newest_job is not None and latest.id > rules.newest_job
    if is_newer and latest is not None and latest.status is JobStatus.SUCCEEDED:
        return ALREADY_SUBMITTED
    if not job.is_changed:
        return None
    reason = rules.in_progress.get(job.experiment.id)
    if reason is None and latest is not None and not latest.status.is_final:
        reason = state_text(latest)
    return reason or rules.choice.reason_of_attempts(job.experiment)


def with_same_command_lines(jobs: Sequence[PlannedJob], group: GroupRecord) -> list[PlannedJob]:
    """Return the jobs with the other experiments of the group that have the same command line."""
    by_line: dict[object, list[int]] = {}
    for each in group.experiments:
        by_line.setdefault((each.container.entrypoint, each.arguments), []).append(each.id)
    found = []
    for job in jobs:
        line = (job.experiment.container.entrypoint, job.experiment.arguments)
        others = tuple(each for each in by_line.get(line, ()) if each != job.experiment.id)
        found.append(replace(job, same_command_line=others) if others else job)
    return found


def record_experiments(
    experiments: Sequence[ExperimentRecord], store: Store, user: str, group: str, clock: Clock
) -> list[ExperimentRecord]:
    """Record the experiments that do not exist yet, in one transaction.

    Args:
        experiments: of what is about to be submitted; those with the id 0 do not exist yet.
        store: open for writing.
        user: whose group it is.
        group: its name.
        clock: of this machine.

    Returns:
        The experiments with their ids, in order.
    """
    new = [each for each in experiments if each.id == 0]
    if not new:
        return list(experiments)
    with store.writing() as session:
        ids = iter(record_derived(session, new, user=user, group=group, clock=clock))
    return [each if each.id else replace(each, id=next(ids)) for each in experiments]


def recorded_jobs(jobs: Sequence[ReadyJob], record: RecordExperiments) -> list[ReadyJob]:
    """Record the experiments of jobs that are submitted later, and return the jobs with them."""
    recorded = record([job.experiment for job in jobs])
    return [replace(job, experiment=each) for job, each in zip(jobs, recorded, strict=True)]


def with_recorded(jobs: Sequence[ReadyJob], outcomes: Sequence[Outcome]) -> list[ReadyJob]:
    """Return jobs with their experiments as they are recorded now."""
    recorded = {(each.container.id, each.arguments): each for each in (outcome.experiment for outcome in outcomes)}
    return [
        job
        if job.experiment.id
        else replace(
            job, experiment=recorded.get((job.experiment.container.id, job.experiment.arguments), job.experiment)
        )
        for job in jobs
    ]


class PlannedJobs:
    """Finds the planned job of an outcome, whose experiment may have been recorded since."""

    def __init__(self, jobs: Iterable[PlannedJob]) -> None:
        self._by_id: dict[int, PlannedJob] = {}
        self._new: dict[object, PlannedJob] = {}
        for job in jobs:
            if job.experiment.id:
                self._by_id[job.experiment.id] = job
            else:
                self._new[job.experiment.container.id, job.experiment.arguments] = job

    def find(self, outcome: Outcome) -> PlannedJob | None:
        """Return the planned job; None if there is none."""
        experiment = outcome.experiment
        return self._by_id.get(experiment.id) or self._new.get((experiment.container.id, experiment.arguments))
