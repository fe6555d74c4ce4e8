"""Rebuild what is to be rebuilt, then submit: one outcome for every planned job."""

from __future__ import annotations

import json
from collections.abc import Mapping

from caliban.errors import CalibanError
from caliban.images.dockerfile import BuildUser
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.platforms.base import Platform, Platforms
from caliban.records import ImageRef, JsonObject, Outcome, PlatformName
from caliban.reporter import Reporter
from caliban.resubmit.plan import Plan, PlannedImage, PlannedJob
from caliban.submission.submit import Attempt, Submitter


def rebuild(
    plan: Plan, platforms: Platforms, reporter: Reporter, user: BuildUser
) -> dict[int, ImageRef | CalibanError]:
    """One image for each container spec that a job needs, by ``container_specs.id``; the reason where there is none."""
    if plan.builds:
        reporter.info("rebuilding containers...")
    return {image.container.id: _image(image, platforms, reporter, user) for image in plan.needed_images}


def _image(image: PlannedImage, platforms: Platforms, reporter: Reporter, user: BuildUser) -> ImageRef | CalibanError:
    source = image.source
    if isinstance(source, CalibanError):
        return source
    if isinstance(source, ImageSpec):
        return source.image
    try:
        return platforms.context.engine().build(source, user, reporter)
    except CalibanError as error:
        return error


def resubmit(
    plan: Plan, images: Mapping[int, ImageRef | CalibanError], platforms: Platforms, submitter: Submitter
) -> list[Outcome]:
    """Bring the images to where they run, and submit every planned job that nothing is in the way of.

    Returns:
        One outcome per planned job: first those that could not be tried, then the others in the order of the plan.

    Raises:
        InterruptedSubmissionError: after Ctrl-C.
    """
    outcomes: list[Outcome] = []
    attempts: list[Attempt] = []
    publisher = Publisher(plan, images)
    for planned in plan.jobs:
        try:
            attempts.append(_attempt(planned, publisher, platforms))
        except CalibanError as error:
            outcomes.append(Outcome(planned.experiment, None, error))
    return outcomes + submitter.submit_all(attempts)


class Publisher:
    """Brings each image to each place once, however many jobs run it there."""

    def __init__(self, plan: Plan, images: Mapping[int, ImageRef | CalibanError]) -> None:
        self._sources = {image.container.id: image.source for image in plan.images}
        self._images = images
        self._published: dict[tuple[int, PlatformName, str], ImageRef | CalibanError] = {}

    def publish(self, container_id: int, platform: Platform, target: JsonObject) -> ImageRef:
        """What a job with that container spec runs, there where it runs.

        Raises:
            CalibanError: it could not be built, or not be brought there.
        """
        place = (container_id, platform.name, json.dumps(target, sort_keys=True))
        if place not in self._published:
            self._published[place] = self._bring(container_id, platform, target)
        image = self._published[place]
        if isinstance(image, CalibanError):
            raise image
        return image

    def _bring(self, container_id: int, platform: Platform, target: JsonObject) -> ImageRef | CalibanError:
        image, source = self._images[container_id], self._sources[container_id]
        if isinstance(image, CalibanError) or not isinstance(source, BuildSpec):
            return image
        try:
            return platform.publish(image, source.config.registry, target)
        except CalibanError as error:
            return error


def _attempt(planned: PlannedJob, publisher: Publisher, platforms: Platforms) -> Attempt:
    if planned.problem is not None:
        raise planned.problem
    experiment, pattern = planned.experiment, planned.pattern
    platform = platforms.get(pattern.platform)
    target = platform.target(pattern)
    image = publisher.publish(experiment.container.id, platform, target)
    if experiment.latest is None:
        spec = platform.with_arguments(pattern.spec, image, experiment.arguments)
    else:
        spec = platform.with_image(pattern.spec, image)
    is_first = experiment.latest is None
    return Attempt(experiment, pattern.platform, spec, image, target, experiment.latest, is_first)
