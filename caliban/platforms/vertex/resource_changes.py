"""Custom jobs with other resources: machines, GPUs, Spot, the time limit and the region. Pure.

The worker pools with the machines of the first one change; others, as of parameter servers that were migrated, stay.
"""

from __future__ import annotations

from collections.abc import Mapping

from caliban.platforms.google.labels import labels_of, object_at, text_at
from caliban.platforms.google.machine_catalog import Gpu, Hardware
from caliban.platforms.google.resource_changes import changed_hardware, recorded_gpu
from caliban.platforms.resources import ChangedResources, ChangesResources, ResourceRequest, Settings
from caliban.platforms.stored_json import text
from caliban.platforms.vertex.details import VertexDestination, parse_details
from caliban.platforms.vertex.job_spec import image_of, worker_pools
from caliban.platforms.vertex.machines import CATALOG, boot_disk_type
from caliban.platforms.vertex.scheduling import (
    FLEX_START,
    NOT_STANDARD,
    SPOT,
    check_flex_start,
    check_flex_start_timeout,
    is_in_region,
    recorded_reservation,
)
from caliban.records import JobDetails, JobRecord, JsonObject


class VertexResources(ChangesResources):
    """Changes the resources of custom jobs."""

    resource_flags = frozenset({"region", "machine_type", "gpu_spec", "nogpu", "spot", "nonpreemptible", "timeout"})
    resource_paths = ("jobSpec.workerPoolSpecs", "jobSpec.scheduling", "region")

    def with_resources(self, job: JobRecord, request: ResourceRequest) -> ChangedResources:
        """See :meth:`ChangesResources.with_resources`."""
        image_of(job.spec)
        before = _hardware(job.spec, job.details)
        after = changed_hardware(before, request, CATALOG)
        spec = _with_scheduling(job.spec, request)
        if after != before:
            spec = _with_machines(spec, before, after)
        spec = _with_reservations(spec, request, after.region)
        if spec != job.spec:
            _check_flex_start(spec, after, request)
        if after.region == before.region:
            return ChangedResources(spec, job.details)
        details = parse_details(job.status, {**job.details.raw, "region": after.region})
        return ChangedResources(spec, details)

    @classmethod
    def resource_settings(cls, spec: JsonObject, details: JobDetails) -> Settings:
        """See :meth:`ChangesResources.resource_settings`."""
        job = _mapping(spec, "jobSpec")
        pools = job.get("workerPoolSpecs")
        first = pools[0] if isinstance(pools, list) and pools and isinstance(pools[0], Mapping) else {}
        machine, scheduling = _mapping(first, "machineSpec"), _mapping(job, "scheduling")
        gpu = _gpu(machine)
        return {
            "machine_type": text(machine, "machineType"),
            "gpu_spec": str(gpu) if gpu else None,
            "spot": _spot(text(scheduling, "strategy")),
            "reservation": recorded_reservation(machine),
            "timeout": text(scheduling, "timeout"),
            "region": _region(details),
        }


def _hardware(spec: JsonObject, details: JobDetails) -> Hardware:
    machine = object_at(worker_pools(spec)[0], "machineSpec")
    return Hardware(_region(details) or CATALOG.default_region, text_at(machine, "machineType"), _gpu(machine))


def _with_machines(spec: JsonObject, before: Hardware, after: Hardware) -> JsonObject:
    pools = worker_pools(spec)
    own = object_at(pools[0], "machineSpec")
    changed = [
        _changed_pool(pool, before, after) if _mapping(pool, "machineSpec") == own else dict(pool) for pool in pools
    ]
    made = {**spec, "jobSpec": {**object_at(spec, "jobSpec"), "workerPoolSpecs": changed}}
    labels = labels_of(spec)
    if "gpu_enabled" in labels:
        made["labels"] = {**labels, "gpu_enabled": "true" if after.gpu else "false"}
    return made


def _changed_pool(pool: JsonObject, before: Hardware, after: Hardware) -> JsonObject:
    machine = {**object_at(pool, "machineSpec"), "machineType": after.machine_type}
    for key in ("acceleratorType", "acceleratorCount"):
        machine.pop(key, None)
    if after.gpu:
        machine |= {"acceleratorType": after.gpu.type, "acceleratorCount": after.gpu.count}
    disk = _mapping(pool, "diskSpec")
    if disk.get("bootDiskType") == boot_disk_type(before.machine_type):
        disk = {**disk, "bootDiskType": boot_disk_type(after.machine_type)}
    return {**pool, "machineSpec": machine, **({"diskSpec": disk} if disk else {})}


def _with_scheduling(spec: JsonObject, request: ResourceRequest) -> JsonObject:
    job = object_at(spec, "jobSpec")
    before = _mapping(job, "scheduling")
    scheduling = dict(before)
    if request.spot:
        scheduling["strategy"] = SPOT
    elif request.nonpreemptible and scheduling.get("strategy") != "STANDARD":
        scheduling.pop("strategy", None)
    if scheduling.get("strategy") != FLEX_START and scheduling.get("strategy") != before.get("strategy"):
        scheduling.pop("maxWaitDuration", None)
    if request.timeout is not None:
        scheduling["timeout"] = f"{request.timeout}s"
    if scheduling == before:
        return spec
    kept = {key: value for key, value in job.items() if key != "scheduling"}
    return {**spec, "jobSpec": {**kept, **({"scheduling": scheduling} if scheduling else {})}}


def _with_reservations(spec: JsonObject, request: ResourceRequest, region: str) -> JsonObject:
    """Return the job without reservations that its machines cannot use: for Spot machines, or in another region."""
    pools = worker_pools(spec)
    kept = [_without_reservation(pool) if _is_unusable(pool, request, region) else pool for pool in pools]
    if kept == pools:
        return spec
    return {**spec, "jobSpec": {**object_at(spec, "jobSpec"), "workerPoolSpecs": kept}}


def _is_unusable(pool: JsonObject, request: ResourceRequest, region: str) -> bool:
    reservation = recorded_reservation(_mapping(pool, "machineSpec"))
    if reservation is None:
        return False
    return request.spot or (request.region is not None and not is_in_region(reservation, region))


def _without_reservation(pool: JsonObject) -> JsonObject:
    machine = {key: value for key, value in object_at(pool, "machineSpec").items() if key != "reservationAffinity"}
    return {**pool, "machineSpec": machine}


def _check_flex_start(spec: JsonObject, hardware: Hardware, request: ResourceRequest) -> None:
    if text(_mapping(_mapping(spec, "jobSpec"), "scheduling"), "strategy") == FLEX_START:
        check_flex_start_timeout(request.timeout)
        if not request.force:
            check_flex_start(hardware.gpu)


def _gpu(machine: JsonObject) -> Gpu | None:
    return recorded_gpu(machine.get("acceleratorType"), machine.get("acceleratorCount"))


def _spot(strategy: str | None) -> str:
    """Return ``on`` or ``off``; of another strategy that has no machines of its own, its name."""
    return "on" if strategy == SPOT else strategy if strategy in NOT_STANDARD else "off"


def _region(details: JobDetails) -> str | None:
    place = details.destination
    return place.region if isinstance(place, VertexDestination) else None


def _mapping(parent: JsonObject, name: str) -> Mapping[str, object]:
    found = parent.get(name)
    return found if isinstance(found, Mapping) else {}
