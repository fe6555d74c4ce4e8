"""What is done about a Job that is sent, or that is to go: the order of the checks is that of the API server.

Sources, all of kubernetes/kubernetes: ``staging/src/k8s.io/apiserver/pkg/endpoints/handlers/create.go``,
``.../registry/rest/create.go`` and ``delete.go``; ``pkg/registry/batch/job/strategy.go`` (what a deletion without a
policy leaves behind).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from tests.standins.kubernetes.job_rules import add_defaults, add_selector, check_job, check_metadata
from tests.standins.kubernetes.names import generated_name
from tests.standins.kubernetes.schema import decode, decode_delete_options
from tests.standins.kubernetes.state import Object, State, now
from tests.standins.kubernetes.status import (
    JOBS,
    PODS,
    StatusError,
    already_exists,
    bad_request,
    conflict,
    invalid,
    not_valid,
    success,
    unsupported,
)

_META = "meta.k8s.io"
_POLICIES = ["Background", "Foreground", "Orphan"]
_FINALIZERS = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}


def prepared_job(
    body: object,
    namespace: str,
    *,
    version: str,
    manager: str,
    admit: Callable[[str], None],
    mutate: Callable[[Object], None] = lambda job: None,
) -> Object:
    """The Job as it would be kept: decoded, admitted to its namespace by ``admit``, named, completed, checked.

    ``mutate`` changes it in place before it is checked, as admission policies do.

    Raises:
        StatusError: 400, 403, 404 or 422, or 500 for one that says which version of itself it is.
    """
    job = decode(JOBS, body, version)
    del job["kind"], job["apiVersion"]
    metadata = job.setdefault("metadata", {})
    if metadata.get("namespace", namespace) != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    admit(metadata.get("name") or "")
    if metadata.get("resourceVersion"):
        raise StatusError(500, "resourceVersion should not be set on objects to be created", reason="")
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = generated_name(metadata["generateName"])
    errors = [] if metadata.get("name") else list(check_metadata(metadata))
    if errors:
        raise not_valid(("batch", "Job"), "", errors)
    stamp = now()
    system = {"namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": stamp, "generation": 1}
    written = {"manager": manager, "operation": "Update", "apiVersion": "batch/v1", "time": stamp}
    metadata.update(system, managedFields=[{**written, "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}])
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
        metadata.pop(name, None)
    job["status"] = {}
    major, minor = version.split(".")[:2]
    add_defaults(job, (int(major), int(minor)))
    mutate(job)
    add_defaults(job, (int(major), int(minor)))
    add_selector(job)
    errors = list(check_job(job))
    if errors:
        raise not_valid(("batch", "Job"), metadata["name"], errors)
    return job


def check_options(kind: str, query: Mapping[str, str]) -> bool:
    """Refuse options of a request that mean nothing; whether it is a dry run.

    Raises:
        StatusError: 422.
    """
    errors = []
    if query.get("dryRun", "All") not in ("All", ""):
        errors.append(unsupported("dryRun", query["dryRun"], ["All"]))
    if query.get("fieldValidation", "Strict") not in ("", "Ignore", "Warn", "Strict"):
        errors.append(unsupported("fieldValidation", query["fieldValidation"], ["", "Ignore", "Strict", "Warn"]))
    if len(query.get("fieldManager", "")) > 128:
        errors.append(invalid("fieldManager", query["fieldManager"], "must be no more than 128 characters"))
    if errors:
        raise not_valid((_META, kind), "", errors)
    return query.get("dryRun") == "All"


def keep(state: State, job: Object, *, is_dry_run: bool) -> Object:
    """Keep a prepared Job, unless there is one of its name.

    Raises:
        StatusError: 409.
    """
    metadata = job["metadata"]
    with state.lock:
        if state.has(JOBS, metadata["namespace"], metadata["name"]):
            raise already_exists(JOBS, metadata["name"])
        return job if is_dry_run else state.add(JOBS, job)


def delete_job(
    state: State, namespace: str, name: str, body: object, *, query: Mapping[str, str], version: str
) -> dict[str, Any]:
    """Let a Job go; its pods with it, but for the policy ``Orphan``, which is what no policy at all means for Jobs.

    A Status where the Job is gone at once (``Background``), else the Job as it is on its way out.

    Raises:
        StatusError: 400, 404, 409 or 422.
    """
    options = decode_delete_options(body, version) if body is not None else {}
    is_dry_run = check_options("DeleteOptions", {**query, **({"dryRun": "All"} if options.get("dryRun") else {})})
    policy = options.get("propagationPolicy") or query.get("propagationPolicy") or "Orphan"
    if policy not in _POLICIES:
        raise not_valid((_META, "DeleteOptions"), "", [unsupported("propagationPolicy", policy, _POLICIES)])
    with state.lock:
        job = state.get(JOBS, namespace, name)
        _check_preconditions(job, options.get("preconditions") or {})
        if not is_dry_run:
            pods = state.pods_of(job) if policy != "Orphan" else []
            state.remove(JOBS, namespace, name)
            for pod in pods:
                state.remove(PODS, namespace, pod["metadata"]["name"])
    if policy == "Background":
        return success(JOBS, name, job["metadata"]["uid"])
    going = {"deletionTimestamp": now(), "deletionGracePeriodSeconds": 0, "finalizers": [_FINALIZERS[policy]]}
    job["metadata"].update(going)
    return {"kind": "Job", "apiVersion": "batch/v1", **job}


def _check_preconditions(job: Object, preconditions: Mapping[str, Any]) -> None:
    metadata, name = job["metadata"], job["metadata"]["name"]
    wanted, found = preconditions.get("uid"), metadata["uid"]
    if wanted is not None and wanted != found:
        words = f"the UID in the precondition ({wanted}) does not match the UID in record ({found}). "
        raise conflict(JOBS, name, words + "The object might have been deleted and then recreated")
    wanted, found = preconditions.get("resourceVersion"), metadata["resourceVersion"]
    if wanted is not None and wanted != found:
        words = f"the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record "
        raise conflict(JOBS, name, f"{words}({found}). The object might have been modified")
