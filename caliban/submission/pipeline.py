"""The one pipeline of ``run``, ``cloud``, ``cluster job submit`` and ``resubmit``: images -> submit -> follow.

What comes before differs: how a command finds out what to submit. The checks are the same
(:mod:`caliban.submission.preflight`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from caliban.attempts import AttemptKind
from caliban.errors import CalibanError
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.records import ExperimentRecord, ImageRef, JsonObject, Outcome
from caliban.store.code import BuildOrigin
from caliban.submission.boundary import platform_errors
from caliban.submission.images import Images
from caliban.submission.preflight import Route
from caliban.submission.submit import Attempt, Submitter
from caliban.submission.text import check_text


@dataclass(frozen=True)
class ReadyJob:
    """A job that passed every check.

    Attributes:
        experiment: whose job it is.
        source: where its image comes from.
        route: the way to its destination.
        make_spec: returns the job spec that runs an image.
        kind: whether other jobs of the experiment stand against it.
        alike: equal for jobs of which one can go first, to show whether the others would succeed.
        build: what is recorded of where its image comes from, beside the code of an image that is built now.
    """

    experiment: ExperimentRecord
    source: BuildSpec | ImageSpec
    route: Route
    make_spec: Callable[[ImageRef], JsonObject]
    kind: AttemptKind
    build: BuildOrigin = field(default_factory=BuildOrigin)
    alike: object = None


RecordExperiments: TypeAlias = Callable[[Sequence[ExperimentRecord]], Sequence[ExperimentRecord]]
"""Records the experiments that are not recorded yet, and returns all of them, in order."""


def submit_jobs(
    jobs: Sequence[ReadyJob], images: Images, submitter: Submitter, record: RecordExperiments | None = None
) -> list[Outcome]:
    """Build every image, push each to where it is run, then submit and follow the jobs.

    Args:
        jobs: what to submit.
        images: of the command.
        submitter: of the command.
        record: is called once, with the experiments whose images and job specs are there; None where all are recorded.

    Returns:
        One outcome per job: first those whose image could not be provided, then the others in the order given.

    Raises:
        InterruptedSubmissionError: after Ctrl-C.
    """
    failed: list[Outcome] = []
    attempts: list[Attempt] = []
    for source in dict.fromkeys(job.source for job in jobs if job.route.platform.needs_image):
        try:
            images.build(source)
        except CalibanError:  # raised again for each of its jobs
            continue
    for job in jobs:
        try:
            with platform_errors(job.route.platform.id, "prepare a job"):
                image = images.get(job.source, job.route.platform, job.route.registry)
                spec = job.make_spec(image)
            check_text(spec)
        except CalibanError as error:
            failed.append(Outcome(job.experiment, None, error))
            continue
        route = job.route
        build = replace(job.build, code=images.code(job.source))
        attempts.append(Attempt(job.experiment, route.platform.id, spec, image, route.destination, job.kind, build))
    if record is not None:
        recorded = record([attempt.experiment for attempt in attempts])
        attempts = [replace(each, experiment=found) for each, found in zip(attempts, recorded, strict=True)]
    return submitter.submit_all(attempts, failed)
