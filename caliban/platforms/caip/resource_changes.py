"""Training jobs with other machines, GPUs or regions. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from caliban.errors import UsageError
from caliban.platforms.caip.job_spec import image_of
from caliban.platforms.caip.machines import CATALOG
from caliban.platforms.google.labels import labels_of, object_at
from caliban.platforms.google.machine_catalog import NO_GPU, Gpu, Hardware
from caliban.platforms.google.resource_changes import changed_hardware, recorded_gpu
from caliban.platforms.resources import ChangedResources, ChangesResources, ResourceRequest, Settings
from caliban.platforms.stored_json import text
from caliban.records import JobDetails, JobRecord, JsonObject

_CUSTOM = "CUSTOM"


class CaipResources(ChangesResources):
    """Changes the resources of training jobs."""

    resource_flags = frozenset({"region", "machine_type", "gpu_spec", "nogpu"})
    resource_paths = ("trainingInput.masterConfig", "trainingInput.masterType", "trainingInput.region")

    def with_resources(self, job: JobRecord, request: ResourceRequest) -> ChangedResources:
        """See :meth:`ChangesResources.with_resources`."""
        image_of(job.spec)
        given = object_at(job.spec, "trainingInput")
        machine = text(given, "masterType")
        if given.get("scaleTier") != _CUSTOM or machine is None:
            raise UsageError(
                "machine-not-recorded",
                f"cannot change the machine of the scale tier {given.get('scaleTier')}",
                cause="only jobs of the scale tier CUSTOM name their machines",
                hint="move it to Vertex AI with --platform vertex, where it gets a machine that can be changed",
            )
        before = Hardware(
            text(given, "region") or CATALOG.default_region, machine, _gpu(_mapping(given, "masterConfig"))
        )
        after = changed_hardware(before, request, CATALOG)
        if after == before:
            return ChangedResources(job.spec, job.details)
        return ChangedResources(_with_machine(job.spec, after), job.details)

    @classmethod
    def resource_settings(cls, spec: JsonObject, details: JobDetails) -> Settings:
        """See :meth:`ChangesResources.resource_settings`."""
        given = _mapping(spec, "trainingInput")
        gpu = _gpu(_mapping(given, "masterConfig"))
        return {
            "machine_type": text(given, "masterType"),
            "gpu_spec": str(gpu) if gpu else None,
            "region": text(given, "region"),
        }


def _with_machine(spec: JsonObject, hardware: Hardware) -> JsonObject:
    given, gpu = object_at(spec, "trainingInput"), hardware.gpu
    accelerators = {"count": gpu.count if gpu else 0, "type": gpu.type if gpu else NO_GPU}
    changed = {
        **given,
        "masterConfig": {**object_at(given, "masterConfig"), "acceleratorConfig": accelerators},
        "masterType": hardware.machine_type,
        "region": hardware.region,
    }
    made = {**spec, "trainingInput": changed}
    labels = labels_of(spec)
    if "gpu_enabled" in labels:
        made["labels"] = {**labels, "gpu_enabled": "true" if gpu else "false"}
    return made


def _gpu(config: JsonObject) -> Gpu | None:
    accelerators = _mapping(config, "acceleratorConfig")
    return recorded_gpu(accelerators.get("type"), accelerators.get("count"))


def _mapping(parent: JsonObject, name: str) -> Mapping[str, object]:
    found = parent.get(name)
    return found if isinstance(found, Mapping) else {}
