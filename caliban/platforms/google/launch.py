"""Flags, checks and requests that ``caliban cloud`` has in common for Google's training services.

Imports nothing heavy: ``--help`` pays for it.
"""

from __future__ import annotations

import argparse
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from caliban.errors import UsageError
from caliban.platforms import flags, resource_flags
from caliban.platforms.base import Platform
from caliban.platforms.google import labels
from caliban.platforms.google.identifiers import REGION
from caliban.platforms.google.machine_catalog import Catalog, Hardware
from caliban.platforms.google.projects import named_project
from caliban.platforms.launch import JobPreview, Launch, LaunchContext, Launcher
from caliban.records import Destination, ImageRef, JsonObject, PlatformId

_MINIMUM_DISK_GB = 100
_SOME_PROJECT = "your-project"
"""What a preview shows where nothing names a project."""


@dataclass(frozen=True)
class SchedulingOptions:
    """How a service runs a job; where nothing is set, the service's defaults apply.

    Attributes:
        service_account: the e-mail address of the account that the job's program uses.
        network: the full name of the peered network, ``projects/12345/global/networks/my-vpc``.
        is_spot: on Spot machines, which cost less and can be preempted.
        timeout_s: the longest time that it may run, in seconds.
        is_flex_start: queued until the service has the machines, instead of failing where it has none.
        max_wait_s: the longest time that it may be queued, in seconds; 0 for any time.
        reservation: the reservation of Compute Engine whose machines it uses.
    """

    service_account: str | None = None
    network: str | None = None
    is_spot: bool = False
    timeout_s: int | None = None
    is_flex_start: bool = False
    max_wait_s: int | None = None
    reservation: str | None = None


@dataclass(frozen=True)
class LaunchOptions:
    """What the command line sets for all jobs.

    Attributes:
        base: the start of the jobs' names.
        labels: chosen by the user.
        hardware: the machine of each job.
        worker_count: how many machines each job has; None for the default.
        disk_gb: the size of each machine's boot disk, in GB; None for the default.
        scheduling: see :class:`SchedulingOptions`.
    """

    base: str
    labels: Mapping[str, str]
    hardware: Hardware
    worker_count: int | None = None
    disk_gb: int | None = None
    scheduling: SchedulingOptions = field(default_factory=SchedulingOptions)


class TrainingLauncher(Launcher):
    """The flags of a training service.

    Attributes:
        platform: its id.
        catalog: its machines.
        name_key: where the spec of a job has its name.
        unsupported: the flags that it has nothing for, without dashes.
    """

    platform: ClassVar[PlatformId]
    catalog: ClassVar[Catalog]
    name_key: ClassVar[str]
    unsupported: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def job_spec(self, options: LaunchOptions, number: int, arguments: Sequence[str], image: ImageRef) -> JsonObject:
        """See :meth:`caliban.platforms.launch.Launch.job_spec`."""

    def destination(self, options: LaunchOptions, platform: Platform) -> Destination:
        """Return where the jobs run."""
        return platform.destination(None)

    def chosen(self, options: LaunchOptions) -> JsonObject:
        """See :meth:`caliban.platforms.launch.Launch.chosen`; without the project."""
        return {}

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the flags of jobs on any training service."""
        parser.add_argument("--name", help="the start of the jobs' names (default: caliban_USER)")
        _add_hardware_flags(parser)
        flags.add_label(parser)
        _add_scheduling_flags(parser)
        parser.add_argument("--image_tag", help="run this image from a registry instead of building one")
        flags.add_account_flags(parser)

    def prepare(self, args: argparse.Namespace, context: LaunchContext) -> Launch:
        """Check the flags.

        Raises:
            UsageError: the service has nothing for a flag (``flag-not-on-platform``), or a value is wrong.
        """
        for flag in self.unsupported:
            value = getattr(args, flag)
            if value is not None and value is not False:
                raise UsageError(
                    "flag-not-on-platform",
                    f"{self.catalog.service} does not support --{flag}",
                    hint="omit it, or choose another service with --platform",
                )
        hardware = self._hardware(args, context)
        options = LaunchOptions(
            base=labels.job_base(args.name or f"caliban_{context.user}"),
            labels=flags.parse_labels(args.label),
            hardware=hardware,
            worker_count=args.worker_count,
            disk_gb=args.disk_size,
            scheduling=self.scheduling(args, hardware),
        )
        project = named_project({"project_id": args.project_id}, context.environ)
        return TrainingLaunch(self, options, context, project.id if project else None)

    def scheduling(self, args: argparse.Namespace, hardware: Hardware) -> SchedulingOptions:
        """Return the flags about how a service runs a job.

        Raises:
            UsageError: a value is wrong, or the machine cannot be had in this way.
        """
        return SchedulingOptions(
            args.service_account,
            args.network,
            args.spot,
            args.timeout,
            args.flex_start,
            args.max_wait,
            args.reservation,
        )

    def summary_lines(self, options: LaunchOptions) -> Sequence[str]:
        """See :meth:`caliban.platforms.launch.Launch.summary_lines`."""
        count = options.worker_count or 1
        several = f"{count} machines, each " if count > 1 else ""
        return (f"each job, on {self.catalog.service}: {several}{options.hardware}",)

    def _hardware(self, args: argparse.Namespace, context: LaunchContext) -> Hardware:
        if args.nogpu and args.gpu_spec:
            raise UsageError("gpu-or-not", "--nogpu and --gpu_spec cannot be combined", hint="omit one of them")
        region = args.region or context.environ.get("REGION")
        hardware = self.catalog.choose(
            REGION.check_given(region) if region else None,
            args.machine_type,
            self.catalog.parse_gpus(args.gpu_spec) if args.gpu_spec else None,
            wants_gpu=context.wants_gpu,
        )
        if not args.force:
            self.catalog.check(hardware)
        return hardware


class TrainingLaunch(Launch):
    """Jobs for a training service."""

    def __init__(
        self, launcher: TrainingLauncher, options: LaunchOptions, context: LaunchContext, project: str | None
    ) -> None:
        self.platform = launcher.platform
        self._launcher = launcher
        self._options = options
        self._context = context
        self._project = project

    def job_spec(self, number: int, arguments: Sequence[str], image: ImageRef) -> JsonObject:
        """See :meth:`caliban.platforms.launch.Launch.job_spec`."""
        return self._launcher.job_spec(self._options, number, arguments, image)

    def destination(self, platform: Platform) -> Destination:
        """See :meth:`caliban.platforms.launch.Launch.destination`."""
        return self._launcher.destination(self._options, platform)

    def chosen(self) -> JsonObject:
        """Return the project, if a flag or a variable names it, and the region of services that have one."""
        project = {"project": self._project} if self._project else {}
        return {**project, **self._launcher.chosen(self._options)}

    def summary_lines(self) -> Sequence[str]:
        """Return the machines of each job."""
        return self._launcher.summary_lines(self._options)

    def request_text(self, jobs: Sequence[JobPreview], image: ImageRef | None) -> str:
        """Return the requests as JSON; words in capitals stand for what is not known before the submission."""
        pushed = image or self._pushed_name()
        key, requests = self._launcher.name_key, []
        for job in jobs:
            spec = self.job_spec(job.number, job.arguments, pushed)
            name = labels.full_name(labels.text_at(spec, key), "", self._context.now)
            requests.append(json.dumps(labels.request_body(spec, key, name, "TOKEN"), indent=2))
        return "\n".join(requests)

    def _pushed_name(self) -> ImageRef:
        from caliban.config import load_config
        from caliban.platforms.google.image_registry import default_repository

        config = load_config(self._context.cwd)
        if config.repository is not None:
            return f"{config.repository}:IMAGE"
        return f"{config.registry or default_repository(self._project or _SOME_PROJECT)}/IMAGE:latest"


def _add_hardware_flags(parser: argparse.ArgumentParser) -> None:
    resource_flags.REGION.add(parser, "where the jobs run (default: $REGION, else us-central1)")
    resource_flags.MACHINE_TYPE.add(
        parser,
        "the machine of each job (default: one that can have the GPUs, g2-standard-8 for 1xL4; e2-standard-8 "
        "without GPUs; with --platform caip n1-standard-8, and n1-highcpu-32 without GPUs)",
    )
    resource_flags.GPU_SPEC.add(
        parser,
        "the GPUs of each machine, such as 2xT4 (default: the machine's built-in GPUs, else 1xL4; with --platform "
        "caip 1xP100; none with --nogpu)",
    )
    parser.add_argument(
        "--worker_count",
        type=flags.integer_at_least(1),
        metavar="N",
        help="how many machines each job has (default: 1)",
    )
    parser.add_argument(
        "--disk_size",
        type=flags.integer_at_least(_MINIMUM_DISK_GB),
        metavar="GB",
        help="the boot disk of each machine, in GB (default: 100, the minimum)",
    )
    resource_flags.FORCE.add(parser, "submit even if the machine and GPUs seem unavailable")


def _add_scheduling_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--service_account",
        metavar="EMAIL",
        help="the service account that the jobs use (default: Vertex AI's own for custom code)",
    )
    parser.add_argument(
        "--network",
        help="the VPC network to peer the jobs with: projects/PROJECT_NUMBER/global/networks/NAME (default: none)",
    )
    resource_flags.SPOT.add(parser, "run on Spot machines, which cost less and can be preempted")
    parser.add_argument(
        "--flex_start",
        action="store_true",
        help="wait until the service has the GPUs (Dynamic Workload Scheduler), instead of failing where it has none",
    )
    parser.add_argument(
        "--max_wait",
        type=flags.duration_or_zero,
        help="with --flex_start: the longest time to wait for machines; 0 to wait for any time (default: 24h)",
    )
    parser.add_argument(
        "--reservation",
        metavar="NAME",
        help="use a reservation of Compute Engine: projects/PROJECT/zones/ZONE/reservations/NAME; or any",
    )
    resource_flags.TIMEOUT.add(
        parser,
        "the longest time that a job may run: 24h, 90m, 1h30m, or a number of seconds (default: 7 days)",
    )
