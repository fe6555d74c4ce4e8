"""Look at what a re-run meets: recorded specs, build folders, platforms. What is wrong is told per job, not raised."""

from __future__ import annotations

from caliban.errors import CalibanError
from caliban.images.spec import BuildSpec, parse_container_spec
from caliban.platforms.base import Platforms
from caliban.records import PlatformName
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


def job_problems(selection: Selection, platforms: Platforms, *, connect: bool) -> dict[int, CalibanError]:
    """Why some of the chosen experiments cannot be submitted again, by ``experiments.id``.

    Args:
        selection: which experiments.
        platforms: where they run.
        connect: ask the platforms whether they can be reached, too; without, nobody is asked.
    """
    unreachable = _unreachable(selection, platforms) if connect else {}
    problems = {}
    for chosen in selection.chosen:
        pattern = chosen.pattern
        try:
            platforms.get(pattern.platform).with_image(pattern.spec, pattern.container)
        except CalibanError as error:
            problems[chosen.experiment.id] = error
        if pattern.platform in unreachable:
            problems[chosen.experiment.id] = unreachable[pattern.platform]
    return problems


def _unreachable(selection: Selection, platforms: Platforms) -> dict[PlatformName, CalibanError]:
    failures = {}
    for name in dict.fromkeys(chosen.pattern.platform for chosen in selection.chosen):
        try:
            platforms.get(name).connect()
        except CalibanError as error:
            failures[name] = error
    return failures
