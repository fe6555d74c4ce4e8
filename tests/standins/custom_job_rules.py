"""What Vertex AI accepts as the body of a custom job, beyond the types of its fields.

Sources: the schemas of ``aiplatform.v1.json``; https://cloud.google.com/vertex-ai/docs/training/create-custom-job
(replicas of the first pool) and https://cloud.google.com/vertex-ai/docs/training/create-custom-container (registries);
https://github.com/PrefectHQ/prefect-gcp/issues/175 (how errors are worded).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.standins.discovery import ApiError

_REGISTRIES = re.compile(r"((\w+\.)?gcr\.io|[a-z0-9-]+-docker\.pkg\.dev|(index\.)?docker\.io)/.+")
_UNSPECIFIED = "ACCELERATOR_TYPE_UNSPECIFIED"
_DISKS = frozenset({"pd-ssd", "pd-standard", "hyperdisk-balanced"})
_LONGEST_NAME, _MOST_LABELS, _LONGEST_LABEL = 128, 64, 63
_MOST_VARIABLES = 100
_FLEX_START_GPUS = re.compile(r"NVIDIA_(L4|TESLA_A100|A100_80GB|H100_80GB|H100_MEGA_80GB|H200_141GB|B200)")
_LONGEST_FLEX_START_S = 7 * 86400
_RESERVATION_KEY = "compute.googleapis.com/reservation-name"
_RESERVATION = re.compile(
    r"projects/[^/]+/zones/[^/]+/reservations/[^/]+(/reservationBlocks/[^/]+(/reservationSubBlocks/[^/]+)?)?"
)

Problem = tuple[str, str]
"""A field, in the service's own words, and what is wrong with it."""


def check_custom_job(body: Mapping[str, Any], *, any_registry: bool) -> None:
    """Refuse a body that the service would refuse; with every problem that it has.

    Args:
        body: as it was sent, its types checked already.
        any_registry: take images from registries that the real service does not reach, as a test's own.

    Raises:
        ApiError: 400.
    """
    problems = list(_problems(body, any_registry))
    if problems:
        found = "".join(f"{number}.Field: {name}; Message: {text}\t" for number, (name, text) in enumerate(problems, 1))
        violations = [{"field": name, "description": text} for name, text in problems]
        details = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}]
        raise ApiError(400, f"List of found errors:\t{found}", details=details)


def _problems(body: Mapping[str, Any], any_registry: bool) -> Iterator[Problem]:
    name = body.get("displayName") or ""
    if not name:
        yield "display_name", "Required field is not set."
    if len(name) > _LONGEST_NAME:
        yield "display_name", f"The display name must be no longer than {_LONGEST_NAME} characters."
    yield from _label_problems(body.get("labels") or {})
    spec = body.get("jobSpec") or {}
    pools = spec.get("workerPoolSpecs") or []
    if not pools:
        yield "job_spec.worker_pool_specs", "Required field is not set."
    for number, pool in enumerate(pools):
        if pool or number == 0:  # a later pool may be left out by an empty value
            yield from _pool_problems(f"job_spec.worker_pool_specs[{number}]", pool, number == 0, any_registry)
    yield from _spec_problems(spec)


def _label_problems(labels: Mapping[str, str]) -> Iterator[Problem]:
    def is_good(key: str, value: str) -> bool:
        lengths = 1 <= len(key) <= _LONGEST_LABEL and len(value) <= _LONGEST_LABEL
        return lengths and key[0].isalpha() and _is_label_text(key) and _is_label_text(value)

    if len(labels) > _MOST_LABELS or not all(is_good(key, value) for key, value in labels.items()):
        text = (
            f"There can be no more than {_MOST_LABELS} labels attached to a single resource. Label keys and values can "
            "only contain lowercase letters, numbers, dashes and underscores. Label keys must start with a letter, and "
            f"keys and values can be no longer than {_LONGEST_LABEL} characters."
        )
        yield "labels", text


def _is_label_text(text: str) -> bool:
    return all(letter in "-_" or letter.isdigit() or (letter.isalpha() and not letter.isupper()) for letter in text)


def _pool_problems(place: str, pool: Mapping[str, Any], is_first: bool, any_registry: bool) -> Iterator[Problem]:
    machine = pool.get("machineSpec") or {}
    replicas = int(pool.get("replicaCount") or 0)
    if is_first and replicas != 1:
        yield f"{place}.replica_count", "Replica count must be 1 for the first worker pool."
    elif replicas < 1:
        yield f"{place}.replica_count", "Replica count must be greater than 0."
    if not machine.get("machineType"):
        yield f"{place}.machine_spec.machine_type", "Required field is not set."
    has_type = machine.get("acceleratorType", _UNSPECIFIED) != _UNSPECIFIED
    if has_type != (int(machine.get("acceleratorCount") or 0) > 0):
        text = "Both `accelerator_type` and `accelerator_count` should be specified or none."
        yield f"{place}.machine_spec.accelerator_type", text
    if bool(pool.get("containerSpec")) == bool(pool.get("pythonPackageSpec")):
        yield f"{place}.task", "Exactly one of container_spec and python_package_spec is required."
    elif pool.get("containerSpec"):
        yield from _container_problems(f"{place}.container_spec", pool["containerSpec"], any_registry)
    else:
        yield from _package_problems(f"{place}.python_package_spec", pool["pythonPackageSpec"])
    yield from _reservation_problems(f"{place}.machine_spec.reservation_affinity", machine.get("reservationAffinity"))
    yield from _disk_problems(f"{place}.disk_spec", pool.get("diskSpec") or {})


def _container_problems(place: str, container: Mapping[str, Any], any_registry: bool) -> Iterator[Problem]:
    image = container.get("imageUri") or ""
    if not image:
        yield f"{place}.image_uri", "Required field is not set."
    elif not any_registry and not _REGISTRIES.fullmatch(image):
        text = f"The image {image} must be in Container Registry, Artifact Registry or Docker Hub."
        yield f"{place}.image_uri", text
    yield from _variable_problems(f"{place}.env", container.get("env") or [])


def _package_problems(place: str, package: Mapping[str, Any]) -> Iterator[Problem]:
    for given, name in (
        ("executorImageUri", "executor_image_uri"),
        ("packageUris", "package_uris"),
        ("pythonModule", "python_module"),
    ):
        if not package.get(given):
            yield f"{place}.{name}", "Required field is not set."
    yield from _variable_problems(f"{place}.env", package.get("env") or [])


def _variable_problems(place: str, variables: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    if len(variables) > _MOST_VARIABLES:
        yield place, f"There can be no more than {_MOST_VARIABLES} environment variables."
    for number, variable in enumerate(variables):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable.get("name") or ""):
            yield f"{place}[{number}].name", "The name must be a valid C identifier."


def _disk_problems(place: str, disk: Mapping[str, Any]) -> Iterator[Problem]:
    if disk.get("bootDiskType", "pd-ssd") not in _DISKS:
        yield f"{place}.boot_disk_type", f"The boot disk type must be one of {', '.join(sorted(_DISKS))}."
    if int(disk.get("bootDiskSizeGb") or 100) < 100:
        yield f"{place}.boot_disk_size_gb", "The boot disk must have at least 100 GB."


def _reservation_problems(place: str, affinity: Mapping[str, Any] | None) -> Iterator[Problem]:
    if affinity is None:
        return
    kind, key, values = affinity.get("reservationAffinityType"), affinity.get("key"), affinity.get("values") or []
    if kind in (None, "TYPE_UNSPECIFIED"):
        yield f"{place}.reservation_affinity_type", "Required field is not set."
    elif kind != "SPECIFIC_RESERVATION":
        if key or values:
            yield place, f"The key and the values must not be set for {kind}."
    elif key != _RESERVATION_KEY:
        yield f"{place}.key", f"The key must be {_RESERVATION_KEY}."
    elif len(values) != 1 or not _RESERVATION.fullmatch(values[0]):
        yield f"{place}.values", "The value must have the form projects/{project}/zones/{zone}/reservations/{name}."


def _scheduling_problems(scheduling: Mapping[str, Any], pools: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """What is wrong with the scheduling, above all with flex start.

    Source: the page ``schedule-jobs-dws`` ("Requirements"), and ``use-reservations`` ("Limitations and requirements").
    """
    place = "job_spec.scheduling"
    timeout, wait = scheduling.get("timeout"), scheduling.get("maxWaitDuration")
    if timeout is not None and float(timeout[:-1]) <= 0:
        yield f"{place}.timeout", "The timeout must be positive."
    if wait is not None and float(wait[:-1]) < 0:
        yield f"{place}.max_wait_duration", "The duration must not be negative."
    machines = [pool.get("machineSpec") or {} for pool in pools if pool]
    has_reservation = any(_reserves(machine) for machine in machines)
    if scheduling.get("strategy") in ("SPOT", "FLEX_START") and has_reservation:
        yield f"{place}.strategy", f"Reservations cannot be used with the strategy {scheduling['strategy']}."
    if scheduling.get("strategy") != "FLEX_START":
        return
    if timeout is not None and float(timeout[:-1]) > _LONGEST_FLEX_START_S:
        yield f"{place}.timeout", "The timeout must be at most 7 days for the strategy FLEX_START."
    if any(machine != machines[0] for machine in machines):
        yield f"{place}.strategy", "All worker pools must have the same machines for the strategy FLEX_START."
    if not all(_FLEX_START_GPUS.fullmatch(machine.get("acceleratorType", "")) for machine in machines):
        yield f"{place}.strategy", "The machines do not support the strategy FLEX_START."


def _reserves(machine: Mapping[str, Any]) -> bool:
    kind = (machine.get("reservationAffinity") or {}).get("reservationAffinityType")
    return kind in ("ANY_RESERVATION", "SPECIFIC_RESERVATION")


def _spec_problems(spec: Mapping[str, Any]) -> Iterator[Problem]:
    yield from _scheduling_problems(spec.get("scheduling") or {}, spec.get("workerPoolSpecs") or [])
    network = spec.get("network")
    if network and not re.fullmatch(r"projects/[^/]+/global/networks/[^/]+", network):
        yield "job_spec.network", "The network must have the form projects/{project}/global/networks/{network}."
    if network and not re.fullmatch(r"projects/\d+/.*", network):
        yield "job_spec.network", "The project of the network must be given by its number."
    account = spec.get("serviceAccount")
    if account and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", account):
        yield "job_spec.service_account", "The service account must be given by its email address."
