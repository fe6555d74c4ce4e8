"""``caliban cloud``: experiments as jobs on AI Platform Training."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caliban.cli import flags
from caliban.cli.context import Context
from caliban.errors import ExitCode, UsageError
from caliban.records import ExperimentView, ImageRef, JobMode, JsonObject, PlatformName

if TYPE_CHECKING:
    from caliban.commands.launch import Launch
    from caliban.platforms.caip_catalog import Gpu

DESCRIPTION = (
    "Build a container image of a script or module, push it, and submit it to AI Platform Training once for each set "
    "of flags. Arguments after -- are passed to it as they are."
)
TAKES_SCRIPT_ARGS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of jobs on AI Platform Training, and MODULE."""
    flags.add_new_xgroup(parser)
    flags.add_image_flags(parser)
    flags.add_experiment_config(parser)
    parser.add_argument("--name", help="what the jobs' names begin with (default: caliban_USER)")
    parser.add_argument("--region", help="where the jobs run (default: $REGION, else us-central1)")
    parser.add_argument(
        "--machine_type", help="the machine of each job (default: n1-standard-8 with a GPU, n1-highcpu-32 without)"
    )
    parser.add_argument(
        "--gpu_spec", metavar="COUNTxTYPE", help="the GPUs of each job, such as 2xV100 (default: 1xP100; none: --nogpu)"
    )
    parser.add_argument(
        "-l", "--label", action="append", default=[], metavar="KEY=VALUE", help="a label for the jobs; may be repeated"
    )
    parser.add_argument("--force", action="store_true", help="submit even if the hardware does not seem to go together")
    parser.add_argument("--image_tag", help="run this image, which was pushed before, instead of building one")
    flags.add_project_id(parser)
    flags.add_cloud_key(parser)
    flags.add_dry_run(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="with --dry_run: show the requests as JSON")
    flags.add_module(parser)


@dataclass(frozen=True)
class Hardware:
    """What each job runs on, by the names of AI Platform Training."""

    region: str
    machine_type: str
    gpu: Gpu | None


def run(args: argparse.Namespace, context: Context) -> int:
    """Check everything, build, push, submit."""
    from caliban.commands.launch import read_launch, show, start
    from caliban.platforms.caip_jobs import job_base, training_job
    from caliban.submission.setup import make_platforms

    hardware = _hardware(args, context)
    labels = _labels(args.label)
    base = job_base(args.name or f"caliban_{context.user}")

    def job_spec(number: int, experiment: ExperimentView, image: ImageRef) -> JsonObject:
        return training_job(
            base=base,
            index=number,
            image=image,
            region=hardware.region,
            machine_type=hardware.machine_type,
            gpu=hardware.gpu,
            arguments=experiment.words,
            labels=labels,
        )

    launch = read_launch(args, context, image=args.image_tag, platform=PlatformName.CAIP, job_spec=job_spec)
    if args.dry_run:
        show(launch, context, "submitted")
        _show_hardware(hardware, context)
        if args.verbose:
            _show_requests(launch, args.project_id or context.environ.get("PROJECT_ID") or "PROJECT", context)
        context.console.print(
            "\nnothing was submitted: to actually submit these jobs, run this command again without --dry_run"
        )
        return ExitCode.DONE
    platforms = make_platforms(
        context.environ, context.home, context.console, project_id=args.project_id, cloud_key=args.cloud_key
    )
    return start(launch, context, platforms)


def _hardware(args: argparse.Namespace, context: Context) -> Hardware:
    """What the jobs run on.

    Raises:
        UsageError: it does not go together, and ``--force`` was not given.
    """
    from caliban.commands.project import job_mode
    from caliban.platforms import caip_catalog as catalog

    if args.nogpu and args.gpu_spec:
        raise UsageError("gpu-or-not", "--nogpu and --gpu_spec contradict each other", hint="leave one of them out")
    gpu = None
    if args.gpu_spec:
        gpu = catalog.parse_gpu_spec(args.gpu_spec)
    elif job_mode(args, context) is JobMode.GPU:
        gpu = catalog.DEFAULT_GPU
    region = args.region or context.environ.get("REGION") or catalog.DEFAULT_REGION
    hardware = Hardware(region, args.machine_type or catalog.default_machine(gpu), gpu)
    if not args.force:
        catalog.check_hardware(hardware.region, hardware.machine_type, hardware.gpu)
    return hardware


def _labels(given: list[str]) -> Mapping[str, str]:
    labels = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UsageError("malformed-label", f"{text!r} is not a label", hint="write KEY=VALUE: --label team=vision")
        labels[key] = value
    return labels


def _show_hardware(hardware: Hardware, context: Context) -> None:
    gpu = f"{hardware.gpu} on {hardware.machine_type}" if hardware.gpu else hardware.machine_type
    context.console.print(f"each job: {gpu} in {hardware.region}")


def _show_requests(launch: Launch, project: str, context: Context) -> None:
    """Print each request whole, with words in capitals for what is not known before it is made."""
    import json

    from caliban.images.registry import repository
    from caliban.images.spec import ImageSpec
    from caliban.platforms.caip_jobs import job_id, request_body

    if isinstance(launch.spec, ImageSpec):
        image = launch.spec.image
    else:
        image = f"{repository(launch.spec.config.registry, project)}/IMAGE:latest"
    for number, experiment in enumerate(launch.previews(), 1):
        spec = launch.job_spec(number, experiment, image)
        context.console.print(json.dumps(request_body(spec, job_id(spec, "", context.now()), "TOKEN"), indent=2))
