"""What a custom job of Vertex AI is made of: its spec and its names; pure.

A job spec is the body of aiplatform v1 ``projects.locations.customJobs.create``, whose ``displayName`` is
``{base}_{index}``; the time of submission comes between the two when it is sent. The region is no part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from caliban.platforms.google import labels as google_labels
from caliban.platforms.google.labels import labels_of, malformed, object_at, text_at
from caliban.platforms.google.machine_catalog import Gpu
from caliban.platforms.vertex.machines import boot_disk_type
from caliban.records import ImageRef, JsonObject

DEFAULT_DISK_GB = 100
_SPOT = {"strategy": "SPOT"}


@dataclass(frozen=True)
class Machines:
    """What a job runs on.

    Attributes:
        machine_type: ``n1-standard-8``.
        gpu: the GPUs of each machine; None for none.
        count: how many machines; all run the same.
        disk_gb: the size of each one's boot disk, in GB.
    """

    machine_type: str
    gpu: Gpu | None = None
    count: int = 1
    disk_gb: int = DEFAULT_DISK_GB


@dataclass(frozen=True)
class SchedulingOptions:
    """On what terms a job runs; what is not given is Vertex AI's choice.

    Attributes:
        service_account: the e-mail address of the account that its code acts as.
        network: the whole name of the network that it is peered with, ``projects/12345/global/networks/my-vpc``.
        is_spot: on machines that cost less and may be taken away.
        timeout_s: the longest that it may run, in seconds.
    """

    service_account: str | None = None
    network: str | None = None
    is_spot: bool = False
    timeout_s: int | None = None


def custom_job(
    *,
    base: str,
    index: int,
    image: ImageRef,
    machines: Machines,
    arguments: Sequence[str],
    labels: Mapping[str, str] | None = None,
    terms: SchedulingOptions | None = None,
) -> dict[str, object]:
    """The spec of a new job.

    Args:
        base: what its name begins with; see :func:`caliban.platforms.google.labels.job_base`.
        index: which of the jobs submitted together it is, from 1.
        image: the pushed image.
        machines: what it runs on.
        arguments: of the image's entry point, ``["--foo", "3", "--sleep", "2"]``; its flags become labels.
        labels: more labels, as a person gave them.
        terms: on what terms; None for Vertex AI's own.
    """
    return {
        "displayName": f"{base}_{index}",
        "labels": google_labels.new_labels(
            base=base, image=image, has_gpu=machines.gpu is not None, arguments=arguments, given=labels or {}
        ),
        "jobSpec": {"workerPoolSpecs": _pools(machines, image, arguments), **_terms(terms or SchedulingOptions())},
    }


def with_image(spec: JsonObject, image: ImageRef) -> dict[str, object]:
    """``spec`` with another image in each of its worker pools that has that of the first, and in its label.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    return _changed(spec, google_labels.labels_for_image(labels_of(spec), image), {"imageUri": image})


def with_arguments(spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> dict[str, object]:
    """``spec`` with another image and other arguments; labels that came of the old flags give way to the new.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    before = _first_container(spec).get("args")
    labels = google_labels.labels_for_arguments(
        google_labels.labels_for_image(labels_of(spec), image), before, arguments
    )
    return _changed(spec, labels, {"imageUri": image, "args": list(arguments)})


def request_body(spec: JsonObject, name: str, token: str) -> dict[str, object]:
    """What is sent to ``customJobs.create``: the spec under its full name, with the submission's token."""
    return {**spec, "displayName": name, "labels": google_labels.labels_with_token(spec, token)}


def image_of(spec: JsonObject) -> ImageRef:
    """The image that a job runs: that of its first worker pool.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    return text_at(_first_container(spec), "imageUri")


def display_name(spec: JsonObject, token: str, now: datetime) -> str:
    """``{base}_{YYYYmmdd_HHMMSS}_{index}``; see :func:`caliban.platforms.google.labels.full_name`.

    Raises:
        PlatformError: ``malformed-job-spec``: it has no ``displayName``.
    """
    return google_labels.full_name(text_at(spec, "displayName"), token, now)


def resource_id(name: str) -> str:
    """``projects/123/locations/us-central1/customJobs/456`` -> ``456``."""
    return name.rpartition("/")[2]


def with_token(token: str) -> str:
    """The filter that takes the job of a submission only."""
    return f"labels.{google_labels.TOKEN_LABEL}={google_labels.label_value(token)}"


def with_names(names: Sequence[str]) -> str:
    """A filter that takes the jobs of these display names, and few others."""
    start = google_labels.common_prefix(names)
    return f'display_name:"{start}*"' if start else f"labels.{google_labels.TOKEN_LABEL}:*"


def console_url(project: str, region: str, name: str) -> str:
    """Where the Google Cloud console shows a job.

    Source: https://github.com/googleapis/python-aiplatform/blob/main/google/cloud/aiplatform/jobs.py (_dashboard_uri)
    """
    place = f"locations/{quote(region, safe='')}/training/{quote(resource_id(name), safe='')}"
    return f"https://console.cloud.google.com/ai/platform/{place}?project={quote(project, safe='')}"


def stream_logs_command(project: str, region: str, name: str) -> str:
    """The command that shows a job's log as it is written.

    Source: https://cloud.google.com/sdk/gcloud/reference/ai/custom-jobs/stream-logs
    """
    return f"gcloud ai custom-jobs stream-logs {resource_id(name)} --region {region} --project {project}"


def _pools(machines: Machines, image: ImageRef, arguments: Sequence[str]) -> list[dict[str, object]]:
    """The first pool has the one machine that leads, the second all others.

    Source: https://cloud.google.com/vertex-ai/docs/training/distributed-training#configure_a_distributed_training_job
    """
    gpu = machines.gpu
    accelerators = {"acceleratorType": gpu.type, "acceleratorCount": gpu.count} if gpu else {}
    pool = {
        "machineSpec": {"machineType": machines.machine_type, **accelerators},
        "diskSpec": {"bootDiskType": boot_disk_type(machines.machine_type), "bootDiskSizeGb": machines.disk_gb},
        "containerSpec": {"imageUri": image, "args": list(arguments)},
    }
    counts = [1, machines.count - 1] if machines.count > 1 else [1]
    return [{**pool, "replicaCount": str(count)} for count in counts]


def _terms(terms: SchedulingOptions) -> dict[str, object]:
    timeout = {} if terms.timeout_s is None else {"timeout": f"{terms.timeout_s}s"}
    scheduling = {**(_SPOT if terms.is_spot else {}), **timeout}
    asked = {"scheduling": scheduling, "serviceAccount": terms.service_account, "network": terms.network}
    return {key: value for key, value in asked.items() if value}


def _changed(spec: JsonObject, labels: Mapping[str, str], container: JsonObject) -> dict[str, object]:
    """``spec`` with other labels, and with ``container`` in the container of each of its pools.

    A pool keeps an image of its own, and one that is left out (``{}``) stays so.
    """
    image = image_of(spec)
    pools = [_changed_pool(pool, image, container) if pool else {} for pool in _worker_pools(spec)]
    changed = {**spec, "jobSpec": {**object_at(spec, "jobSpec"), "workerPoolSpecs": pools}}
    return {**changed, "labels": dict(labels)} if labels or "labels" in spec else changed


def _changed_pool(pool: JsonObject, image: ImageRef, container: JsonObject) -> dict[str, object]:
    before = object_at(pool, "containerSpec")
    own = text_at(before, "imageUri")
    kept = {} if own == image else {"imageUri": own}
    return {**pool, "containerSpec": {**before, **container, **kept}}


def _first_container(spec: JsonObject) -> Mapping[str, object]:
    return object_at(_worker_pools(spec)[0], "containerSpec")


def _worker_pools(spec: JsonObject) -> Sequence[JsonObject]:
    pools = object_at(spec, "jobSpec").get("workerPoolSpecs")
    if not isinstance(pools, list) or not pools or not all(isinstance(pool, Mapping) for pool in pools):
        raise malformed("it has no workerPoolSpecs")
    return pools
