"""What a re-run would do. A plan is a list of jobs, which each step completes with ``replace``; pure data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from caliban.attempts import FirstAttempt, Rerun
from caliban.errors import CalibanError
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.platforms import registry
from caliban.platforms.resources import SettingChange
from caliban.records import ContainerRecord, ExperimentRecord, JobRecord, Outcome
from caliban.resubmit.code_change import CodeChange
from caliban.resubmit.forecast import Forecast
from caliban.resubmit.overrides import ParameterChange
from caliban.resubmit.selection import ALREADY_SUBMITTED, SkippedExperiment
from caliban.store.batches import RecordedBatch
from caliban.store.code import BuildOrigin, RecordedBuild
from caliban.store.first_submissions import FirstSubmission
from caliban.submission.images import image_source
from caliban.submission.pipeline import ReadyJob
from caliban.submission.preflight import ImageSource, Route


@dataclass(frozen=True)
class Change:
    """The changes of parameters that lead to an experiment.

    Attributes:
        origin: the chosen experiment.
        parameters: what changes; empty where the chosen experiment has these parameters already.
        also_from: ``experiments.id`` of other chosen experiments that become the same one.
    """

    origin: ExperimentRecord
    parameters: tuple[ParameterChange, ...]
    also_from: tuple[int, ...] = ()


@dataclass(frozen=True)
class PlannedJob:
    """One job that would be submitted.

    Attributes:
        experiment: whose job it would be; its id is 0 where changed parameters make a new one, until that is recorded.
        template: the job whose platform and job spec it takes, migrated where another platform was requested.
        source: where its image comes from.
        problem: why it cannot be submitted; None where nothing prevents it.
        dropped_settings: settings that the requested platform does not have, one line each.
        route: the checked way to its destination; None where that was not checked (dry run, or a problem).
        change: what leads from the chosen experiment to this one; None where no parameters were changed.
        same_command_line: ``experiments.id`` of other experiments of the group with the same command line.
        directory: the project's directory; None where its container spec names an image.
        submission: of an experiment without a job: what ``template`` was made from; None for another one's job.
        recorded: what is recorded of the image that ``template`` ran; None where nothing is.
        resources: what changes in the resources of ``template``.
        code: what changed in the code since ``template`` ran; None where that is not known.
    """

    experiment: ExperimentRecord
    template: JobRecord
    source: ImageSource
    problem: CalibanError | None = None
    dropped_settings: tuple[str, ...] = ()
    route: Route | None = None
    change: Change | None = None
    same_command_line: tuple[int, ...] = ()
    directory: Path | None = None
    submission: FirstSubmission | None = None
    recorded: RecordedBuild | None = None
    resources: tuple[SettingChange, ...] = ()
    code: CodeChange | None = None

    @property
    def origin(self) -> ExperimentRecord:
        """The chosen experiment: this one, or the one whose parameters are changed."""
        return self.change.origin if self.change else self.experiment

    @property
    def is_changed(self) -> bool:
        """Whether it is another experiment than the chosen one."""
        return self.change is not None and bool(self.change.parameters)

    @property
    def keeps_image(self) -> bool:
        """Whether it runs the recorded image although its container spec says how to build one."""
        return isinstance(self.source, ImageSpec) and self.directory is not None

    @property
    def build(self) -> BuildOrigin:
        """What is recorded of where its image comes from."""
        recorded = self.experiment.container.spec.get("build_path")
        moved = self.directory if self.directory and str(self.directory) != recorded else None
        return BuildOrigin(code_of_job=self.template.id if self.keeps_image else None, build_path=moved)

    @property
    def needs_image(self) -> bool:
        """Whether it would run in a container image; otherwise it runs in the directory of its container spec."""
        return registry.needs_image(self.template.platform)

    @property
    def is_migrated(self) -> bool:
        """Whether it would run on another platform than its latest attempt."""
        latest = self.origin.latest
        return latest is not None and latest.platform != self.template.platform


@dataclass(frozen=True)
class PlannedImage:
    """One image, for all jobs of one container spec; or the directory where its jobs run that need no image."""

    container: ContainerRecord
    source: ImageSource
    jobs: int
    is_needed: bool = True
    is_kept: bool = False


@dataclass(frozen=True)
class Plan:
    """What would happen.

    Attributes:
        group: the experiment group's name.
        jobs: every selected job, those with a problem too.
        skipped: the experiments that are not re-run, and why.
        continued: the batch of the same command with changed parameters, which was interrupted; or None.
        forecasts: how long the jobs take that can be submitted, where finished ones of the group tell.
    """

    group: str
    jobs: tuple[PlannedJob, ...]
    skipped: tuple[SkippedExperiment, ...]
    continued: RecordedBatch | None = None
    forecasts: tuple[Forecast, ...] = ()

    @property
    def submitted_before(self) -> int:
        """How many jobs the interrupted command submitted that are not submitted again."""
        return sum(1 for each in self.skipped if each.reason == ALREADY_SUBMITTED)

    @property
    def ready(self) -> tuple[PlannedJob, ...]:
        """The jobs that can be submitted."""
        return tuple(job for job in self.jobs if job.problem is None)

    @property
    def unreachable(self) -> tuple[SkippedExperiment, ...]:
        """The experiments that are not re-run because the state of their job cannot be determined."""
        return tuple(each for each in self.skipped if each.experiment.latest and each.experiment.latest.refresh_error)

    @property
    def images(self) -> tuple[PlannedImage, ...]:
        """The images of the jobs, in the order of the ids of their container specs."""
        return _images(self.jobs)

    @property
    def builds_images(self) -> bool:
        """Whether an image has to be built for the jobs that can be submitted."""
        return any(isinstance(job.source, BuildSpec) and job.needs_image for job in self.ready)


def _images(jobs: Iterable[PlannedJob]) -> tuple[PlannedImage, ...]:
    found: dict[tuple[int, bool, ImageSource], PlannedImage] = {}
    for job in jobs:
        container, is_needed = job.experiment.container, job.needs_image
        key = (container.id, is_needed, job.source)
        number = found[key].jobs + 1 if key in found else 1
        found[key] = PlannedImage(container, job.source, number, is_needed, job.keeps_image)
    return tuple(found[key] for key in sorted(found, key=lambda each: each[:2]))


def problems(plan: Plan) -> list[Outcome]:
    """Return the outcomes of the jobs that cannot be submitted."""
    return [Outcome(job.experiment, None, job.problem) for job in plan.jobs if job.problem]


def ready_job(job: PlannedJob) -> ReadyJob:
    """Return a checked job as what is submitted."""
    route, template = job.route, job.template
    assert route is not None
    assert _has_image(job.source)
    platform, experiment = route.platform, job.experiment
    source = image_source(job.source, platform, template.spec)
    kind = FirstAttempt() if experiment.latest is None else Rerun(experiment.latest.id)
    if experiment.latest is None or job.is_changed:
        return ReadyJob(
            experiment,
            source,
            route,
            lambda image: platform.with_arguments(template.spec, image, experiment.arguments),
            kind,
            job.build,
        )
    return ReadyJob(experiment, source, route, lambda image: platform.with_image(template.spec, image), kind, job.build)


def _has_image(source: ImageSource) -> TypeGuard[BuildSpec | ImageSpec]:
    return not isinstance(source, CalibanError)
