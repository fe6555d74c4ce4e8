"""``--no_rebuild``: run the image that is recorded of a job, without Docker where the job runs elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from caliban.errors import CalibanError, ImageError
from caliban.images.spec import ImageSpec
from caliban.platforms.base import ForegroundPlatform
from caliban.platforms.registry import has_capability
from caliban.resubmit.plan import PlannedJob

if TYPE_CHECKING:
    from caliban.images.docker.engine import Engine

_REBUILD = "remove --no_rebuild to build a new image"


def check_kept_images(jobs: Iterable[PlannedJob], engine: Callable[[], Engine], *, connect: bool) -> list[PlannedJob]:
    """Return the jobs with a problem where the recorded image cannot be run again.

    Args:
        jobs: those that do not keep their image stay as they are.
        engine: connects to the Docker Engine; called only for jobs that run here.
        connect: whether to ask it whether it has the image.
    """
    known: dict[str, CalibanError | None] = {}
    checked = []
    for job in jobs:
        problem = job.problem
        if job.keeps_image and problem is None:
            problem = _problem(job)
            if problem is None and connect and _runs_here(job):
                image = job.template.container
                if image not in known:
                    known[image] = _missing(image, engine)
                problem = known[image]
        checked.append(replace(job, problem=problem))
    return checked


def _runs_here(job: PlannedJob) -> bool:
    return has_capability(job.template.platform, ForegroundPlatform)


def _problem(job: PlannedJob) -> CalibanError | None:
    image = job.template.container
    name = f"job {job.template.id}" if job.template.id else f"experiment {job.experiment.id}, which never ran"
    if not isinstance(job.source, ImageSpec) or not image:
        return ImageError("image-not-recorded", f"no image is recorded for {name}", hint=_REBUILD)
    if _runs_here(job):
        return None
    if image.startswith("sha256:") or "/" not in image:
        return ImageError(
            "image-not-in-registry",
            f"{name} ran an image of a Docker Engine, which {job.template.platform} cannot pull: {image}",
            hint=_REBUILD,
        )
    if "@sha256:" not in image:
        return ImageError(
            "image-without-digest",
            f"the image of {name} is recorded without a digest: {image}",
            cause="its tag may name another image by now",
            hint=_REBUILD,
        )
    return None


def _missing(image: str, engine: Callable[[], Engine]) -> CalibanError | None:
    try:
        if engine().image_exists(image):
            return None
    except CalibanError as error:
        return error
    return ImageError("image-removed", f"the recorded image is not on this machine any more: {image}", hint=_REBUILD)
