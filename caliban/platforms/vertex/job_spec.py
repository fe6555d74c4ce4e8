"""Job specs of Vertex AI custom jobs, and filters that select them. Pure functions.

A job spec is the body of aiplatform v1 ``projects.locations.customJobs.create``, whose ``displayName`` is
``{base}_{index}``; requests have the time of submission between the two. The region is not part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caliban.errors import PlatformError
from caliban.platforms.effects import Known, anything
from caliban.platforms.google import labels as google_labels
from caliban.platforms.google.labels import labels_of, malformed, object_at, text_at
from caliban.platforms.google.launch import SchedulingOptions
from caliban.platforms.google.machine_catalog import Gpu
from caliban.platforms.usage import count_in, usage_of
from caliban.platforms.vertex import scheduling as vertex_scheduling
from caliban.platforms.vertex.machines import boot_disk_type
from caliban.records import ImageRef, JsonObject

DEFAULT_DISK_GB = 100

KNOWN_SETTINGS: Mapping[str, Known] = {
    "displayName": anything,
    "labels": anything,
    "jobSpec": {
        "workerPoolSpecs": [
            {
                "machineSpec": anything,
                "diskSpec": anything,
                "replicaCount": anything,
                "containerSpec": {"imageUri": anything, "args": anything},
            }
        ],
        "scheduling": anything,
    },
}
"""What jobs of caliban request unless the user asks for more, for :func:`unknown_settings`."""


@dataclass(frozen=True)
class Machines:
    """The machines of a job.

    Attributes:
        machine_type: ``n1-standard-8``.
        gpu: the GPUs of each machine; None for none.
        count: how many machines; all run the same program.
        disk_gb: the size of each one's boot disk, in GB.
        reservation: the reservation to take them from, see :func:`~caliban.platforms.vertex.scheduling.affinity`.
    """

    machine_type: str
    gpu: Gpu | None = None
    count: int = 1
    disk_gb: int = DEFAULT_DISK_GB
    reservation: str | None = None


def custom_job(
    *,
    base: str,
    index: int,
    image: ImageRef,
    machines: Machines,
    arguments: Sequence[str],
    labels: Mapping[str, str] | None = None,
    scheduling: SchedulingOptions | None = None,
) -> dict[str, object]:
    """Return the spec of a new job.

    Args:
        base: the start of its name; see :func:`caliban.platforms.google.labels.job_base`.
        index: which of the jobs submitted together it is, from 1.
        image: the pushed image.
        machines: that it runs on.
        arguments: of the image's entrypoint, ``["--foo", "3", "--sleep", "2"]``; its flags become labels.
        labels: chosen by the user.
        scheduling: None for Vertex AI's defaults; in any case, the service runs a job once.
    """
    return {
        "displayName": f"{base}_{index}",
        "labels": google_labels.new_labels(
            base=base, image=image, has_gpu=machines.gpu is not None, arguments=arguments, given=labels or {}
        ),
        "jobSpec": {
            "workerPoolSpecs": _pools(machines, image, arguments),
            **_scheduling(scheduling or SchedulingOptions()),
        },
    }


def with_image(spec: JsonObject, image: ImageRef) -> dict[str, object]:
    """Return ``spec`` with another image in each worker pool that has the image of the first, and in its label.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    return _changed(spec, google_labels.labels_for_image(labels_of(spec), image), {"imageUri": image})


def with_arguments(spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> dict[str, object]:
    """Return ``spec`` with another image and other arguments; labels from the old flags are replaced.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    before = _first_container(spec).get("args")
    labels = google_labels.labels_for_arguments(
        google_labels.labels_for_image(labels_of(spec), image), before, arguments
    )
    return _changed(spec, labels, {"imageUri": image, "args": list(arguments)})


def image_of(spec: JsonObject) -> ImageRef:
    """Return the image that a job runs: that of its first worker pool.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    return text_at(_first_container(spec), "imageUri")


def other_images(spec: JsonObject) -> list[ImageRef]:
    """Return the images that :func:`with_image` keeps.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    own = image_of(spec)
    images = (object_at(pool, "containerSpec").get("imageUri") for pool in worker_pools(spec) if pool)
    return [str(image) for image in dict.fromkeys(images) if image != own]


def usage(spec: JsonObject) -> dict[str, int]:
    """Return what the machines of a job occupy; see :meth:`caliban.platforms.base.Platform.usage`."""
    accelerators: dict[str, int] = {}
    machines = 0
    try:
        pools = worker_pools(spec)
    except PlatformError:
        return usage_of({})
    for pool in pools:
        replicas, machine = count_in(pool.get("replicaCount"), 1), pool.get("machineSpec")
        machines += replicas
        kind = machine.get("acceleratorType") if isinstance(machine, Mapping) else None
        if isinstance(machine, Mapping) and isinstance(kind, str) and kind:
            count = replicas * count_in(machine.get("acceleratorCount"), 1)
            accelerators[kind] = accelerators.get(kind, 0) + count
    return usage_of(accelerators, machines)


def token_filter(token: str) -> str:
    """Return the filter that selects the job of one submission."""
    return f"labels.{google_labels.TOKEN_LABEL}={google_labels.label_value(token)}"


def names_filter(names: Sequence[str]) -> str:
    """Return a filter that selects the jobs with these display names, and few others."""
    prefix = google_labels.common_prefix(names)
    return f'display_name:"{prefix}*"' if prefix else f"labels.{google_labels.TOKEN_LABEL}:*"


def _pools(machines: Machines, image: ImageRef, arguments: Sequence[str]) -> list[dict[str, object]]:
    """Return one pool with the primary machine, and another with all others.

    Source: https://cloud.google.com/vertex-ai/docs/training/distributed-training#configure_a_distributed_training_job
    """
    gpu = machines.gpu
    accelerators = {"acceleratorType": gpu.type, "acceleratorCount": gpu.count} if gpu else {}
    pool = {
        "machineSpec": {
            "machineType": machines.machine_type,
            **accelerators,
            **vertex_scheduling.affinity(machines.reservation),
        },
        "diskSpec": {"bootDiskType": boot_disk_type(machines.machine_type), "bootDiskSizeGb": machines.disk_gb},
        "containerSpec": {"imageUri": image, "args": list(arguments)},
    }
    counts = [1, machines.count - 1] if machines.count > 1 else [1]
    return [{**pool, "replicaCount": str(count)} for count in counts]


def _scheduling(options: SchedulingOptions) -> dict[str, object]:
    chosen = {"serviceAccount": options.service_account, "network": options.network}
    return {
        "scheduling": vertex_scheduling.scheduling(options),
        **{key: value for key, value in chosen.items() if value},
    }


def _changed(spec: JsonObject, labels: Mapping[str, str], container: JsonObject) -> dict[str, object]:
    """Return ``spec`` with other labels, and with the fields of ``container`` in the container of each pool.

    A pool keeps an image that differs from that of the first; an empty pool (``{}``) stays empty.
    """
    image = image_of(spec)
    pools = [_changed_pool(pool, image, container) if pool else {} for pool in worker_pools(spec)]
    changed = {**spec, "jobSpec": {**object_at(spec, "jobSpec"), "workerPoolSpecs": pools}}
    return {**changed, "labels": dict(labels)} if labels or "labels" in spec else changed


def _changed_pool(pool: JsonObject, image: ImageRef, container: JsonObject) -> dict[str, object]:
    before = object_at(pool, "containerSpec")
    own = text_at(before, "imageUri")
    kept = {} if own == image else {"imageUri": own}
    return {**pool, "containerSpec": {**before, **container, **kept}}


def _first_container(spec: JsonObject) -> Mapping[str, object]:
    return object_at(worker_pools(spec)[0], "containerSpec")


def worker_pools(spec: JsonObject) -> Sequence[JsonObject]:
    """Return the worker pools of a job, at least one; an empty one is ``{}``.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    pools = object_at(spec, "jobSpec").get("workerPoolSpecs")
    if not isinstance(pools, list) or not pools or not all(isinstance(pool, Mapping) for pool in pools):
        raise malformed("workerPoolSpecs is missing")
    return pools
