"""What a job of AI Platform Training is made of: its spec, names and labels; pure.

A job spec has the shape that caliban 0.4.2 records: the body of ml v1 ``projects.jobs.create``, whose ``jobId`` is
``{base}_{index}``; the time of submission comes between the two when it is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from urllib.parse import quote

from caliban.errors import PlatformError
from caliban.platforms.caip_catalog import NO_GPU, Gpu
from caliban.records import ImageRef, JsonObject

TOKEN_LABEL = "caliban_token"
"""The label that carries the submission's token; label keys have no dots here."""

MAX_LABELS = 64
_OWN_LABELS = frozenset({"gpu_enabled", "tpu_enabled", "job_name", "docker_image"})
_LABEL_LENGTH = 63
_JOB_ID_LENGTH = 128
_BASE_LENGTH = 80  # leaves room for the time, an index and a piece of the token
_STAMP = "%Y%m%d_%H%M%S"


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
        base: what its name begins with; see :func:`job_base`.
        index: which of the jobs submitted together it is, from 1.
        image: the pushed image.
        region: ``us-central1``.
        machine_type: ``n1-standard-8``.
        gpu: the machine's GPUs; None for none.
        arguments: of the image's entry point, ``["--foo", "3", "--sleep", "2"]``; its flags become labels.
        labels: more labels, as a person gave them.
    """
    own = {"gpu_enabled": "true" if gpu else "false", "tpu_enabled": "false", "job_name": label_value(base)}
    given = [*(labels or {}).items(), *flags(arguments)]
    return {
        "jobId": f"{base}_{index}",
        "labels": _labelled({**own, "docker_image": label_value(image)}, given),
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
    master = _object(_training_input(spec), "masterConfig")
    image_of(spec)
    changed = dict(spec)
    changed["trainingInput"] = {**_training_input(spec), "masterConfig": {**master, "imageUri": image}}
    if "docker_image" in labels_of(spec):
        changed["labels"] = {**labels_of(spec), "docker_image": label_value(image)}
    return changed


def with_arguments(spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> dict[str, object]:
    """``spec`` with another image and other arguments; labels that came of the old flags give way to the new.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    changed = with_image(spec, image)
    training_input = _training_input(changed)
    before = training_input.get("args")
    old_flags = {label_key(name) for name, _ in flags(before if isinstance(before, list) else [])} - _OWN_LABELS
    kept = {key: value for key, value in labels_of(changed).items() if key not in old_flags}
    changed["trainingInput"] = {**training_input, "args": list(arguments)}
    changed["labels"] = _labelled(kept, flags(arguments))
    return changed


def request_body(spec: JsonObject, job_id: str, token: str) -> dict[str, object]:
    """What is sent to ``projects.jobs.create``: the spec under its full name, with the submission's token."""
    kept = dict(list(labels_of(spec).items())[: MAX_LABELS - 1])
    return {**spec, "jobId": job_id, "labels": {**kept, TOKEN_LABEL: label_value(token)}}


def carries(job: JsonObject, token: str) -> bool:
    """Whether a job that the service has is the one that was submitted with ``token``."""
    return labels_of(job).get(TOKEN_LABEL) == label_value(token)


def image_of(spec: JsonObject) -> ImageRef:
    """The image that a job runs.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    image = _object(_training_input(spec), "masterConfig").get("imageUri")
    if not isinstance(image, str) or not image:
        raise _malformed("masterConfig names no imageUri")
    return image


def labels_of(job: JsonObject) -> Mapping[str, str]:
    """The labels of a spec or job; {} where it has none."""
    labels = job.get("labels")
    return {str(key): str(value) for key, value in labels.items()} if isinstance(labels, Mapping) else {}


def job_base(name: str) -> str:
    """``name`` as job ids allow it: letters, digits and underscores, a letter first.

    Source: https://cloud.google.com/ai-platform/training/docs/managing-models-jobs
    """
    cleaned = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:_BASE_LENGTH].rstrip("_")
    return cleaned if cleaned[:1].isalpha() else f"caliban_{cleaned}".rstrip("_")


def job_id(spec: JsonObject, token: str, now: datetime) -> str:
    """``{base}_{YYYYmmdd_HHMMSS}_{index}``: base and index from the spec's ``jobId``, where it has one; else the token.

    Raises:
        PlatformError: ``malformed-job-spec``: it has no ``jobId``.
    """
    recorded = spec.get("jobId")
    if not isinstance(recorded, str) or not recorded:
        raise _malformed("it has no jobId")
    match = re.fullmatch(r"(.+?)(?:_\d{8}_\d{6})?_(\d{1,9})", recorded)
    base, index = (match[1], match[2]) if match else (recorded, _letters(token)[:8])
    return f"{job_base(base)}_{now.strftime(_STAMP)}_{index}"


def candidates(name: str, token: str) -> tuple[str, ...]:
    """The names to try for a submission, in order; always the same ones, so that its job can be found again."""
    letters = _letters(token)
    return tuple(f"{name}{end}"[:_JOB_ID_LENGTH] for end in ("", f"_{letters[:6]}", f"_{letters[:20]}"))


def flags(arguments: Sequence[object]) -> Iterator[tuple[str, str]]:
    """The flags among arguments, with their values; ``true`` for a bare one."""
    words = [str(argument) for argument in arguments]
    for word, following in pairwise([*words, "-"]):
        match = re.fullmatch(r"--?([A-Za-z][^=]*)(?:=(.*))?", word, re.DOTALL)
        if match is None:
            continue
        if match[2] is not None:
            yield match[1], match[2]
        else:
            yield match[1], "true" if re.match(r"-(?!\d|\.\d)", following) else following


def label_key(text: str) -> str:
    """``text`` as a label's key: as a value, and a letter first; "" where nothing is left.

    Source: https://cloud.google.com/ai-platform/training/docs/resource-labels
    """
    return re.sub(r"^[^a-z]+", "", _cleaned(text))[:_LABEL_LENGTH]


def label_value(text: str) -> str:
    """``text`` as a label's value: 63 lower-case letters, digits, dashes, underscores; a dot becomes an underscore."""
    return _cleaned(text)[:_LABEL_LENGTH]


def console_url(project: str, job_id: str) -> str:
    """Where the Google Cloud console shows a job."""
    return f"https://console.cloud.google.com/mlengine/jobs/{quote(job_id, safe='')}?project={quote(project, safe='')}"


def stream_logs_command(project: str, job_id: str) -> str:
    """The command that shows a job's log as it is written."""
    return f"gcloud ai-platform jobs stream-logs {job_id} --project {project}"


def _cleaned(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "", text.lower().replace(".", "_"))


def _labelled(own: Mapping[str, str], more: Sequence[tuple[str, str]] | Iterator[tuple[str, str]]) -> dict[str, str]:
    """``own`` labels and as many of ``more`` as there is room for beside the token's; the first of a name counts."""
    labels = dict(own)
    for name, value in more:
        key = label_key(name)
        if key and key != TOKEN_LABEL and len(labels) < MAX_LABELS - 1:
            labels.setdefault(key, label_value(value))
    return labels


def _letters(token: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", token).lower()


def _training_input(spec: JsonObject) -> Mapping[str, object]:
    return _object(spec, "trainingInput")


def _object(parent: JsonObject, name: str) -> Mapping[str, object]:
    value = parent.get(name)
    if not isinstance(value, Mapping):
        raise _malformed(f"it has no {name}")
    return value


def _malformed(problem: str) -> PlatformError:
    return PlatformError(
        "malformed-job-spec",
        "the recorded job cannot be run again",
        cause=f"in the recorded job spec: {problem}",
        hint="submit the experiment anew with caliban cloud",
    )
