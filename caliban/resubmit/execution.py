"""Rebuild what is to be rebuilt, then submit: one outcome for every planned job."""

from __future__ import annotations

from collections.abc import Mapping

from caliban.errors import CalibanError
from caliban.images.dockerfile import BuildUser
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.platforms.base import Platforms
from caliban.records import ImageRef, Outcome
from caliban.reporter import Reporter
from caliban.resubmit.plan import Plan, PlannedImage, PlannedJob
from caliban.submission.submit import Attempt, Submitter


def rebuild(
    plan: Plan, platforms: Platforms, reporter: Reporter, user: BuildUser
) -> dict[int, ImageRef | CalibanError]:
    """One image for each container spec that a job needs, by ``container_specs.id``; the reason where there is none."""
    needed = {planned.experiment.container.id for planned in plan.ready}
    images = [image for image in plan.images if image.container.id in needed]
    if any(isinstance(image.source, BuildSpec) for image in images):
        reporter.say("rebuilding containers...")
    return {image.container.id: _image(image, platforms, reporter, user) for image in images}


def _image(image: PlannedImage, platforms: Platforms, reporter: Reporter, user: BuildUser) -> ImageRef | CalibanError:
    source = image.source
    if isinstance(source, CalibanError):
        return source
    if isinstance(source, ImageSpec):
        return source.image
    try:
        return platforms.surroundings.engine().build(source, user, reporter)
    except CalibanError as error:
        return error


def resubmit(
    plan: Plan, images: Mapping[int, ImageRef | CalibanError], platforms: Platforms, submitter: Submitter
) -> list[Outcome]:
    """Submit every planned job that nothing is in the way of.

    Returns:
        One outcome per planned job: first those that could not be tried, then the others in the order of the plan.

    Raises:
        InterruptedSubmissionError: after Ctrl-C.
    """
    outcomes: list[Outcome] = []
    attempts: list[Attempt] = []
    for planned in plan.jobs:
        try:
            attempts.append(_attempt(planned, images, platforms))
        except CalibanError as error:
            outcomes.append(Outcome(planned.experiment, None, error))
    return outcomes + submitter.submit_all(attempts)


def _attempt(planned: PlannedJob, images: Mapping[int, ImageRef | CalibanError], platforms: Platforms) -> Attempt:
    if planned.problem is not None:
        raise planned.problem
    image = images[planned.experiment.container.id]
    if isinstance(image, CalibanError):
        raise image
    platform = platforms.get(planned.pattern.platform)
    if planned.experiment.latest is None:
        spec = platform.with_arguments(planned.pattern.spec, image, planned.experiment.words)
    else:
        spec = platform.with_image(planned.pattern.spec, image)
    return Attempt(planned.experiment, planned.pattern.platform, spec, image, planned.experiment.latest)
