"""Jobs on clusters with other resources: requests and limits of their container, and the nodes that they need. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from caliban.errors import UsageError
from caliban.platforms.google.machine_memory import memory_gb
from caliban.platforms.kubernetes import job_spec, quantities
from caliban.platforms.kubernetes.details import object_at
from caliban.platforms.kubernetes.resources import (
    Hardware,
    accelerator_in,
    default_requests,
    is_flex_start_selector,
    is_spot_selector,
    machine_type_in,
    parse_gpu_spec,
    without_hardware,
    without_tolerations,
)
from caliban.platforms.resources import (
    ChangedResources,
    ChangesResources,
    ResourceRequest,
    Settings,
    check_alone,
    nothing_to_multiply,
)
from caliban.records import JobDetails, JobRecord, JsonObject

_GIBIBYTE = 1024**3
_NO_MEMORY = (
    "it could have what its node had left, or what a policy of the namespace set; write how much it needs, in MB: "
    "--min_mem 16000"
)


class ClusterResources(ChangesResources):
    """Changes the resources of jobs on clusters without labels for types of GPUs and Spot nodes."""

    resource_flags = frozenset({"machine_type", "gpu_spec", "nogpu", "min_cpu", "min_mem"})
    resource_paths = (
        "template.spec.containers[0].resources",
        "template.spec.nodeSelector",
        "template.spec.tolerations",
    )
    is_gke = False

    def with_resources(self, job: JobRecord, request: ResourceRequest) -> ChangedResources:
        """See :meth:`ChangesResources.with_resources`."""
        return ChangedResources(changed_spec(job.spec, request, is_gke=self.is_gke), job.details)

    @classmethod
    def resource_settings(cls, spec: JsonObject, details: JobDetails) -> Settings:
        """See :func:`settings`."""
        return settings(spec)


class GkeResources(ClusterResources):
    """Changes the resources of jobs on GKE."""

    resource_flags = ClusterResources.resource_flags | {"spot", "nonpreemptible"}
    is_gke = True


@dataclass(frozen=True)
class _Recorded:
    """What a spec requests."""

    requests: Mapping[str, object]
    limits: Mapping[str, object]
    selector: Mapping[str, object]

    @classmethod
    def of(cls, spec: JsonObject) -> _Recorded:
        pod = object_at(spec, "template", "spec")
        resources = object_at(job_spec.container_of(spec), "resources")
        return cls(object_at(resources, "requests"), object_at(resources, "limits"), object_at(pod, "nodeSelector"))

    @property
    def hardware(self) -> Hardware:
        """Without CPU and memory, which may have any unit."""
        accelerator = accelerator_in(self.limits, self.selector)
        return Hardware(
            accelerator,
            machine_type_in(self.selector),
            is_spot=is_spot_selector(self.selector),
            is_flex_start=is_flex_start_selector(self.selector),
        )


def settings(spec: JsonObject) -> Settings:
    """Return the resources of a job: requests and limits of its container, and which nodes it needs."""
    own = job_spec.own_of(spec)
    if own is None:
        return {}
    resources = object_at(own, "resources")
    selector = object_at(spec, "template", "spec", "nodeSelector")
    requests, limits = object_at(resources, "requests"), object_at(resources, "limits")
    hardware = _Recorded(requests, limits, selector).hardware
    found = {"machine_type": hardware.machine_type, "accelerator": str(hardware.accelerator or "") or None}
    for name in ("cpu", "memory"):
        found[name] = _text(requests.get(name))
        found[f"{name}_limit"] = _text(limits.get(name))
    return {
        **found,
        "spot": "on" if hardware.is_spot else "off",
        "flex_start": "on" if hardware.is_flex_start else None,
    }


def changed_spec(spec: JsonObject, request: ResourceRequest, *, is_gke: bool) -> JsonObject:
    """Return a job spec with other resources; raises what :meth:`ChangesResources.with_resources` does."""
    check_alone(request, "min_mem")
    recorded = _Recorded.of(spec)
    before = recorded.hardware
    after = _changed_hardware(before, request, is_gke=is_gke)
    requests, limits = _changed_amounts(recorded, request, before, after, is_gke=is_gke)
    if is_gke and not request.force:
        _check_machine(after.machine_type, requests)
    changed = job_spec.with_resources(spec, requests, limits)
    if after == before:
        return changed
    pod = object_at(spec, "template", "spec")
    selector = {**without_hardware(recorded.selector), **after.node_selector}
    tolerations = [*after.tolerations, *without_tolerations(pod.get("tolerations"))]
    return job_spec.with_nodes(changed, selector, tolerations)


def _changed_amounts(
    recorded: _Recorded, request: ResourceRequest, before: Hardware, after: Hardware, *, is_gke: bool
) -> tuple[dict[str, object], dict[str, object]]:
    """Return requests and limits."""
    requests, limits = dict(recorded.requests), dict(recorded.limits)
    if after != before:
        if is_gke:
            _follow_defaults(requests, before, after)
        for amounts in (requests, limits):
            if before.accelerator:
                amounts.pop(before.accelerator.resource, None)
        limits.update(after.limits)
    if request.min_cpu is not None:
        requests["cpu"] = f"{request.min_cpu}m"
    if request.min_mem is not None:
        requests["memory"] = f"{request.min_mem}M"
    if request.more_memory is not None:
        _multiply(requests, limits, request.more_memory)
    for name in ("cpu", "memory"):
        _raise_limit(name, requests, limits)
    return requests, limits


def _changed_hardware(before: Hardware, request: ResourceRequest, *, is_gke: bool) -> Hardware:
    after = before
    if request.nogpu:
        after = replace(after, accelerator=None)
    if request.gpu_spec is not None:
        after = replace(after, accelerator=parse_gpu_spec(request.gpu_spec, is_gke=is_gke))
    if request.machine_type is not None:
        if not request.machine_type:
            raise UsageError("invalid-value", "--machine_type: expected a machine type", hint="name one, or omit it")
        after = replace(after, machine_type=request.machine_type)
    if request.spot or request.nonpreemptible:
        after = replace(after, is_spot=request.spot, is_flex_start=False)
    return after


def _follow_defaults(requests: dict[str, object], before: Hardware, after: Hardware) -> None:
    """Replace the requests that are the defaults of the recorded hardware, as ``cluster job submit`` chooses them."""
    units = ("m", "M")
    old, new = (default_requests(each.accelerator, each.machine_type) for each in (before, after))
    for name, unit, was, becomes in zip(("cpu", "memory"), units, old, new, strict=True):
        default = None if was is None else quantities.amount(f"{was}{unit}")
        if was == becomes or quantities.amount(requests.get(name)) != default:
            continue
        requests.pop(name, None)
        if becomes is not None:
            requests[name] = f"{becomes}{unit}"


def _multiply(requests: dict[str, object], limits: dict[str, object], factor: Decimal) -> None:
    found = False
    for amounts in (requests, limits):
        more = quantities.multiplied(amounts.get("memory"), factor)
        if more is not None:
            amounts["memory"] = more
            found = True
    if not found:
        raise nothing_to_multiply("memory request", _NO_MEMORY)


def _raise_limit(name: str, requests: Mapping[str, object], limits: dict[str, object]) -> None:
    """Raise a limit that is less than its request, which Kubernetes does not accept."""
    requested, limit = quantities.amount(requests.get(name)), quantities.amount(limits.get(name))
    if requested is not None and limit is not None and limit < requested:
        limits[name] = requests[name]


def _check_machine(machine_type: str | None, requests: Mapping[str, object]) -> None:
    """Check that a machine whose size is known has what is requested; the job would wait for ever otherwise.

    Raises:
        UsageError: ``machine-too-small``.
    """
    gigabytes = memory_gb(machine_type) if machine_type else None
    requested = quantities.amount(requests.get("memory"))
    if gigabytes is None or requested is None or requested < gigabytes * _GIBIBYTE:
        return
    raise UsageError(
        "machine-too-small",
        f"{machine_type} cannot have a memory request of {requests['memory']}",
        cause=f"it has {gigabytes:f} GB of memory, and the system needs a part of that",
        hint="name a larger machine: --machine_type; or override this check with --force",
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
