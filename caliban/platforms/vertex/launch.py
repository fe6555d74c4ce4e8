"""``caliban cloud`` on Vertex AI."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from caliban.platforms.base import Platform
from caliban.platforms.google.launch import LaunchOptions, SchedulingOptions, TrainingLauncher
from caliban.platforms.google.machine_catalog import Hardware
from caliban.platforms.vertex import scheduling
from caliban.platforms.vertex.details import VertexDestination
from caliban.platforms.vertex.job_spec import DEFAULT_DISK_GB, Machines, custom_job
from caliban.platforms.vertex.machines import CATALOG
from caliban.records import Destination, ImageRef, JsonObject


class VertexLauncher(TrainingLauncher):
    """Custom jobs, whose region is part of their destination."""

    platform = "VERTEX"
    catalog = CATALOG
    name_key = "displayName"
    title = "Vertex AI, now called Gemini Enterprise Agent Platform"

    def job_spec(self, options: LaunchOptions, number: int, arguments: Sequence[str], image: ImageRef) -> JsonObject:
        """Return the body of aiplatform v1 ``customJobs.create``."""
        hardware = options.hardware
        return custom_job(
            base=options.base,
            index=number,
            image=image,
            machines=Machines(
                hardware.machine_type,
                hardware.gpu,
                options.worker_count or 1,
                options.disk_gb or DEFAULT_DISK_GB,
                options.scheduling.reservation,
            ),
            arguments=arguments,
            labels=options.labels,
            scheduling=options.scheduling,
        )

    def scheduling(self, args: argparse.Namespace, hardware: Hardware) -> SchedulingOptions:
        """Return the flags for machines, checked; see :func:`caliban.platforms.vertex.scheduling.check`."""
        made = super().scheduling(args, hardware)
        if args.reservation is not None:
            made = replace(made, reservation=scheduling.reservation_name(args.reservation))
        scheduling.check(hardware, made, force=args.force)
        return made

    def summary_lines(self, options: LaunchOptions) -> Sequence[str]:
        """Add how the machines are found."""
        return (*super().summary_lines(options), *scheduling.summary_lines(options.scheduling))

    def destination(self, options: LaunchOptions, platform: Platform) -> Destination:
        """Return the platform's destination in the region of the jobs' machines."""
        destination = platform.destination(None)
        assert isinstance(destination, VertexDestination)
        return replace(destination, region=options.hardware.region)

    def chosen(self, options: LaunchOptions) -> JsonObject:
        """Return the region."""
        return {"region": options.hardware.region}


LAUNCHER = VertexLauncher()
