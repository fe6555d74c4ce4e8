"""Check planned jobs: recorded specs, build directories, destinations, registries. A problem belongs to its job."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from caliban.errors import CalibanError
from caliban.images.spec import BuildSpec, ImageSpec, parse_container_spec
from caliban.platforms.base import ServiceRetiredError
from caliban.platforms.registry import Platforms, needs_image
from caliban.records import ContainerRecord, PlatformId
from caliban.resubmit.code_options import CodeOptions, check_build_path
from caliban.resubmit.plan import PlannedJob
from caliban.resubmit.selection import SelectedExperiment
from caliban.store.code import RecordedBuild
from caliban.submission.boundary import platform_errors
from caliban.submission.preflight import ImageSource, Preflight, check_registry_name
from caliban.submission.text import check_text


def plan_jobs(
    selected: Sequence[SelectedExperiment],
    builds: Mapping[int, RecordedBuild] | None = None,
    options: CodeOptions | None = None,
    platform: PlatformId | None = None,
) -> list[PlannedJob]:
    """Return the jobs of the selected experiments, each with the source of its image.

    Args:
        selected: what is re-run.
        builds: what is recorded of the images of jobs, by ``jobs.id``.
        options: what images are made of.
        platform: where every job goes; None: where each ran before.

    Raises:
        UsageError: ``--build_path`` is not where these projects have moved to.
    """
    options, builds = options or CodeOptions(), builds or {}
    containers = {each.experiment.container.id: each.experiment.container for each in selected}
    parsed = {spec_id: _parsed(container) for spec_id, container in containers.items()}
    projects = {spec_id: spec for spec_id, spec in parsed.items() if isinstance(spec, BuildSpec)}
    if options.build_path is not None:
        used = (_directory(each, projects, builds, None) for each in selected)
        scripts = (spec.package.script_path for spec in projects.values())
        check_build_path(options.build_path, filter(None, used), scripts)
    sources: dict[tuple[int, Path | None], ImageSource] = {}
    jobs = []
    for each in selected:
        spec_id, template = each.experiment.container.id, each.template
        directory = _directory(each, projects, builds, options.build_path)
        if options.no_rebuild and directory is not None and needs_image(platform or template.platform):
            source: ImageSource = ImageSpec(template.container, projects[spec_id].package)
        elif (spec_id, directory) in sources:
            source = sources[spec_id, directory]
        else:
            source = sources[spec_id, directory] = _refreshed(parsed[spec_id], directory)
        problem = source if isinstance(source, CalibanError) else None
        job = PlannedJob(each.experiment, template, source, problem, directory=directory)
        jobs.append(replace(job, recorded=builds.get(template.id), submission=each.submission))
    return jobs


def _directory(
    selected: SelectedExperiment,
    projects: Mapping[int, BuildSpec],
    builds: Mapping[int, RecordedBuild],
    build_path: Path | None,
) -> Path | None:
    """Return the project's directory: the given one, else the one that it had moved to, else the recorded one."""
    spec = projects.get(selected.experiment.container.id)
    if spec is None:
        return None
    recorded = builds.get(selected.template.id)
    return build_path or (recorded.build_path if recorded else None) or spec.build_path


def _parsed(container: ContainerRecord) -> BuildSpec | ImageSpec | CalibanError:
    try:
        return parse_container_spec(container.spec)
    except CalibanError as error:
        return error


def _refreshed(spec: BuildSpec | ImageSpec | CalibanError, directory: Path | None) -> ImageSource:
    if not isinstance(spec, BuildSpec) or directory is None:
        return spec
    try:
        return replace(spec, build_path=directory).refreshed()
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
    directory = job.source.build_path if isinstance(job.source, BuildSpec) else job.directory
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
