"""Look at what a re-run meets: recorded specs, build folders, platforms. What is wrong is told per job, not raised."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from caliban.errors import CalibanError
from caliban.images.spec import BuildSpec, parse_container_spec
from caliban.platforms.base import GoneError, Platform, Platforms
from caliban.records import JsonObject, PlatformName
from caliban.resubmit.plan import ImageSource
from caliban.resubmit.selection import Selection


def image_sources(selection: Selection) -> dict[int, ImageSource]:
    """How the image of each chosen container spec comes to be, by ``container_specs.id``."""
    containers = {chosen.experiment.container.id: chosen.experiment.container for chosen in selection.chosen}
    sources: dict[int, ImageSource] = {}
    for container in containers.values():
        try:
            spec = parse_container_spec(container.spec)
            sources[container.id] = spec.refreshed() if isinstance(spec, BuildSpec) else spec
        except CalibanError as error:
            sources[container.id] = error
    return sources


def job_problems(
    selection: Selection,
    sources: Mapping[int, ImageSource],
    platforms: Platforms,
    *,
    connect: bool,
    known: Mapping[int, CalibanError] | None = None,
) -> dict[int, CalibanError]:
    """Why some of the chosen experiments cannot be submitted again, by ``experiments.id``.

    Args:
        selection: which experiments.
        sources: of :func:`image_sources`.
        platforms: where they run.
        connect: ask the platforms whether they can be reached, too; without, nobody is asked.
        known: of these experiments it is known why, so that nobody is asked for them.
    """
    problems = dict(known or {})
    failures: dict[tuple[PlatformName, str], CalibanError | None] = {}
    for chosen in selection.chosen:
        if chosen.experiment.id in problems:
            continue
        pattern = chosen.pattern
        try:
            platform = platforms.get(pattern.platform)
            platform.with_image(pattern.spec, pattern.container)
            source = sources.get(chosen.experiment.container.id)
            if isinstance(source, BuildSpec):
                platform.check_registry(source.config.registry)
            if connect:
                target = platform.target(pattern)
                place = (platform.name, json.dumps(target, sort_keys=True))
                if place not in failures:
                    failures[place] = _failure_to_reach(platform, target)
                if (failure := failures[place]) is not None:
                    raise failure
        except CalibanError as error:
            problems[chosen.experiment.id] = error
    return problems


def with_way_over(problems: Mapping[int, CalibanError], group: str) -> dict[int, CalibanError]:
    """``problems``, but one and the same, with the command that helps, for all jobs of services that are gone."""
    gone = next((problem for problem in problems.values() if isinstance(problem, GoneError)), None)
    if gone is None:
        return dict(problems)
    command = f"caliban resubmit --xgroup {shlex.quote(group)} --platform {gone.successor}"
    told = GoneError(
        gone.id,
        gone.message,
        cause=gone.cause,
        hint=f"run them elsewhere: {command}",
        successor=gone.successor,
        is_certain=gone.is_certain,
    )
    return {key: told if isinstance(problem, GoneError) else problem for key, problem in problems.items()}


def _failure_to_reach(platform: Platform, target: JsonObject) -> CalibanError | None:
    try:
        platform.connect(target)
    except CalibanError as error:
        return error
    return None
