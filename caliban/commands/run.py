"""``caliban run``: experiments in containers on this machine, one after the other."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from caliban.cli import flags, render
from caliban.cli.context import Context
from caliban.cli.outcomes import report_outcomes
from caliban.errors import ExitCode, UsageError
from caliban.records import ExperimentView, PlatformName, RecordedContainer

if TYPE_CHECKING:
    from caliban.images.spec import BuildSpec, ImageSpec
    from caliban.platforms.base import Platforms
    from caliban.records import ImageRef, JsonObject
    from caliban.store.database import Store
    from caliban.store.queries import FlagSet
    from caliban.submission.submit import Attempt

DESCRIPTION = (
    "Build a container image of a script or module, and run it on this machine once for each set of flags, one after "
    "the other. Arguments after -- are passed to it as they are."
)
TAKES_SCRIPT_ARGS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a local run, and MODULE."""
    flags.add_xgroup(
        parser, "the experiment group to add the experiments to; without it, one is made: USER-xgroup-DATE-TIME"
    )
    flags.add_image_flags(parser)
    flags.add_experiment_config(parser)
    parser.add_argument(
        "--docker_run_args",
        metavar="ARGS",
        default="",
        help='arguments for docker run, as one string: "-v /data:/data"',
    )
    parser.add_argument("--image_id", help="run this image, which is on this machine already, instead of building one")
    flags.add_cloud_key(parser)
    flags.add_dry_run(parser)
    flags.add_module(parser)


@dataclass(frozen=True)
class RunRequest:
    """What was asked for on the command line, checked.

    Attributes:
        xgroup: the experiment group's name.
        spec: the image to build, or to use.
        flag_sets: the arguments and flags of each experiment.
        docker_run_args: for ``docker run``.
        gpu: whether the containers get the machine's GPUs.
        no_cache: build every layer of the image anew.
    """

    xgroup: str
    spec: BuildSpec | ImageSpec
    flag_sets: Sequence[FlagSet]
    docker_run_args: tuple[str, ...]
    gpu: bool
    no_cache: bool


def run(args: argparse.Namespace, context: Context) -> int:
    """Check everything, build, then run and record one job after the other."""
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.submission.setup import make_platforms

    request = _request(args, context)
    if args.dry_run:
        return _dry_run(request, context)
    platforms = make_platforms(context.environ, context.home, context.console, cloud_key=args.cloud_key)
    platforms.surroundings.engine()
    with open_store(store_url(context.environ, context.home), Access.WRITE, context.console) as store:
        return _run(request, context, platforms, store)


def _request(args: argparse.Namespace, context: Context) -> RunRequest:
    """Check all that can be checked before anything is built.

    Raises:
        UsageError: naming what is wrong.
    """
    from caliban.commands.project import build_spec, image_spec, job_mode
    from caliban.records import JobMode

    if args.cloud_key and not args.cloud_key.is_file():
        raise UsageError("no-cloud-key", f"there is no key file {args.cloud_key}", hint="see --cloud_key")
    try:
        docker_run_args = tuple(shlex.split(args.docker_run_args))
    except ValueError as error:
        raise UsageError(
            "malformed-docker-run-args", "--docker_run_args cannot be split into words", cause=str(error)
        ) from error
    return RunRequest(
        xgroup=args.xgroup or f"{context.user}-xgroup-{context.now():%Y-%m-%d-%H-%M-%S}",
        spec=image_spec(args.image_id, args, context) if args.image_id else build_spec(args, context),
        flag_sets=[(args.script_args, kwargs) for kwargs in _experiments(args.experiment_config, context)],
        docker_run_args=docker_run_args,
        gpu=job_mode(args, context) is JobMode.GPU,
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


def _dry_run(request: RunRequest, context: Context) -> int:
    from caliban.images.spec import ImageSpec

    show = context.console.print
    show(f"the following jobs would be run, in the experiment group {request.xgroup}:")
    for args, kwargs in request.flag_sets:
        show(render.command_line(ExperimentView(0, args, kwargs, RecordedContainer(0, request.spec.as_record()))))
    show("")
    if isinstance(request.spec, ImageSpec):
        show(f"container image: {request.spec.image}")
    else:
        folder = render.short_path(str(request.spec.build_path), context.home)
        show(f"container image: would be built from {folder} (job_mode: {request.spec.job_mode})")
    show("\nnothing was run: to actually run these jobs, run this command again without --dry_run")
    return ExitCode.DONE


def _run(request: RunRequest, context: Context, platforms: Platforms, store: Store) -> int:
    from caliban.platforms.recorded import ending, title
    from caliban.submission.submit import InterruptedSubmissionError, Submitter

    image = _image(request, context, platforms)
    attempts = _attempts(request, image, context, platforms, store)
    try:
        outcomes = Submitter(store, platforms, context.console, context.user).submit_all(attempts)
    except InterruptedSubmissionError as interrupted:
        report_outcomes(context.console, interrupted.outcomes, title, ending, not_begun=interrupted.not_begun)
        raise
    return report_outcomes(context.console, outcomes, title, ending)


def _image(request: RunRequest, context: Context, platforms: Platforms) -> ImageRef:
    from caliban.images.spec import ImageSpec
    from caliban.submission.setup import build_user

    if isinstance(request.spec, ImageSpec):
        return request.spec.image
    engine = platforms.surroundings.engine()
    return engine.build(request.spec, build_user(context.user), context.console, no_cache=request.no_cache)


def _attempts(
    request: RunRequest, image: ImageRef, context: Context, platforms: Platforms, store: Store
) -> list[Attempt]:
    """One attempt for each experiment, the group and the experiments made where they are not there."""
    from caliban.platforms.local import new_job_spec
    from caliban.store.journal import Journal
    from caliban.store.queries import experiments_of_flag_sets
    from caliban.submission.reconcile import reconcile
    from caliban.submission.submit import Attempt

    reconcile(Journal(store), platforms, context.console, user=context.user, group=request.xgroup)
    with store.writing() as session:
        group = experiments_of_flag_sets(
            session,
            user=context.user,
            group=request.xgroup,
            container_spec=request.spec.as_record(),
            flag_sets=request.flag_sets,
        )
    context.console.say(f"experiment group {group.name}: {render.count(len(group.experiments), 'experiment')}")
    return [
        Attempt(
            experiment,
            PlatformName.LOCAL,
            new_job_spec(image, experiment.words, docker_run_args=request.docker_run_args, gpu=request.gpu),
            image,
            target={},
        )
        for experiment in group.experiments
    ]
