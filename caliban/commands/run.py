"""``caliban run``: experiments in containers on this machine, one after the other."""

from __future__ import annotations

import argparse
import shlex

from caliban.cli import flags
from caliban.cli.context import Context
from caliban.errors import ExitCode, UsageError
from caliban.records import ExperimentRecord, ImageRef, JobMode, JsonObject, PlatformName

DESCRIPTION = (
    "Build a container image of a script or module, and run it on this machine once for each set of flags, one after "
    "the other. Arguments after -- are passed to it as they are."
)
TAKES_SCRIPT_ARGS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a local run, and MODULE."""
    flags.add_new_xgroup(parser)
    flags.add_image_flags(parser)
    flags.add_experiment_config(parser)
    parser.add_argument(
        "--docker_run_args", metavar="ARGS", default="", help='arguments for docker run in one string: "-v /data:/data"'
    )
    parser.add_argument("--image_id", help="run this image, which is on this machine already, instead of building one")
    flags.add_cloud_key(parser)
    flags.add_dry_run(parser)
    flags.add_module(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Check everything, build, then run and record one job after the other."""
    from caliban.commands.image_options import job_mode
    from caliban.commands.launch import read_launch, show, start
    from caliban.submission.setup import make_platforms

    docker_run_args = _split(args.docker_run_args)
    gpu = job_mode(args, context) is JobMode.GPU

    def job_spec(number: int, experiment: ExperimentRecord, image: ImageRef) -> JsonObject:
        from caliban.platforms.docker.platform import new_job_spec

        return new_job_spec(image, experiment.arguments, docker_run_args=docker_run_args, gpu=gpu)

    launch = read_launch(args, context, image=args.image_id, platform=PlatformName.LOCAL, job_spec=job_spec)
    if args.dry_run:
        show(launch, context, "run")
        context.console.print("\nnothing was run: to actually run these jobs, run this command again without --dry_run")
        return ExitCode.DONE
    return start(
        launch, context, make_platforms(context.environ, context.home, context.console, cloud_key=args.cloud_key)
    )


def _split(docker_run_args: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(docker_run_args))
    except ValueError as error:
        raise UsageError(
            "malformed-docker-run-args", "--docker_run_args cannot be split into words", cause=str(error)
        ) from error
