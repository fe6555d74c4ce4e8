"""What the API refuses in a pod's template although the schema lets it through.

Source: ``pkg/apis/core/validation/validation.go`` of kubernetes/kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from tests.standins.kubernetes.names import (
    key_problem,
    label_problem,
    quantity,
    subdomain_problem,
    value_problem,
)
from tests.standins.kubernetes.status import (
    FieldError,
    duplicate,
    field_forbidden,
    invalid,
    not_there,
    required,
    unsupported,
)

Errors = Iterator[FieldError]
_STANDARD = {"cpu", "memory", "ephemeral-storage"}
_NOT_NEGATIVE = "must be greater than or equal to 0"
_EFFECTS = ["NoSchedule", "PreferNoSchedule", "NoExecute"]


def check_labels(labels: Mapping[str, str], place: str) -> Errors:
    for key, value in labels.items():
        problem = key_problem(key)
        if problem:
            yield invalid(place, key, problem)
        problem = value_problem(value)
        if problem:
            yield invalid(place, value, problem)


def check_annotations(annotations: Mapping[str, str], place: str) -> Errors:
    for key in annotations:
        problem = key_problem(key.lower())
        if problem:
            yield invalid(place, key, problem)
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > 256 * 1024:
        yield FieldError("FieldValueTooLong", place, "Too long: may not be more than 262144 bytes")


def check_pod_spec(spec: Mapping[str, Any], place: str) -> Errors:
    """Every error of a pod's ``spec``, which is at ``place``."""
    volumes = spec.get("volumes") or []
    yield from _check_volumes(volumes, f"{place}.volumes")
    if not spec.get("containers"):
        yield required(f"{place}.containers")
    yield from _check_containers(spec, place, {volume.get("name") for volume in volumes})
    if spec.get("ephemeralContainers"):
        yield field_forbidden(f"{place}.ephemeralContainers", "cannot be set on create")
    yield from check_labels(spec.get("nodeSelector") or {}, f"{place}.nodeSelector")
    for number, toleration in enumerate(spec.get("tolerations") or []):
        yield from _check_toleration(toleration, f"{place}.tolerations[{number}]")
    for name in ("serviceAccountName", "priorityClassName", "runtimeClassName"):
        problem = subdomain_problem(spec[name]) if spec.get(name) else None
        if problem:
            yield invalid(f"{place}.{name}", spec[name], problem)
    for name in ("activeDeadlineSeconds", "terminationGracePeriodSeconds"):
        if (spec.get(name) or 0) < 0:
            yield invalid(f"{place}.{name}", spec[name], _NOT_NEGATIVE)


def _check_containers(spec: Mapping[str, Any], place: str, mountable: set[Any]) -> Errors:
    names: set[str] = set()
    for group in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(group) or []):
            at = f"{place}.{group}[{number}]"
            yield from _check_container(container, at, mountable)
            if container.get("name") in names:
                yield duplicate(f"{at}.name", container["name"])
            names.add(container.get("name", ""))


def _check_container(container: Mapping[str, Any], place: str, volumes: set[Any]) -> Errors:
    name = container.get("name")
    problem = label_problem(name) if name else None
    if not name:
        yield required(f"{place}.name")
    elif problem:
        yield invalid(f"{place}.name", name, problem)
    image = container.get("image") or ""
    if not image:
        yield required(f"{place}.image")
    elif image != image.strip():
        yield invalid(f"{place}.image", image, "must not have leading or trailing whitespace")
    policy = container.get("imagePullPolicy", "Always")
    if policy not in ("Always", "IfNotPresent", "Never"):
        yield unsupported(f"{place}.imagePullPolicy", policy, ["Always", "IfNotPresent", "Never"])
    for number, variable in enumerate(container.get("env") or []):
        yield from _check_variable(variable, f"{place}.env[{number}]")
    yield from _check_mounts(container.get("volumeMounts") or [], f"{place}.volumeMounts", volumes)
    yield from _check_resources(container.get("resources") or {}, f"{place}.resources")


def _check_mounts(mounts: list[Mapping[str, Any]], place: str, volumes: set[Any]) -> Errors:
    paths: set[str] = set()
    for number, mount in enumerate(mounts):
        at = f"{place}[{number}]"
        if mount.get("name") not in volumes:
            yield not_there(f"{at}.name", mount.get("name"))
        if not mount.get("mountPath"):
            yield required(f"{at}.mountPath")
        elif mount["mountPath"] in paths:
            yield invalid(f"{at}.mountPath", mount["mountPath"], "must be unique")
        paths.add(mount.get("mountPath", ""))


def _check_variable(variable: Mapping[str, Any], place: str) -> Errors:
    if not variable.get("name"):
        yield required(f"{place}.name")
    elif "=" in variable["name"]:
        yield invalid(f"{place}.name", variable["name"], "a valid environment variable name must not contain '='")
    if variable.get("value") and variable.get("valueFrom"):
        yield invalid(f"{place}.valueFrom", "", "may not be specified when `value` is not empty")


def _check_resources(resources: Mapping[str, Any], place: str) -> Errors:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for group, quantities in (("limits", limits), ("requests", requests)):
        for name, text in quantities.items():
            yield from _check_quantity(name, text, f"{place}.{group}[{name}]")
    for name, text in requests.items():
        if name not in limits:
            if _is_extended(name):
                yield required(f"{place}.limits", "Limit must be set for non overcommitable resources")
            continue
        limit = quantity(limits[name]) or Decimal(0)
        asked = quantity(text) or Decimal(0)
        if _is_extended(name) and asked != limit:
            yield invalid(f"{place}.requests", str(text), f"must be equal to {name} limit of {limits[name]}")
        elif asked > limit:
            words = f"must be less than or equal to {name} limit of {limits[name]}"
            yield invalid(f"{place}.requests", str(text), words)


def _check_quantity(name: str, text: object, place: str) -> Errors:
    problem = key_problem(name)
    is_standard = name in _STANDARD or name.startswith("hugepages-")
    if problem:
        yield invalid(place, name, problem)
    elif "/" not in name and not is_standard:
        yield invalid(place, name, "must be a standard resource type or fully qualified")
        yield invalid(place, name, "must be a standard resource for containers")
    value = quantity(text) or Decimal(0)
    if value < 0:
        yield invalid(place, str(text), _NOT_NEGATIVE)
    if _is_extended(name) and value != value.to_integral_value():
        yield invalid(place, str(text), "must be an integer")


def _is_extended(name: str) -> bool:
    return "/" in name and not name.startswith("kubernetes.io/")


def _check_toleration(toleration: Mapping[str, Any], place: str) -> Errors:
    key, operator = toleration.get("key") or "", toleration.get("operator") or "Equal"
    effect = toleration.get("effect") or ""
    problem = key_problem(key) if key else None
    if problem:
        yield invalid(f"{place}.key", key, problem)
    if not key and operator != "Exists":
        words = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield invalid(f"{place}.operator", operator, words)
    if operator not in ("Equal", "Exists"):
        yield unsupported(f"{place}.operator", operator, ["Equal", "Exists"])
    if operator == "Exists" and toleration.get("value"):
        yield invalid(f"{place}.operator", dict(toleration), "value must be empty when `operator` is 'Exists'")
    problem = value_problem(toleration.get("value") or "")
    if operator == "Equal" and problem:
        yield invalid(f"{place}.operator", toleration["value"], problem)
    if effect and effect not in _EFFECTS:
        yield unsupported(f"{place}.effect", effect, _EFFECTS)
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        yield invalid(f"{place}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")


def _check_volumes(volumes: list[Mapping[str, Any]], place: str) -> Errors:
    names: set[str] = set()
    for number, volume in enumerate(volumes):
        at = f"{place}[{number}]"
        name = volume.get("name") or ""
        problem = label_problem(name) if name else None
        if not name:
            yield required(f"{at}.name")
        elif problem:
            yield invalid(f"{at}.name", name, problem)
        elif name in names:
            yield duplicate(f"{at}.name", name)
        names.add(name)
        sources = [key for key, value in volume.items() if key != "name" and value is not None]
        if not sources:
            yield required(at, "must specify a volume type")
        for source in sources[1:]:
            yield field_forbidden(f"{at}.{source}", "may not specify more than 1 volume type")
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName", "x")
        if not claim or not re.fullmatch(r"[a-z0-9.-]+", claim):
            yield required(f"{at}.persistentVolumeClaim.claimName")
