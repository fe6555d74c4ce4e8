"""What a re-run would do: pure data, made from records alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from caliban.errors import CalibanError
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.records import ContainerRecord, ExperimentRecord, JobRecord
from caliban.resubmit.selection import Selection, SkippedExperiment

ImageSource = BuildSpec | ImageSpec | CalibanError
"""How an image comes to be: built from a folder, used as it is, or not at all."""


@dataclass(frozen=True)
class PlannedJob:
    """One attempt that would be submitted.

    Attributes:
        experiment: whose attempt it would be.
        pattern: the job whose platform and job spec it follows.
        problem: why it cannot be submitted; None where nothing is in the way.
        lost: what will not be as it was, since the pattern ran on another platform; a line each.
    """

    experiment: ExperimentRecord
    pattern: JobRecord
    problem: CalibanError | None
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedImage:
    """One image, for all jobs of one container spec."""

    container: ContainerRecord
    source: ImageSource
    jobs: int


@dataclass(frozen=True)
class Plan:
    """What would happen.

    Attributes:
        group: the experiment group's name.
        jobs: every selected job, those with a problem too.
        images: one for each container spec among them, in the order of ids.
        skipped: the experiments that are not re-run, and why.
    """

    group: str
    jobs: tuple[PlannedJob, ...]
    images: tuple[PlannedImage, ...]
    skipped: tuple[SkippedExperiment, ...]

    @property
    def ready(self) -> tuple[PlannedJob, ...]:
        """The jobs that nothing is in the way of."""
        return tuple(job for job in self.jobs if job.problem is None)

    @property
    def needed_images(self) -> tuple[PlannedImage, ...]:
        """The images of those jobs."""
        needed = {job.experiment.container.id for job in self.ready}
        return tuple(image for image in self.images if image.container.id in needed)

    @property
    def builds(self) -> bool:
        """Whether any of them is to be built."""
        return any(isinstance(image.source, BuildSpec) for image in self.needed_images)


def make_plan(
    group: str,
    selection: Selection,
    sources: Mapping[int, ImageSource],
    job_problems: Mapping[int, CalibanError],
    lost: Mapping[int, tuple[str, ...]] | None = None,
) -> Plan:
    """Put the pieces together.

    Args:
        group: the experiment group's name.
        selection: which experiments.
        sources: how the image of each container spec comes to be, by ``container_specs.id``.
        job_problems: what is wrong with recorded jobs, by ``experiments.id``.
        lost: what of jobs that are moved will not be as it was, likewise.
    """
    jobs = []
    containers: dict[int, ContainerRecord] = {}
    counts: dict[int, int] = {}
    for selected in selection.selected:
        container = selected.experiment.container
        containers[container.id] = container
        counts[container.id] = counts.get(container.id, 0) + 1
        source = sources[container.id]
        problem = source if isinstance(source, CalibanError) else job_problems.get(selected.experiment.id)
        changes = (lost or {}).get(selected.experiment.id, ())
        jobs.append(PlannedJob(selected.experiment, selected.pattern, problem, changes))
    images = [
        PlannedImage(containers[container_id], sources[container_id], counts[container_id])
        for container_id in sorted(containers)
    ]
    return Plan(group, tuple(jobs), tuple(images), selection.skipped)
