"""``caliban cloud`` on Vertex AI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from caliban.platforms.base import Platform
from caliban.platforms.google.launch import LaunchOptions, TrainingLauncher
from caliban.platforms.vertex.details import VertexDestination
from caliban.platforms.vertex.job_spec import DEFAULT_DISK_GB, Machines, custom_job
from caliban.platforms.vertex.machines import CATALOG
from caliban.records import Destination, ImageRef, JsonObject


class VertexLauncher(TrainingLauncher):
    """Custom jobs, whose region is part of their destination."""

    platform = "VERTEX"
    catalog = CATALOG
    name_key = "displayName"

    def job_spec(self, options: LaunchOptions, number: int, arguments: Sequence[str], image: ImageRef) -> JsonObject:
        """Return the body of aiplatform v1 ``customJobs.create``."""
        hardware = options.hardware
        return custom_job(
            base=options.base,
            index=number,
            image=image,
            machines=Machines(
                hardware.machine_type, hardware.gpu, options.worker_count or 1, options.disk_gb or DEFAULT_DISK_GB
            ),
            arguments=arguments,
            labels=options.labels,
            scheduling=options.scheduling,
        )

    def destination(self, options: LaunchOptions, platform: Platform) -> Destination:
        """Return the platform's destination in the region of the jobs' machines."""
        destination = platform.destination(None)
        assert isinstance(destination, VertexDestination)
        return replace(destination, region=options.hardware.region)

    def chosen(self, options: LaunchOptions) -> JsonObject:
        """Return the region."""
        return {"region": options.hardware.region}


LAUNCHER = VertexLauncher()
