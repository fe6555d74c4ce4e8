"""A plan -> lines of text, in the words of ``caliban_resubmit.rst``. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from caliban.cli import render
from caliban.errors import CalibanError
from caliban.images.spec import ImageSpec
from caliban.platforms.job_summary import title
from caliban.resubmit.plan import Plan, PlannedImage


def job_lines(plan: Plan) -> Iterator[str]:
    """The jobs, each with its command line."""
    yield "the following jobs would be resubmitted:"
    for planned in plan.jobs:
        yield render.command_line(planned.experiment)
        if planned.experiment.latest is None:
            yield f"  no job yet; it would run as job {planned.pattern.id} did, on {planned.pattern.platform}"
        else:
            yield f"  {render.job_line(planned.experiment.latest, title)}"


def moving_lines(plan: Plan) -> Iterator[str]:
    """Where jobs are moved to, and each thing that will not be as it was, with the number of jobs that it hits."""
    moved = [
        job
        for job in plan.ready
        if job.experiment.latest is not None and job.experiment.latest.platform is not job.pattern.platform
    ]
    places = Counter(job.pattern.platform for job in moved)
    for place, number in places.items():
        yield f"{render.count(number, 'job')} would be moved to {place}"
    losses = Counter(line for job in plan.ready for line in job.lost)
    if losses:
        yield "not everything would be as it was:"
    for line, number in losses.items():
        yield f"  {line} ({render.count(number, 'job')})"


def image_lines(plan: Plan, home: Path) -> Iterator[str]:
    """Where the images come from."""
    yield "container images:"
    for image in plan.images:
        yield f"  docker config {image.container.id}, for {render.count(image.jobs, 'job')}: {_origin(image, home)}"


def _origin(image: PlannedImage, home: Path) -> str:
    if isinstance(image.source, CalibanError):
        return image.source.message
    if isinstance(image.source, ImageSpec):
        return f"{image.source.image} as it is: it was given by name, so there is nothing to rebuild"
    folder = render.short_path(str(image.source.build_path), home)
    return f"would be rebuilt from {folder} (job_mode: {image.source.job_mode})"


def skipped_lines(plan: Plan) -> Iterator[str]:
    """The experiments that are not re-run, and why."""
    yield "left out:"
    for left in plan.skipped:
        job = f", job {left.experiment.latest.id}" if left.experiment.latest else ""
        yield f"  {render.command_line(left.experiment)} (experiment {left.experiment.id}{job}): {left.reason}"


def nothing_line(plan: Plan, *, all_jobs: bool) -> str:
    """Why there is nothing to resubmit, and what could be done."""
    if not plan.skipped:
        return f"nothing to resubmit: the experiment group {plan.group} has no experiments"
    counts = "; ".join(f"{number} {reason}" for reason, number in Counter(left.reason for left in plan.skipped).items())
    could_be = any(left.experiment.latest for left in plan.skipped) and not all_jobs
    hint = " (--all_jobs resubmits jobs whatever their state)" if could_be else ""
    return f"nothing to resubmit in the experiment group {plan.group}: {counts}{hint}"
