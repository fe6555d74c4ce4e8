"""Look at what a re-run meets: recorded specs, build folders, platforms. What is wrong is told per job, not raised."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence

from caliban.errors import CalibanError
from caliban.images.spec import BuildSpec, parse_container_spec
from caliban.platforms.base import Platform, Platforms, ServiceRetiredError
from caliban.records import JsonObject, PlatformName
from caliban.resubmit.plan import ImageSource
from caliban.resubmit.selection import Selection


def image_sources(selection: Selection) -> dict[int, ImageSource]:
    """How the image of each selected container spec comes to be, by ``container_specs.id``."""
    containers = {selected.experiment.container.id: selected.experiment.container for selected in selection.selected}
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
    """Why some of the selected experiments cannot be submitted again, by ``experiments.id``.

    Args:
        selection: which experiments.
        sources: of :func:`image_sources`.
        platforms: where they run.
        connect: ask the platforms whether they can be reached, too; without, nobody is asked.
        known: of these experiments it is known why, so that nobody is asked for them.
    """
    problems = dict(known or {})
    reachable = _Reachable()
    for selected in selection.selected:
        if selected.experiment.id in problems:
            continue
        pattern = selected.pattern
        try:
            platform = platforms.get(pattern.platform)
            platform.with_image(pattern.spec, pattern.container)
            source = sources.get(selected.experiment.container.id)
            if isinstance(source, BuildSpec):
                platform.check_registry(source.config.registry)
            if connect:
                target = platform.target(pattern)
                reachable.check(platform, target)
                if isinstance(source, BuildSpec):
                    reachable.check_registry(platform, target, source.config.registry)
        except CalibanError as error:
            problems[selected.experiment.id] = error
    return problems


def with_migration_hint(problems: Mapping[int, CalibanError], group: str) -> dict[int, CalibanError]:
    """``problems``, but one and the same, with the command that helps, for all jobs of services that are gone."""
    gone = next((problem for problem in problems.values() if isinstance(problem, ServiceRetiredError)), None)
    if gone is None:
        return dict(problems)
    command = f"caliban resubmit --xgroup {shlex.quote(group)} --platform {gone.successor}"
    told = ServiceRetiredError(
        gone.id,
        gone.message,
        cause=gone.cause,
        hint=f"run them elsewhere: {command}",
        successor=gone.successor,
        is_certain=gone.is_certain,
    )
    return {key: told if isinstance(problem, ServiceRetiredError) else problem for key, problem in problems.items()}


class _Reachable:
    """Asks for each place, and each registry for it, once, however many jobs go there."""

    def __init__(self) -> None:
        self._failures: dict[tuple[PlatformName, str], CalibanError | None] = {}

    def check(self, platform: Platform, target: JsonObject) -> None:
        """Raises CalibanError: the place cannot be reached."""
        self._once(platform, [target], lambda: platform.connect(target))

    def check_registry(self, platform: Platform, target: JsonObject, registry: str | None) -> None:
        """Raises CalibanError: the registry will not take images for the place."""
        self._once(platform, [target, registry], lambda: platform.reach_registry(registry, target))

    def _once(self, platform: Platform, question: Sequence[object], ask: Callable[[], None]) -> None:
        key = (platform.name, json.dumps(question, sort_keys=True))
        if key not in self._failures:
            try:
                ask()
            except CalibanError as error:
                self._failures[key] = error
            else:
                self._failures[key] = None
        if (failure := self._failures[key]) is not None:
            raise failure
