"""What ``caliban cloud`` needs of each service that it submits to: hardware, job specs, requests, and places."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from caliban.platforms.caip import job_spec as caip_job_spec
from caliban.platforms.caip import machines as caip_machines
from caliban.platforms.google.machine_catalog import Catalog, Hardware
from caliban.platforms.vertex import job_spec as vertex_job_spec
from caliban.platforms.vertex import machines as vertex_machines
from caliban.records import ImageRef, JsonObject, PlatformName


@dataclass(frozen=True)
class LaunchOptions:
    """What was asked for on the command line, for every job alike.

    Attributes:
        base: what the jobs' names begin with.
        labels: as a person gave them.
        hardware: what each job runs on.
        worker_count: how many machines each job has; None where nobody said.
        disk_gb: the size of each machine's boot disk, in GB; None where nobody said.
        terms: on what terms the jobs run.
    """

    base: str
    labels: Mapping[str, str]
    hardware: Hardware
    worker_count: int | None = None
    disk_gb: int | None = None
    terms: vertex_job_spec.SchedulingOptions = field(default_factory=vertex_job_spec.SchedulingOptions)


class CloudService(ABC):
    """A service that ``caliban cloud`` submits to.

    Attributes:
        catalog: its hardware.
        lacks: the flags of ``caliban cloud`` that it has nothing for, without their dashes.
    """

    catalog: ClassVar[Catalog]
    lacks: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def job_spec(self, order: LaunchOptions, number: int, arguments: Sequence[str], image: ImageRef) -> JsonObject:
        """The spec of one job.

        Args:
            order: what all jobs have in common.
            number: which of the jobs submitted together it is, from 1.
            arguments: of the image's entry point.
            image: the pushed image.
        """

    @abstractmethod
    def request(self, spec: JsonObject, now: datetime) -> JsonObject:
        """What would be sent for a spec, with ``TOKEN`` in place of the token."""

    def place(self, order: LaunchOptions) -> JsonObject:
        """What of the platform's target is chosen on the command line, beside the project."""
        return {}


class VertexAi(CloudService):
    """Vertex AI custom jobs."""

    catalog = vertex_machines.CATALOG

    def job_spec(self, order: LaunchOptions, number: int, arguments: Sequence[str], image: ImageRef) -> JsonObject:
        """The body of aiplatform v1 ``customJobs.create``."""
        machines = vertex_job_spec.Machines(
            order.hardware.machine_type,
            order.hardware.gpu,
            order.worker_count or 1,
            order.disk_gb or vertex_job_spec.DEFAULT_DISK_GB,
        )
        return vertex_job_spec.custom_job(
            base=order.base,
            index=number,
            image=image,
            machines=machines,
            arguments=arguments,
            labels=order.labels,
            terms=order.terms,
        )

    def request(self, spec: JsonObject, now: datetime) -> JsonObject:
        """The same under its full name."""
        return vertex_job_spec.request_body(spec, vertex_job_spec.display_name(spec, "", now), "TOKEN")

    def place(self, order: LaunchOptions) -> JsonObject:
        """Jobs belong to a region."""
        return {"region": order.hardware.region}


class AiPlatform(CloudService):
    """AI Platform Training, as caliban 0.4.2 submitted to it."""

    catalog = caip_machines.CATALOG
    lacks = ("service_account", "network", "spot", "timeout", "disk_size", "worker_count")

    def job_spec(self, order: LaunchOptions, number: int, arguments: Sequence[str], image: ImageRef) -> JsonObject:
        """The body of ml v1 ``projects.jobs.create``."""
        return caip_job_spec.training_job(
            base=order.base,
            index=number,
            image=image,
            region=order.hardware.region,
            machine_type=order.hardware.machine_type,
            gpu=order.hardware.gpu,
            arguments=arguments,
            labels=order.labels,
        )

    def request(self, spec: JsonObject, now: datetime) -> JsonObject:
        """The same under its full name."""
        return caip_job_spec.request_body(spec, caip_job_spec.job_id(spec, "", now), "TOKEN")


SERVICES: Mapping[PlatformName, CloudService] = {
    PlatformName.VERTEX: VertexAi(),
    PlatformName.CAIP: AiPlatform(),
}
