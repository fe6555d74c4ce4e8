"""Render changed parameters of planned jobs: as lines of text, and as fields of JSON documents. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from caliban.records import JsonObject
from caliban.resubmit.plan import PlannedJob


def change_details(job: PlannedJob) -> Iterator[str]:
    """Yield what changes in a job's parameters, and which experiments run the same."""
    if job.is_changed and job.change is not None:
        changes = ", ".join(change.text for change in job.change.parameters)
        yield f"parameters: {changes} ({_experiment(job)})"
    if job.change is not None and job.change.also_from:
        also = _experiments(job.change.also_from)
        yield f"submitted once: {also} would have the same parameters"
    if job.same_command_line:
        own = f"experiment {job.experiment.id}, " if job.experiment.id else ""
        yield f"{own}same command line as {_experiments(job.same_command_line)}"


def _experiment(job: PlannedJob) -> str:
    experiment = job.experiment
    if not experiment.id:
        return "recorded as a new experiment"
    if experiment.latest is None:
        return f"experiment {experiment.id} of this group, never run"
    latest = experiment.latest
    return f"experiment {experiment.id} of this group, again: its job {latest.id} {latest.status.lower()}"


def _experiments(ids: Sequence[int]) -> str:
    return f"experiment{'' if len(ids) == 1 else 's'} {', '.join(map(str, ids))}"


def change_fields(job: PlannedJob | None) -> JsonObject:
    """Return what changes in a job's parameters; of None, nothing."""
    change = job.change if job else None
    return {
        "origin": change.origin.id if change and change.parameters else None,
        "parameters": [
            {"flag": each.flag, "before": each.before, "after": each.after}
            for each in (change.parameters if change else ())
        ],
        "also_from": list(change.also_from) if change else [],
        "same_command_line": list(job.same_command_line) if job else [],
    }
