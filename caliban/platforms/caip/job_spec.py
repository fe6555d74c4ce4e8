"""Job specs of AI Platform Training. Pure functions.

A job spec has the shape that caliban 0.4.2 records: the body of ml v1 ``projects.jobs.create``, whose ``jobId`` is
``{base}_{index}``; requests have the time of submission between the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caliban.errors import PlatformError
from caliban.platforms.effects import Known, anything
from caliban.platforms.google import labels as google_labels
from caliban.platforms.google.labels import labels_of, malformed, object_at
from caliban.platforms.google.machine_catalog import NO_GPU, Gpu
from caliban.platforms.usage import count_in, usage_of
from caliban.records import ImageRef, JsonObject

KNOWN_SETTINGS: Mapping[str, Known] = {
    "jobId": anything,
    "labels": anything,
    "trainingInput": {
        "masterConfig": {"imageUri": anything, "acceleratorConfig": anything},
        "scaleTier": anything,
        "masterType": anything,
        "region": anything,
        "args": anything,
    },
}
"""What jobs of caliban request, for :func:`unknown_settings`."""


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
    """Return the spec of a new job.

    Args:
        base: the start of its name; see :func:`caliban.platforms.google.labels.job_base`.
        index: which of the jobs submitted together it is, from 1.
        image: the pushed image.
        region: ``us-central1``.
        machine_type: ``n1-standard-8``.
        gpu: the machine's GPUs; None for none.
        arguments: of the image's entrypoint, ``["--foo", "3", "--sleep", "2"]``; its flags become labels.
        labels: chosen by the user.
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
    """Return ``spec`` with another image, also in its label.

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
    """Return ``spec`` with another image and other arguments; labels from the old flags are replaced.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    changed = with_image(spec, image)
    training_input = object_at(changed, "trainingInput")
    labels = google_labels.labels_for_arguments(labels_of(changed), training_input.get("args"), arguments)
    return {**changed, "trainingInput": {**training_input, "args": list(arguments)}, "labels": labels}


def usage(spec: JsonObject) -> dict[str, int]:
    """Return what a job occupies; see :meth:`caliban.platforms.base.Platform.usage`."""
    try:
        config = object_at(object_at(object_at(spec, "trainingInput"), "masterConfig"), "acceleratorConfig")
    except PlatformError:
        return usage_of({})
    kind = config.get("type")
    return usage_of({kind: count_in(config.get("count"))} if isinstance(kind, str) and kind != NO_GPU else {})


def image_of(spec: JsonObject) -> ImageRef:
    """Return the image that a job runs.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    image = object_at(object_at(spec, "trainingInput"), "masterConfig").get("imageUri")
    if not isinstance(image, str) or not image:
        raise malformed("masterConfig has no imageUri")
    return image
