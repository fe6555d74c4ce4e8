"""What the API refuses in a Job although the schema lets it through, and what it adds to one that it accepts.

Sources: ``pkg/apis/batch/validation/validation.go``, ``pkg/registry/batch/job/strategy.go``,
``pkg/apis/batch/v1/defaults.go`` and ``pkg/apis/core/v1/defaults.go`` of kubernetes/kubernetes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.standins.kubernetes.names import subdomain_problem
from tests.standins.kubernetes.pod_rules import Errors, check_annotations, check_labels, check_pod_spec
from tests.standins.kubernetes.status import invalid, required, unsupported

CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
JOB_NAME = "batch.kubernetes.io/job-name"
_OLD_CONTROLLER_UID, _OLD_JOB_NAME = "controller-uid", "job-name"
_ACTIONS = ["Count", "FailIndex", "FailJob", "Ignore"]


def add_defaults(job: dict[str, Any], version: tuple[int, int]) -> None:
    """What a Job gets that says nothing about it; changed in place."""
    spec = job["spec"]
    is_counted = "completions" in spec or "parallelism" in spec
    if not is_counted:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("manualSelector", False)
    if version >= (1, 29):
        spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    pod = spec["template"].setdefault("spec", {})
    given = {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
    for name, value in {**given, "terminationGracePeriodSeconds": 30, "securityContext": {}}.items():
        pod.setdefault(name, value)
    for container in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]:
        _add_container_defaults(container)


def _add_container_defaults(container: dict[str, Any]) -> None:
    last = container.get("image", "").rpartition("/")[2]
    tag = "" if "@" in last else last.partition(":")[2] or "latest"
    container.setdefault("imagePullPolicy", "Always" if tag == "latest" else "IfNotPresent")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    resources = container.setdefault("resources", {})
    if resources.get("limits"):
        resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}


def add_selector(job: dict[str, Any]) -> None:
    """The labels by which a Job knows its pods, unless it brings a selector of its own; changed in place."""
    if job["spec"].get("manualSelector"):
        return
    uid, name = job["metadata"]["uid"], job["metadata"]["name"]
    template = job["spec"]["template"].setdefault("metadata", {})
    template["labels"] = {**_expected(uid, name), **(template.get("labels") or {})}
    selector = job["spec"].setdefault("selector", {})
    selector["matchLabels"] = {CONTROLLER_UID: uid, **(selector.get("matchLabels") or {})}


def _expected(uid: str, name: str) -> dict[str, str]:
    return {_OLD_CONTROLLER_UID: uid, CONTROLLER_UID: uid, _OLD_JOB_NAME: name, JOB_NAME: name}


def check_metadata(metadata: Mapping[str, Any]) -> Errors:
    """Every error of an object's ``metadata``."""
    problem = subdomain_problem(metadata.get("name") or "")
    if not metadata.get("name"):
        yield required("metadata.name", "name or generateName is required")
    elif problem:
        yield invalid("metadata.name", metadata["name"], problem)
    yield from check_labels(metadata.get("labels") or {}, "metadata.labels")
    yield from check_annotations(metadata.get("annotations") or {}, "metadata.annotations")
    for number, finalizer in enumerate(metadata.get("finalizers") or []):
        if "/" not in finalizer and finalizer not in ("orphan", "foregroundDeletion"):
            words = "name is neither a standard finalizer name nor is it fully qualified"
            yield invalid(f"metadata.finalizers[{number}]", finalizer, words)


def check_job(job: Mapping[str, Any]) -> Errors:
    """Every error of a Job that has its defaults and its selector."""
    spec, template = job["spec"], job["spec"]["template"]
    yield from check_metadata(job["metadata"])
    yield from _check_selector(job)
    names = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
    for name in names:
        if (spec.get(name) or 0) < 0:
            yield invalid(f"spec.{name}", spec[name], "must be greater than or equal to 0")
    if spec["completionMode"] not in ("NonIndexed", "Indexed"):
        yield unsupported("spec.completionMode", spec["completionMode"], ["NonIndexed", "Indexed"])
    if spec["completionMode"] == "Indexed" and spec.get("completions") is None:
        yield required("spec.completions", "when completion mode is Indexed")
    labels = (template.get("metadata") or {}).get("labels") or {}
    yield from check_labels(labels, "spec.template.labels")
    yield from check_annotations((template.get("metadata") or {}).get("annotations") or {}, "spec.template.annotations")
    yield from _check_restart_policy(spec)
    yield from _check_failure_policy(spec)
    yield from check_pod_spec(template["spec"], "spec.template.spec")


def _check_selector(job: Mapping[str, Any]) -> Errors:
    spec, template = job["spec"], job["spec"]["template"]
    labels = (template.get("metadata") or {}).get("labels") or {}
    wanted = (spec.get("selector") or {}).get("matchLabels") or {}
    if not spec.get("selector"):
        yield required("spec.selector")
    if not wanted.items() <= labels.items():
        yield invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    if spec.get("manualSelector"):
        return
    expected = _expected(job["metadata"]["uid"], job["metadata"]["name"])
    for key, value in expected.items():
        if labels.get(key) != value:
            yield invalid(f"spec.template.metadata.labels[{key}]", labels, f"must be '{value}'")
    if not wanted.items() <= expected.items():
        yield invalid("spec.selector", spec["selector"], "`selector` not auto-generated")


def _check_restart_policy(spec: Mapping[str, Any]) -> Errors:
    place, policy = "spec.template.spec.restartPolicy", spec["template"]["spec"]["restartPolicy"]
    if policy == "Always":
        yield required(place, 'valid values: "OnFailure", "Never"')
    elif policy not in ("OnFailure", "Never"):
        yield unsupported(place, policy, ["OnFailure", "Never"])
    elif policy == "OnFailure" and "podFailurePolicy" in spec:
        yield invalid(place, policy, 'only "Never" is supported when podFailurePolicy is specified')


def _check_failure_policy(spec: Mapping[str, Any]) -> Errors:
    policy = spec.get("podFailurePolicy") or {}
    containers = {container.get("name") for container in spec["template"]["spec"].get("containers") or []}
    for number, rule in enumerate(policy.get("rules") or []):
        place = f"spec.podFailurePolicy.rules[{number}]"
        if rule["action"] not in _ACTIONS:
            yield unsupported(f"{place}.action", rule["action"], _ACTIONS)
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions") or []
        if (codes is None) == (not conditions):
            words = "specifying one of OnExitCodes and OnPodConditions is required"
            yield invalid(place, "", words)
        if codes and codes["operator"] not in ("In", "NotIn"):
            yield unsupported(f"{place}.onExitCodes.operator", codes["operator"], ["In", "NotIn"])
        if codes and codes["operator"] == "In" and 0 in codes["values"]:
            yield invalid(f"{place}.onExitCodes.values[0]", 0, "must not be 0 for the In operator")
        if codes and codes.get("containerName") and codes["containerName"] not in containers:
            words = "must be one of the container or initContainer names in the pod template"
            yield invalid(f"{place}.onExitCodes.containerName", codes["containerName"], words)
        for index, condition in enumerate(conditions):
            if condition.get("status", "True") not in ("True", "False", "Unknown"):
                at = f"{place}.onPodConditions[{index}].status"
                yield unsupported(at, condition["status"], ["False", "True", "Unknown"])
