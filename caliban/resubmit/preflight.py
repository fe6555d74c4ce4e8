"""Check planned jobs: recorded specs, build directories, destinations, registries. A problem belongs to its job."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace

from caliban.errors import CalibanError
from caliban.images.spec import BuildSpec, parse_container_spec
from caliban.platforms.base import ServiceRetiredError
from caliban.platforms.registry import Platforms
from caliban.records import ContainerRecord
from caliban.resubmit.plan import PlannedJob
from caliban.resubmit.selection import SelectedExperiment
from caliban.submission.boundary import platform_errors
from caliban.submission.preflight import ImageSource, Preflight, check_registry_name
from caliban.submission.text import check_text


def plan_jobs(selected: Iterable[SelectedExperiment]) -> list[PlannedJob]:
    """Return the jobs of the selected experiments, each with the source of its image."""
    sources: dict[int, ImageSource] = {}
    jobs = []
    for each in selected:
        container = each.experiment.container
        if container.id not in sources:
            sources[container.id] = _source(container)
        source = sources[container.id]
        problem = source if isinstance(source, CalibanError) else None
        jobs.append(PlannedJob(each.experiment, each.template, source, problem))
    return jobs


def _source(container: ContainerRecord) -> ImageSource:
    try:
        spec = parse_container_spec(container.spec)
        return spec.refreshed() if isinstance(spec, BuildSpec) else spec
    except CalibanError as error:
        return error


def check_jobs(jobs: Iterable[PlannedJob], platforms: Platforms, *, connect: bool) -> list[PlannedJob]:
    """Return the jobs with their problems, and with ``connect`` with their routes.

    Args:
        jobs: those with a problem stay as they are.
        platforms: where they run.
        connect: check too whether destinations and registries can be reached; otherwise nothing is connected to.
    """
    preflight = Preflight()
    checked = []
    for job in jobs:
        if job.problem is None:
            try:
                checked.append(_checked(job, platforms, preflight if connect else None))
            except CalibanError as error:
                checked.append(replace(job, problem=error))
        else:
            checked.append(job)
    return checked


def _checked(job: PlannedJob, platforms: Platforms, preflight: Preflight | None) -> PlannedJob:
    template = job.template
    platform = platforms.get(template.platform)
    directory = job.source.build_path if isinstance(job.source, BuildSpec) else None
    with platform_errors(platform.id, "describe a job"):
        spec = platform.with_absolute_paths(template.spec, directory)
        if job.is_changed:
            check_text(platform.with_arguments(spec, template.container, job.experiment.arguments))
        else:
            platform.with_image(spec, template.container)
    job = replace(job, template=replace(template, spec=spec))
    if preflight is None:
        check_registry_name(platform, job.source)
        return job
    route = preflight.route(platform, job.source, lambda: platform.destination(template), lambda: template.spec)
    return replace(job, route=route)


def with_migration_hint(jobs: Sequence[PlannedJob], group: str) -> list[PlannedJob]:
    """Return the jobs with one and the same problem for all services that were shut down: the command that helps."""
    retired = next((job.problem for job in jobs if isinstance(job.problem, ServiceRetiredError)), None)
    if retired is None:
        return list(jobs)
    command = f"caliban resubmit --xgroup {shlex.quote(group)} --platform {retired.successor}"
    problem = ServiceRetiredError(
        retired.id,
        retired.message,
        cause=retired.cause,
        hint=f"run them elsewhere: {command}",
        successor=retired.successor,
        is_certain=retired.is_certain,
    )
    return [replace(job, problem=problem) if isinstance(job.problem, ServiceRetiredError) else job for job in jobs]
