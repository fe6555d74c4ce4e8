"""A plan and its outcomes as JSON documents. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from caliban.cli import documents
from caliban.errors import CalibanError
from caliban.images.spec import ImageSpec
from caliban.records import JsonObject, Outcome
from caliban.resubmit import code, forecast, resources
from caliban.resubmit.change_report import change_fields
from caliban.resubmit.changes import PlannedJobs
from caliban.resubmit.plan import Plan, PlannedImage, PlannedJob
from caliban.resubmit.selection import SkippedExperiment


def plan_document(plan: Plan, effects: Sequence[str]) -> JsonObject:
    """Return what ``--dry_run`` would do.

    Args:
        plan: with the jobs and what is left out.
        effects: what would happen because someone else recorded it, a line each.
    """
    return documents.document(
        "caliban.resubmit-plan/1",
        group=plan.group,
        jobs=[_planned(job) for job in plan.jobs],
        left_out=_left_out(plan),
        images=[_image(image) for image in plan.images],
        effects=list(effects),
        forecasts=forecast.fields(plan.forecasts),
    )


def resubmit_document(plan: Plan, outcomes: Sequence[Outcome], not_started: int) -> JsonObject:
    """Return what was submitted, and what was not."""
    planned = PlannedJobs(plan.jobs)
    jobs = [_resubmitted(outcome, planned.find(outcome)) for outcome in outcomes]
    return documents.document(
        "caliban.resubmit/1",
        group=plan.group,
        summary=documents.summary_fields(outcomes, not_started),
        jobs=jobs,
        left_out=_left_out(plan),
    )


def _resubmitted(outcome: Outcome, job: PlannedJob | None) -> JsonObject:
    before = job.experiment.latest if job else None
    resubmits = before.id if before else None
    return {
        **documents.outcome_fields(outcome),
        "resubmits": resubmits,
        **change_fields(job),
        "resources": resources.fields(job),
    }


def _planned(job: PlannedJob) -> JsonObject:
    latest = job.experiment.latest
    return {
        "experiment": documents.experiment_fields(job.experiment),
        "resubmits": documents.job_fields(latest) if latest else None,
        "platform": job.template.platform,
        "settings_of_job": job.template.id or None,
        "is_migrated": job.is_migrated,
        "dropped_settings": list(job.dropped_settings),
        "error": documents.error_fields(job.problem) if job.problem else None,
        **change_fields(job),
        "resources": resources.fields(job),
        "code": code.fields(job),
    }


def _left_out(plan: Plan) -> list[JsonObject]:
    return [_skipped(each) for each in plan.skipped]


def _skipped(skipped: SkippedExperiment) -> JsonObject:
    latest = skipped.experiment.latest
    return {
        "experiment": documents.experiment_fields(skipped.experiment),
        "job": documents.job_fields(latest) if latest else None,
        "reason": skipped.reason,
    }


def _image(image: PlannedImage) -> JsonObject:
    """Return where an image comes from; the fields are those of a plan of ``caliban run``, too."""
    found: dict[str, object] = {
        "container_id": image.container.id,
        "jobs": image.jobs,
        "action": None,
        "image": None,
        "build_path": None,
        "job_mode": None,
        "error": None,
    }
    source = image.source
    if isinstance(source, CalibanError):
        return {**found, "error": documents.error_fields(source)}
    if isinstance(source, ImageSpec):
        return {**found, "action": "use", "image": source.image}
    action = "build" if image.is_needed else "none"
    return {**found, "action": action, "build_path": str(source.build_path), "job_mode": source.job_mode.value}
