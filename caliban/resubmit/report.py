"""Render a plan as lines of text, in the words of ``caliban_resubmit.rst``. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from caliban.cli import render
from caliban.errors import CalibanError
from caliban.images.spec import ImageSpec
from caliban.resubmit import code, forecast, resources
from caliban.resubmit.change_report import change_details
from caliban.resubmit.plan import Plan, PlannedImage
from caliban.resubmit.selection import Choice, state_text


def job_lines(plan: Plan) -> Iterator[str]:
    """Yield the jobs, each with its command line."""
    yield "the following jobs would be resubmitted:"
    is_common = code.is_common(plan)
    for planned in plan.jobs:
        yield render.command_line(planned.experiment)
        if planned.origin.latest is None:
            template = planned.template
            settings = (
                f"the settings of job {template.id}" if template.id else "the settings that it was submitted with"
            )
            yield f"  never run; would run on {template.platform} with {settings}"
        else:
            yield f"  {render.job_line(planned.origin.latest)}"
        for detail in change_details(planned):
            yield f"    {detail}"
        yield from resources.line(planned)
        if not is_common:
            yield from code.line(planned)
    yield from code.common_lines(plan)
    yield from forecast.lines(plan.forecasts)


def migration_lines(plan: Plan) -> Iterator[str]:
    """Yield where jobs are migrated to, and each setting that is dropped with the number of jobs that it concerns."""
    platforms = Counter(job.template.platform for job in plan.ready if job.is_migrated)
    for platform, number in platforms.items():
        yield f"{render.count(number, 'job')} would be moved to {platform}"
    dropped = Counter(line for job in plan.ready for line in job.dropped_settings)
    if dropped:
        yield "some settings would change:"
    for line, number in dropped.items():
        yield f"  {line} ({render.count(number, 'job')})"


def image_lines(plan: Plan, home: Path) -> Iterator[str]:
    """Yield where the images come from."""
    yield "container images:"
    for image in plan.images:
        yield f"  docker config {image.container.id}, for {render.count(image.jobs, 'job')}: {_origin(image, home)}"


def _origin(image: PlannedImage, home: Path) -> str:
    if isinstance(image.source, CalibanError):
        return image.source.message
    if image.is_kept and isinstance(image.source, ImageSpec):
        return f"{image.source.image}, not rebuilt (--no_rebuild)"
    if isinstance(image.source, ImageSpec):
        return f"{image.source.image}, not rebuilt: the experiments name an existing image"
    directory = render.short_path(str(image.source.build_path), home)
    if not image.is_needed:
        return f"no image, would run in {directory}"
    return f"would be rebuilt from {directory} (job_mode: {image.source.job_mode})"


def skipped_lines(plan: Plan) -> Iterator[str]:
    """Yield the experiments that are not re-run, and why."""
    yield "left out:"
    for skipped in plan.skipped:
        experiment = skipped.experiment
        job = f", job {experiment.latest.id}" if experiment.latest else ""
        yield f"  {render.command_line(experiment)} (experiment {experiment.id}{job}): {skipped.reason}"


def nothing_line(plan: Plan, choice: Choice) -> str:
    """Return why there is nothing to resubmit, and what could be done."""
    if not plan.skipped:
        return f"nothing to resubmit: the experiment group {plan.group} has no experiments"
    counts = "; ".join(
        f"{number} {reason}" for reason, number in Counter(skipped.reason for skipped in plan.skipped).items()
    )
    hint = " (--all_jobs resubmits jobs regardless of their state)" if _would_help(plan, choice) else ""
    return f"nothing to resubmit in the experiment group {plan.group}: {counts}{hint}"


def _would_help(plan: Plan, choice: Choice) -> bool:
    """Return whether ``--all_jobs`` would choose more."""
    if choice.all_jobs or choice.filter.states or choice.filter.never_run:
        return False
    latest = ((skipped.experiment.latest, skipped.reason) for skipped in plan.skipped)
    return any(job is not None and reason == state_text(job) for job, reason in latest)
