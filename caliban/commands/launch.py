"""What ``run``, ``cloud`` and ``cluster job submit`` share: from a command line to submitted jobs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from caliban.cli import render
from caliban.cli.context import Context
from caliban.cli.outcomes import report_outcomes
from caliban.errors import ExitCode, UsageError
from caliban.records import ContainerRecord, ExperimentRecord, ImageRef, JsonObject, PlatformName

if TYPE_CHECKING:
    from caliban.images.spec import BuildSpec, ImageSpec
    from caliban.platforms.base import Platform, Platforms
    from caliban.store.database import Store
    from caliban.store.queries import FlagSet
    from caliban.submission.submit import Attempt

JobSpec = Callable[[int, ExperimentRecord, ImageRef], JsonObject]
"""Makes a job's spec from its number among those submitted together (from 1), its experiment and the image."""


@dataclass(frozen=True)
class Launch:
    """What was asked for on the command line, checked.

    Attributes:
        xgroup: the experiment group's name.
        spec: the image to build, or to use.
        flag_sets: the arguments and flags of each experiment.
        platform: where the jobs go.
        job_spec: makes their specs.
        no_cache: build every layer of the image anew.
    """

    xgroup: str
    spec: BuildSpec | ImageSpec
    flag_sets: Sequence[FlagSet]
    platform: PlatformName
    job_spec: JobSpec
    no_cache: bool

    def previews(self) -> list[ExperimentRecord]:
        """The experiments as they would be, without ids."""
        container = ContainerRecord(0, self.spec.as_record())
        return [ExperimentRecord(0, args, kwargs, container) for args, kwargs in self.flag_sets]


def read_launch(
    args: argparse.Namespace, context: Context, *, image: str | None, platform: PlatformName, job_spec: JobSpec
) -> Launch:
    """Check all that can be checked before anything is built.

    Args:
        args: with the flags of ``--xgroup``, images, ``--experiment_config`` and ``--cloud_key``, and MODULE.
        context: where they were given.
        image: an image that is there already, or None to build one.
        platform: where the jobs go.
        job_spec: makes their specs.

    Raises:
        UsageError: naming what is wrong.
    """
    from caliban.commands.image_options import build_spec, image_spec

    if args.cloud_key and not args.cloud_key.is_file():
        raise UsageError("key-not-found", f"there is no key file {args.cloud_key}", hint="see --cloud_key")
    return Launch(
        xgroup=args.xgroup or f"{context.user}-xgroup-{context.now():%Y-%m-%d-%H-%M-%S}",
        spec=image_spec(image, args, context) if image else build_spec(args, context),
        flag_sets=[(args.script_args, kwargs) for kwargs in _experiments(args.experiment_config, context)],
        platform=platform,
        job_spec=job_spec,
        no_cache=args.no_cache,
    )


def _experiments(config: str | None, context: Context) -> Sequence[JsonObject]:
    from caliban.submission.experiments import parse_experiments

    if config is None:
        return [{}]
    source = "standard input" if config == "stdin" else config
    try:
        read = context.console.read_input if config == "stdin" else partial((context.cwd / config).read_text, "utf-8")
        text = read()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "no-experiment-config", f"the experiments cannot be read from {source}", cause=str(error)
        ) from error
    return parse_experiments(text, source=source)


def show(launch: Launch, context: Context, verb: str) -> None:
    """Print what would be ``verb`` (``run``): the jobs, and where the image comes from."""
    from caliban.images.spec import ImageSpec

    console = context.console
    console.print(f"the following jobs would be {verb}, in the experiment group {launch.xgroup}:")
    for experiment in launch.previews():
        console.print(render.command_line(experiment))
    console.print("")
    if isinstance(launch.spec, ImageSpec):
        console.print(f"container image: {launch.spec.image}")
    else:
        folder = render.short_path(str(launch.spec.build_path), context.home)
        console.print(f"container image: would be built from {folder} (job_mode: {launch.spec.job_mode})")


def start(launch: Launch, context: Context, platforms: Platforms, target: JsonObject | None = None) -> ExitCode:
    """Build, bring the image to where it runs, submit, report.

    Args:
        launch: what was asked for.
        context: where.
        platforms: where jobs run.
        target: the place on the platform; None for the one that the platform goes to of its own accord.

    Raises:
        CalibanError: nothing was submitted.
        InterruptedSubmissionError: after Ctrl-C; what came of the jobs until then was reported.
    """
    from caliban.platforms.job_summary import ending, title
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.submission.submit import InterruptedSubmissionError, Submitter

    platform = platforms.get(launch.platform)
    if target is None:
        target = platform.target(None)
    check_registry(launch, platform)
    platform.connect(target)
    with open_store(store_url(context.environ, context.home), Access.WRITE, context.console) as store:
        image = bring_image(launch, context, platform, target)
        attempts = _attempts(launch, image, target, context, platforms, store)
        try:
            outcomes = Submitter(store, platforms, context.console, context.user).submit_all(attempts)
        except InterruptedSubmissionError as interrupted:
            report_outcomes(context.console, interrupted.outcomes, title, ending, not_begun=interrupted.not_begun)
            raise
    return report_outcomes(context.console, outcomes, title, ending)


def check_registry(launch: Launch, platform: Platform) -> None:
    """Learn whether there is a registry for an image that is to be built.

    Raises:
        CalibanError: there is none.
    """
    from caliban.images.spec import BuildSpec

    if isinstance(launch.spec, BuildSpec):
        platform.check_registry(launch.spec.config.registry)


def bring_image(launch: Launch, context: Context, platform: Platform, target: JsonObject) -> ImageRef:
    """Build the image where there is none yet, and bring it to where it runs; or learn first that it cannot be.

    Raises:
        CalibanError: it could not be built, or not be brought there.
    """
    from caliban.images.spec import ImageSpec
    from caliban.submission.setup import build_user

    if isinstance(launch.spec, ImageSpec):
        return launch.spec.image
    engine = platform.context.engine()
    platform.reach_registry(launch.spec.config.registry, target)
    image = engine.build(launch.spec, build_user(context.user), context.console, no_cache=launch.no_cache)
    return platform.publish(image, launch.spec.config.registry, target)


def _attempts(
    launch: Launch, image: ImageRef, target: JsonObject, context: Context, platforms: Platforms, store: Store
) -> list[Attempt]:
    """One attempt for each experiment, the group and the experiments made where they are not there."""
    from caliban.store.journal import Journal
    from caliban.store.queries import experiments_of_flag_sets
    from caliban.submission.reconcile import reconcile
    from caliban.submission.submit import Attempt

    reconcile(Journal(store), platforms, context.console, user=context.user, group=launch.xgroup)
    with store.writing() as session:
        group = experiments_of_flag_sets(
            session,
            user=context.user,
            group=launch.xgroup,
            container_spec=launch.spec.as_record(),
            flag_sets=launch.flag_sets,
        )
    context.console.info(f"experiment group {group.name}: {render.count(len(group.experiments), 'experiment')}")
    return [
        Attempt(experiment, launch.platform, launch.job_spec(number, experiment, image), image, target)
        for number, experiment in enumerate(group.experiments, 1)
    ]
