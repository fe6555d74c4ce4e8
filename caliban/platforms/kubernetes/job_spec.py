"""Job specs, manifests, names and labels. No I/O.

A job spec has the shape that caliban 0.4.2 records: a JobSpec of batch/v1. The name of its container is the base of the
job's name. Name and labels are added when it is submitted.
Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Sized

from caliban.attempts import Submission
from caliban.errors import PlatformError, UsageError
from caliban.platforms.base import EXPERIMENT_LABEL, GROUP_LABEL, TOKEN_LABEL
from caliban.platforms.effects import Known, anything, only
from caliban.platforms.kubernetes.details import object_at
from caliban.platforms.kubernetes.label_syntax import is_label_key, is_label_value
from caliban.platforms.kubernetes.pod_options import PodOptions, literal
from caliban.platforms.kubernetes.resources import Hardware, accelerator_of
from caliban.platforms.kubernetes.security import CONTAINER_CONTEXT, Security
from caliban.platforms.usage import count_in, usage_of
from caliban.records import ImageRef, JsonObject

OWN_LABELS = (TOKEN_LABEL, GROUP_LABEL, EXPERIMENT_LABEL)
"""Labels of every job that caliban submits."""

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
"""The annotation of a pod of several containers that names the job's own, for kubectl too.

Source: https://kubernetes.io/docs/reference/labels-annotations-taints/#kubectl-kubernetes-io-default-container
"""

_NAME_LENGTH = 63  # a job's name is a label of its pods
_BASE_LENGTH = 40
_LABEL_LENGTH = 63
_TOKEN_PREFIX = 10
_ENV = ({"name": "PYTHONUNBUFFERED", "value": "1"},)
_SHARED_MEMORY = "shared-memory"  # containers have 64 MiB by default, too little for the data loaders of PyTorch


def _is_shared_memory(value: object) -> bool:
    return isinstance(value, Mapping) and value.get("name") == _SHARED_MEMORY and set(value) <= {"name", "mountPath"}


KNOWN_SETTINGS: Mapping[str, Known] = {
    "metadata": {"labels": anything},
    "backoffLimit": anything,
    "podFailurePolicy": anything,
    "suspend": anything,
    "template": {
        "metadata": {"labels": anything},
        "spec": {
            "containers": [
                {
                    "name": anything,
                    "image": anything,
                    "imagePullPolicy": anything,
                    "args": anything,
                    "env": [only({"name": "PYTHONUNBUFFERED", "value": "1"})],
                    "resources": anything,
                    "securityContext": only(CONTAINER_CONTEXT),
                    "volumeMounts": [_is_shared_memory],
                }
            ],
            "hostIPC": only(True),  # of every job of caliban 0.4.2
            "nodeSelector": anything,
            "restartPolicy": anything,
            "securityContext": only(Security().pod_context),
            "tolerations": anything,
            "volumes": [only({"name": _SHARED_MEMORY, "emptyDir": {"medium": "Memory"}})],
        },
    },
}
"""What jobs of caliban request, for :func:`unknown_settings`."""


def new_job_spec(
    *,
    base: str,
    image: ImageRef,
    arguments: Sequence[str],
    hardware: Hardware,
    labels: Mapping[str, str] | None = None,
    options: PodOptions | None = None,
    security: Security | None = None,
) -> dict[str, object]:
    """Return the spec of a new job. Its pod is replaced after a disruption, as by a preempted node, and only then.

    Args:
        base: the beginning of its name; see :func:`job_base`.
        image: the pushed image.
        arguments: of the image's entrypoint.
        hardware: the resources that it requests.
        labels: the user's labels; see :func:`check_label`.
        options: what else the user wants of its pod.
        security: what its processes may not do; None for no restriction.
    """
    options = options or PodOptions()
    env = [each for each in _ENV if each["name"] not in options.env]
    container = {
        "name": base,
        "image": image,
        "args": [literal(each) for each in arguments],
        "env": [*env, *options.container_env],
        **_given("resources", _given("requests", hardware.requests) | _given("limits", hardware.limits)),
        **({"securityContext": CONTAINER_CONTEXT} if security else {}),
        "volumeMounts": [{"name": _SHARED_MEMORY, "mountPath": "/dev/shm"}, *options.volume_mounts],
    }
    return {
        **({"metadata": {"labels": options.job_labels}, "suspend": True} if options.queue else {}),
        "backoffLimit": 0,
        # https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy
        "podFailurePolicy": {
            "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        },
        "template": {
            "metadata": _given("labels", dict(labels or {})),
            "spec": {
                "containers": [container],
                **_given("nodeSelector", {**hardware.node_selector, **options.node_selector}),
                "restartPolicy": "Never",
                **({"securityContext": security.pod_context} if security else {}),
                **options.pod,
                **_given("tolerations", [*hardware.tolerations, *options.tolerations]),
                "volumes": [{"name": _SHARED_MEMORY, "emptyDir": {"medium": "Memory"}}, *options.volumes],
            },
        },
    }


def with_image(spec: JsonObject, image: ImageRef) -> dict[str, object]:
    """Return ``spec`` with another image.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    return _with_container(spec, {**_container(spec), "image": image})


def with_arguments(spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> dict[str, object]:
    """Return ``spec`` with another image and other arguments.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    return _with_container(spec, {**_container(spec), "image": image, "args": [literal(each) for each in arguments]})


def with_resources(spec: JsonObject, requests: JsonObject, limits: JsonObject) -> dict[str, object]:
    """Return ``spec`` with other requests and limits of its container; {} for none.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    container = dict(_container(spec))
    before = object_at(container, "resources")
    kept = {key: value for key, value in before.items() if key not in ("requests", "limits")}
    resources = {**_given("requests", requests), **_given("limits", limits), **kept}
    container.pop("resources", None)
    return _with_container(spec, {**container, **_given("resources", resources)})


def with_nodes(spec: JsonObject, selector: JsonObject, tolerations: Sequence[object]) -> dict[str, object]:
    """Return ``spec`` with another ``nodeSelector`` and other ``tolerations`` of its pod; empty ones for none.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    template = _object(spec, "template")
    pod = {key: value for key, value in _object(template, "spec").items() if key not in ("nodeSelector", "tolerations")}
    pod |= _given("nodeSelector", selector) | _given("tolerations", tolerations)
    return {**spec, "template": {**template, "spec": pod}}


def container_of(spec: JsonObject) -> Mapping[str, object]:
    """Return the job's own container, which has an image.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    return _container(spec)


def manifest(spec: JsonObject, name: str, labels: Mapping[str, str]) -> dict[str, object]:
    """Return the whole job: ``spec`` with a name, and with more labels, which its pods get too.

    A job spec is a JobSpec of batch/v1; its key ``metadata``, which that does not have, is that of the Job.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    template = _object(spec, "template")
    metadata = template.get("metadata")
    metadata = dict(metadata) if isinstance(metadata, Mapping) else {}
    all_labels = {**_labels(metadata), **labels}
    of_job = object_at(spec, "metadata")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**of_job, "name": name, "labels": {**_labels(of_job), **all_labels}},
        "spec": {
            **{key: value for key, value in spec.items() if key != "metadata"},
            "template": {**template, "metadata": {**metadata, "labels": all_labels}},
        },
    }


def submission_labels(submission: Submission) -> dict[str, str]:
    """Return the labels of a submission: token, group and experiment."""
    return {
        TOKEN_LABEL: submission.token,
        GROUP_LABEL: label_value(submission.group),
        EXPERIMENT_LABEL: str(submission.experiment_id),
    }


def has_token(job: JsonObject, name: str, token: str) -> bool:
    """Return whether a job of the cluster was submitted with ``token``.

    A policy may rename or remove labels. A job without any token is the submission's if it has one of its names, which
    are random (:func:`candidate_names`).

    Args:
        job: as the cluster returned it.
        name: of the submission.
        token: of the submission.
    """
    template = object_at(job, "spec", "template", "metadata", "labels")
    found = [labels[TOKEN_LABEL] for labels in (_labels(object_at(job, "metadata")), template) if TOKEN_LABEL in labels]
    if found:
        return token in found
    return name.endswith(f"-{token[:_TOKEN_PREFIX]}") and name_of(job) in candidate_names(name, token)


def own_container(job: JsonObject, recorded: str | None = None) -> str | None:
    """Return the name of the container that a job was submitted with; None if it cannot be told from others.

    Args:
        job: as the cluster returned it; policies and service meshes add containers before and after it.
        recorded: its name, if that is known; otherwise it is the one that the job's name begins with.
    """
    names = [name for each in _containers(object_at(job, "spec")) if isinstance(name := each.get("name"), str) and name]
    if recorded is not None and recorded in names:
        return recorded
    job_name = name_of(job)
    beginnings = [name for name in names if job_name.startswith(f"{job_base(name)}-")]
    if beginnings:
        return max(beginnings, key=len)
    return names[0] if len(names) == 1 else None


def image_in(job: JsonObject, container: str | None) -> ImageRef:
    """Return the image of a container of a job of the cluster; of the first one if there is none of that name."""
    containers = _containers(object_at(job, "spec"))
    found = [each for each in containers if each.get("name") == container] or containers
    return next((str(each["image"]) for each in found if each.get("image")), "")


def container_name(spec: JsonObject) -> str | None:
    """Return the name of the job's own container in a job spec; None where it has none."""
    own = own_of(spec)
    name = own.get("name") if own is not None else None
    return name if isinstance(name, str) and name else None


def label_of(job: JsonObject, key: str) -> str | None:
    """Return a label of a job or pod; None where it has none of that key."""
    return _labels(object_at(job, "metadata")).get(key)


def name_of(job: JsonObject) -> str:
    """Return the name of a job; "" where it has none."""
    name = object_at(job, "metadata").get("name")
    return name if isinstance(name, str) else ""


def image_of(spec: JsonObject) -> ImageRef:
    """Return the image of a job.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    return str(_container(spec)["image"])


def job_base(name: str) -> str:
    """Convert ``name`` to a valid name of jobs and containers: lowercase letters, digits and dashes (RFC 1123)."""
    cleaned = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_BASE_LENGTH].rstrip("-")
    return cleaned or "caliban"


def job_name(spec: JsonObject, token: str) -> str:
    """Return ``{base}-{beginning of the token}``; the base is the container's name.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    return f"{job_base(str(_container(spec).get('name') or ''))}-{token[:_TOKEN_PREFIX]}"


def candidate_names(name: str, token: str) -> tuple[str, ...]:
    """Return the names to try for a submission, in order; always the same ones, so that its job can be looked up."""
    end = f"-{token[_TOKEN_PREFIX:]}"
    return name, f"{name[: _NAME_LENGTH - len(end)].rstrip('-')}{end}"


def check_label(key: str, value: str) -> None:
    """Check the syntax of a user's label.

    Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set

    Raises:
        UsageError: ``malformed-label``.
    """
    if not is_label_key(key) or not is_label_value(value) or key in OWN_LABELS:
        raise UsageError(
            "malformed-label",
            f'invalid label "{key}={value}"',
            hint="use at most 63 letters, digits, dashes, underscores and dots, with a letter or digit first and last; "
            f"{TOKEN_LABEL}, {GROUP_LABEL} and {EXPERIMENT_LABEL} are reserved",
        )


def label_value(text: str) -> str:
    """Convert ``text`` to a valid label value: a character that is not allowed becomes a dash."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text)[:_LABEL_LENGTH].strip("-_.")


def _given(name: str, value: Sized) -> dict[str, object]:
    """Return ``{name: value}``, or {} for an empty value."""
    return {name: value} if value else {}


def _with_container(spec: JsonObject, container: Mapping[str, object]) -> dict[str, object]:
    template = _object(spec, "template")
    pod = _object(template, "spec")
    before, own = pod.get("containers"), own_of(spec)
    containers = [container if each is own else each for each in before] if isinstance(before, list) else []
    return {**spec, "template": {**template, "spec": {**pod, "containers": containers}}}


def _container(spec: JsonObject) -> Mapping[str, object]:
    """Return the job's own container, which has an image."""
    _object(_object(spec, "template"), "spec")
    own = own_of(spec)
    if own is None:
        raise _malformed("expected exactly one container")
    if not isinstance(own.get("image"), str) or not own["image"]:
        raise _malformed("the container has no image")
    return own


def own_of(spec: JsonObject) -> Mapping[str, object] | None:
    """Return the job's own container: the only one, or the one of several that the annotation names."""
    found = object_at(spec, "template", "spec").get("containers")
    containers = found if isinstance(found, list) else []
    if len(containers) != 1:
        name = object_at(spec, "template", "metadata", "annotations").get(DEFAULT_CONTAINER)
        containers = [each for each in containers if isinstance(each, Mapping) and name and each.get("name") == name]
    return containers[0] if len(containers) == 1 and isinstance(containers[0], Mapping) else None


def usage(spec: JsonObject) -> dict[str, int]:
    """Return what the pod of a job occupies; see :meth:`caliban.platforms.base.Platform.usage`."""
    selector = object_at(spec, "template", "spec", "nodeSelector")
    accelerators: dict[str, int] = {}
    for container in _containers(spec):
        for resource, count in object_at(container, "resources", "limits").items():
            if name := accelerator_of(resource, selector):
                accelerators[name] = accelerators.get(name, 0) + count_in(count)
    return usage_of(accelerators)


def _containers(spec: JsonObject) -> list[Mapping[str, object]]:
    found = object_at(spec, "template", "spec").get("containers")
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _labels(metadata: Mapping[str, object]) -> dict[str, str]:
    labels = metadata.get("labels")
    return {str(key): str(value) for key, value in labels.items()} if isinstance(labels, Mapping) else {}


def _object(parent: JsonObject, name: str) -> Mapping[str, object]:
    value = parent.get(name)
    if not isinstance(value, Mapping):
        raise _malformed(f"{name} is missing")
    return value


def _malformed(problem: str) -> PlatformError:
    return PlatformError(
        "malformed-job-spec",
        "cannot re-run the job: its recorded spec is malformed",
        cause=problem,
        hint="submit the experiment again",
    )
