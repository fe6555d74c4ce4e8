"""``caliban cloud --platform caip``: AI Platform Training, as caliban 0.4.2 submits to it."""

from __future__ import annotations

from collections.abc import Sequence

from caliban.platforms.caip.job_spec import training_job
from caliban.platforms.caip.machines import CATALOG
from caliban.platforms.google.launch import LaunchOptions, TrainingLauncher
from caliban.records import ImageRef, JsonObject


class CaipLauncher(TrainingLauncher):
    """Training jobs, whose region is part of their spec."""

    platform = "CAIP"
    catalog = CATALOG
    name_key = "jobId"
    title = "AI Platform Training, shut down in 2025"
    unsupported = (
        *("service_account", "network", "spot", "flex_start", "max_wait", "reservation", "timeout"),
        *("disk_size", "worker_count"),
    )

    def job_spec(self, options: LaunchOptions, number: int, arguments: Sequence[str], image: ImageRef) -> JsonObject:
        """Return the body of ml v1 ``projects.jobs.create``."""
        return training_job(
            base=options.base,
            index=number,
            image=image,
            region=options.hardware.region,
            machine_type=options.hardware.machine_type,
            gpu=options.hardware.gpu,
            arguments=arguments,
            labels=options.labels,
        )


LAUNCHER = CaipLauncher()
