"""What a job of AI Platform Training is made of: its spec and its name; pure.

A job spec has the shape that caliban 0.4.2 records: the body of ml v1 ``projects.jobs.create``, whose ``jobId`` is
``{base}_{index}``; the time of submission comes between the two when it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import quote

from caliban.platforms.google import labels as google_labels
from caliban.platforms.google.labels import labels_of, malformed, object_at, text_at
from caliban.platforms.google.machine_catalog import NO_GPU, Gpu
from caliban.records import ImageRef, JsonObject

_JOB_ID_LENGTH = 128


def training_job(
    *,
    base: str,
    index: int,
    image: ImageRef,
    region: str,
    machine_type: str,
    gpu: Gpu | None,
    arguments: Sequence[str],
    labels: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """The spec of a new job.

    Args:
        base: what its name begins with; see :func:`caliban.platforms.google.labels.job_base`.
        index: which of the jobs submitted together it is, from 1.
        image: the pushed image.
        region: ``us-central1``.
        machine_type: ``n1-standard-8``.
        gpu: the machine's GPUs; None for none.
        arguments: of the image's entry point, ``["--foo", "3", "--sleep", "2"]``; its flags become labels.
        labels: more labels, as a person gave them.
    """
    return {
        "jobId": f"{base}_{index}",
        "labels": google_labels.new_labels(
            base=base, image=image, has_gpu=gpu is not None, arguments=arguments, given=labels or {}
        ),
        "trainingInput": {
            "masterConfig": {
                "imageUri": image,
                "acceleratorConfig": {"count": gpu.count if gpu else 0, "type": gpu.type if gpu else NO_GPU},
            },
            "scaleTier": "CUSTOM",
            "masterType": machine_type,
            "region": region,
            "args": list(arguments),
        },
    }


def with_image(spec: JsonObject, image: ImageRef) -> dict[str, object]:
    """``spec`` with another image, in its label too.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    training_input = object_at(spec, "trainingInput")
    master = object_at(training_input, "masterConfig")
    image_of(spec)
    changed = {**spec, "trainingInput": {**training_input, "masterConfig": {**master, "imageUri": image}}}
    if "labels" in spec:
        changed["labels"] = google_labels.labels_for_image(labels_of(spec), image)
    return changed


def with_arguments(spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> dict[str, object]:
    """``spec`` with another image and other arguments; labels that came of the old flags give way to the new.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    changed = with_image(spec, image)
    training_input = object_at(changed, "trainingInput")
    labels = google_labels.labels_for_arguments(labels_of(changed), training_input.get("args"), arguments)
    return {**changed, "trainingInput": {**training_input, "args": list(arguments)}, "labels": labels}


def request_body(spec: JsonObject, job_id: str, token: str) -> dict[str, object]:
    """What is sent to ``projects.jobs.create``: the spec under its full name, with the submission's token."""
    return {**spec, "jobId": job_id, "labels": google_labels.labels_with_token(spec, token)}


def image_of(spec: JsonObject) -> ImageRef:
    """The image that a job runs.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    image = object_at(object_at(spec, "trainingInput"), "masterConfig").get("imageUri")
    if not isinstance(image, str) or not image:
        raise malformed("masterConfig names no imageUri")
    return image


def job_id(spec: JsonObject, token: str, now: datetime) -> str:
    """``{base}_{YYYYmmdd_HHMMSS}_{index}``; see :func:`caliban.platforms.google.labels.full_name`.

    Raises:
        PlatformError: ``malformed-job-spec``: it has no ``jobId``.
    """
    return google_labels.full_name(text_at(spec, "jobId"), token, now)


def candidate_names(name: str, token: str) -> tuple[str, ...]:
    """The names to try for a submission, in order; always the same ones, so that its job can be found again."""
    letters = google_labels.slugify(token)
    return tuple(f"{name}{end}"[:_JOB_ID_LENGTH] for end in ("", f"_{letters[:6]}", f"_{letters[:20]}"))


def console_url(project: str, job_id: str) -> str:
    """Where the Google Cloud console shows a job."""
    return f"https://console.cloud.google.com/mlengine/jobs/{quote(job_id, safe='')}?project={quote(project, safe='')}"


def stream_logs_command(project: str, job_id: str) -> str:
    """The command that shows a job's log as it is written."""
    return f"gcloud ai-platform jobs stream-logs {job_id} --project {project}"
