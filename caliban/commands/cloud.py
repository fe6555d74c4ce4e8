"""``caliban cloud``: experiments as jobs on Vertex AI, or on AI Platform Training."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from caliban.cli import flags
from caliban.cli.context import Context
from caliban.config import CLOUD_PLATFORMS
from caliban.errors import ExitCode, UsageError
from caliban.records import ExperimentRecord, ImageRef, JobMode, JsonObject, PlatformName

if TYPE_CHECKING:
    from caliban.commands.cloud_services import CloudService, LaunchOptions
    from caliban.commands.launch import Launch
    from caliban.platforms.google.machine_catalog import Hardware
    from caliban.platforms.vertex.job_spec import SchedulingOptions

DESCRIPTION = (
    "Build a container image of a script or module, push it, and submit it to Vertex AI once for each set of flags. "
    "Arguments after -- are passed to it as they are."
)
TAKES_SCRIPT_ARGS = True

_SMALLEST_DISK_GB = 100
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of jobs in the cloud, and MODULE."""
    flags.add_new_xgroup(parser)
    flags.add_image_flags(parser)
    flags.add_experiment_config(parser)
    parser.add_argument(
        "--platform",
        choices=list(CLOUD_PLATFORMS),
        help="where the jobs run: vertex for Vertex AI, caip for AI Platform Training, which Google shut down on "
        "2025-01-31 (default: cloud_platform in .calibanconfig.json, else vertex)",
    )
    parser.add_argument("--name", help="what the jobs' names begin with (default: caliban_USER)")
    _add_hardware_flags(parser)
    flags.add_label(parser)
    _add_terms(parser)
    parser.add_argument("--image_tag", help="run this image, which was pushed before, instead of building one")
    flags.add_project_id(parser)
    flags.add_cloud_key(parser)
    flags.add_dry_run(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="with --dry_run: show the requests as JSON")
    flags.add_module(parser)


def _add_hardware_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--region", help="where the jobs run (default: $REGION, else us-central1)")
    parser.add_argument(
        "--machine_type",
        help="the machine of each job (default: one that may have the GPUs, g2-standard-8 for 1xL4; e2-standard-8 "
        "without; with --platform caip n1-standard-8, and n1-highcpu-32 without)",
    )
    parser.add_argument(
        "--gpu_spec",
        metavar="COUNTxTYPE",
        help="the GPUs of each machine, such as 2xT4 (default: those that the machine comes with, else 1xL4; with "
        "--platform caip 1xP100; none: --nogpu)",
    )
    parser.add_argument(
        "--worker_count", type=flags.at_least(1), metavar="N", help="how many machines each job has (default: 1)"
    )
    parser.add_argument(
        "--disk_size",
        type=flags.at_least(_SMALLEST_DISK_GB),
        metavar="GB",
        help="the boot disk of each machine, in GB (default: 100, which is the least)",
    )
    parser.add_argument("--force", action="store_true", help="submit even if the hardware does not seem to go together")


def _add_terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--service_account",
        metavar="EMAIL",
        help="the service account that the jobs act as (default: Vertex AI's own for custom code)",
    )
    parser.add_argument(
        "--network",
        help="the VPC network that the jobs are peered with: projects/PROJECT_NUMBER/global/networks/NAME (default: "
        "none)",
    )
    parser.add_argument(
        "--spot", action="store_true", help="run on Spot machines, which cost less and may be taken away"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        help="the longest that a job may run: 24h, 90m, 1h30m, or a number of seconds (default: 7 days)",
    )


def run(args: argparse.Namespace, context: Context) -> int:
    """Check everything, build, push, submit."""
    from caliban.commands.cloud_services import SERVICES
    from caliban.commands.launch import read_launch, show, start
    from caliban.submission.setup import make_platforms

    name = _platform(args, context)
    service = SERVICES[name]
    order = _order(args, context, service)

    def job_spec(number: int, experiment: ExperimentRecord, image: ImageRef) -> JsonObject:
        return service.job_spec(order, number, experiment.arguments, image)

    launch = read_launch(args, context, image=args.image_tag, platform=name, job_spec=job_spec)
    if args.dry_run:
        show(launch, context, "submitted")
        context.console.print(f"each job, on {service.catalog.service}: {_machines(order)}")
        if args.verbose:
            _show_requests(
                launch, service, args.project_id or context.environ.get("PROJECT_ID") or "your-project", context
            )
        context.console.print(
            "\nnothing was submitted: to actually submit these jobs, run this command again without --dry_run"
        )
        return ExitCode.DONE
    platforms = make_platforms(
        context.environ, context.home, context.console, project_id=args.project_id, cloud_key=args.cloud_key
    )
    target = {**platforms.get(name).target(None), **service.place(order)}
    return start(launch, context, platforms, target)


def _platform(args: argparse.Namespace, context: Context) -> PlatformName:
    from caliban.config import load_config

    configured = load_config(context.cwd).cloud_platform
    return CLOUD_PLATFORMS[args.platform] if args.platform else configured


def _order(args: argparse.Namespace, context: Context, service: CloudService) -> LaunchOptions:
    """What was asked for, checked.

    Raises:
        UsageError: the service has nothing for a flag, or a flag is wrong.
    """
    from caliban.commands.cloud_services import LaunchOptions
    from caliban.platforms.google.labels import job_base

    for flag in service.lacks:
        if getattr(args, flag):
            raise UsageError(
                "flag-not-on-platform",
                f"{service.catalog.service} has no --{flag}",
                hint="leave it out, or submit to another service: see --platform",
            )
    return LaunchOptions(
        base=job_base(args.name or f"caliban_{context.user}"),
        labels=flags.parse_labels(args.label),
        hardware=_hardware(args, context, service),
        worker_count=args.worker_count,
        disk_gb=args.disk_size,
        terms=_terms(args),
    )


def _hardware(args: argparse.Namespace, context: Context, service: CloudService) -> Hardware:
    """What the jobs run on.

    Raises:
        UsageError: it does not go together, and ``--force`` was not given.
    """
    from caliban.commands.image_options import job_mode

    if args.nogpu and args.gpu_spec:
        raise UsageError("gpu-or-not", "--nogpu and --gpu_spec contradict each other", hint="leave one of them out")
    hardware = service.catalog.choose(
        args.region or context.environ.get("REGION"),
        args.machine_type,
        service.catalog.parse_gpus(args.gpu_spec) if args.gpu_spec else None,
        wants_gpu=job_mode(args, context) is JobMode.GPU,
    )
    if not args.force:
        service.catalog.check(hardware)
    return hardware


def _terms(args: argparse.Namespace) -> SchedulingOptions:
    from caliban.platforms.vertex.job_spec import SchedulingOptions

    return SchedulingOptions(args.service_account, args.network, args.spot, args.timeout)


def _machines(order: LaunchOptions) -> str:
    several = f"{order.worker_count} machines, each " if (order.worker_count or 1) > 1 else ""
    return f"{several}{order.hardware}"


def _seconds(text: str) -> int:
    """``24h``, ``90m``, ``1h30m``, ``3600`` or ``3600s`` -> seconds."""
    units = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", f"{text}s" if text.isdecimal() else text)
    counts = units.groups("0") if units else ()
    total = sum(int(count) * _SECONDS[unit] for unit, count in zip("dhms", counts, strict=False))
    if total < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 24h, 90m, 1h30m, or a number of seconds")
    return total


def _show_requests(launch: Launch, service: CloudService, project: str, context: Context) -> None:
    """Print each request whole, with words in capitals for what is not known before it is made."""
    import json

    from caliban.images.registry.push import repository
    from caliban.images.spec import ImageSpec

    if isinstance(launch.spec, ImageSpec):
        image = launch.spec.image
    else:
        image = f"{repository(launch.spec.config.registry, project)}/IMAGE:latest"
    for number, experiment in enumerate(launch.previews(), 1):
        spec = launch.job_spec(number, experiment, image)
        context.console.print(json.dumps(service.request(spec, context.now()), indent=2))
