"""Names and labels of jobs of Google's training services, and labels from flags. Pure functions.

Names are those of caliban 0.4.2: ``{base}_{index}`` in a job spec, with the time of submission between the two in a
request.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise, takewhile

from caliban.errors import PlatformError
from caliban.records import ImageRef, JsonObject

TOKEN_LABEL = "caliban_token"
"""The label that carries the submission's token; label keys have no dots here."""

MAX_LABELS = 64
_OWN_LABELS = frozenset({"gpu_enabled", "tpu_enabled", "job_name", "docker_image"})
_LABEL_LENGTH = 63
_NAME_LENGTH = 128
_BASE_LENGTH = 80  # leaves room for the time, an index and a part of the token
_STAMP = "%Y%m%d_%H%M%S"


def job_base(name: str) -> str:
    """Return ``name`` as job names may be: letters, digits and underscores, the first a letter.

    Source: https://cloud.google.com/ai-platform/training/docs/managing-models-jobs
    """
    cleaned = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:_BASE_LENGTH].rstrip("_")
    return cleaned if cleaned[:1].isalpha() else f"caliban_{cleaned}".rstrip("_")


def full_name(recorded: str, token: str, now: datetime) -> str:
    """Return ``{base}_{YYYYmmdd_HHMMSS}_{index}``.

    Args:
        recorded: the name in the job spec: ``caliban_totoro_1``, or a full name of an earlier attempt; if it has no
            index, a part of the token takes its place.
        token: the submission's.
        now: local time.
    """
    match = re.fullmatch(r"(.+?)(?:_\d{8}_\d{6})?_(\d{1,9})", recorded)
    base, index = (match[1], match[2]) if match else (recorded, slugify(token)[:8])
    return f"{job_base(base)}_{now.strftime(_STAMP)}_{index}"


def slugify(token: str) -> str:
    """Return a token without what names do not allow."""
    return re.sub(r"[^A-Za-z0-9]", "", token).lower()


def candidate_names(name: str, token: str) -> tuple[str, ...]:
    """Return the names to try for a submission, in order; always the same, so that its job can be found again."""
    letters = slugify(token)
    return tuple(f"{name}{end}"[:_NAME_LENGTH] for end in ("", f"_{letters[:6]}", f"_{letters[:20]}"))


def common_prefix(names: Collection[str]) -> str:
    """Return what all of the names start with."""
    first, last = min(names), max(names)  # all others sort between them
    pairs = zip(first, last, strict=False)
    same = takewhile(lambda pair: pair[0] == pair[1] and (pair[0].isalnum() or pair[0] == "_"), pairs)
    return "".join(letter for letter, _ in same)


def flags(arguments: Sequence[object]) -> Iterator[tuple[str, str]]:
    """Yield the flags among arguments with their values; ``true`` for a bare flag."""
    words = [str(argument) for argument in arguments]
    for word, following in pairwise([*words, "-"]):
        match = re.fullmatch(r"--?([A-Za-z][^=]*)(?:=(.*))?", word, re.DOTALL)
        if match is None:
            continue
        if match[2] is not None:
            yield match[1], match[2]
        else:
            yield match[1], "true" if re.match(r"-(?!\d|\.\d)", following) else following


def new_labels(
    *, base: str, image: ImageRef, has_gpu: bool, arguments: Sequence[str], given: Mapping[str, str]
) -> dict[str, str]:
    """Return the labels of a new job: those of caliban 0.4.2, then ``given``, then its flags, up to the maximum number.

    Args:
        base: see :func:`job_base`.
        image: the image that it runs.
        has_gpu: whether it runs on GPUs.
        arguments: of the image's entrypoint.
        given: labels chosen by the user.
    """
    own = {
        "gpu_enabled": "true" if has_gpu else "false",
        "tpu_enabled": "false",
        "job_name": label_value(base),
        "docker_image": image_label(image),
    }
    return _with_labels(own, [*given.items(), *flags(arguments)])


def labels_of(job: JsonObject) -> Mapping[str, str]:
    """Return the labels of a spec or job; {} where it has none."""
    labels = job.get("labels")
    return {str(key): str(value) for key, value in labels.items()} if isinstance(labels, Mapping) else {}


def labels_for_image(labels: Mapping[str, str], image: ImageRef) -> dict[str, str]:
    """Return ``labels`` for another image; its own label changes, if there is one."""
    return {**labels, "docker_image": image_label(image)} if "docker_image" in labels else dict(labels)


def labels_for_arguments(labels: Mapping[str, str], before: object, arguments: Sequence[str]) -> dict[str, str]:
    """Return ``labels`` for other ``arguments``: labels made from the flags in ``before`` are replaced."""
    old = {label_key(name) for name, _ in flags(before if isinstance(before, list) else [])} - _OWN_LABELS
    return _with_labels({key: value for key, value in labels.items() if key not in old}, flags(arguments))


def labels_with_token(spec: JsonObject, token: str) -> dict[str, str]:
    """Return a spec's labels with the submission's token, as they are sent."""
    kept = dict(list(labels_of(spec).items())[: MAX_LABELS - 1])
    return {**kept, TOKEN_LABEL: label_value(token)}


def request_body(spec: JsonObject, name_key: str, name: str, token: str) -> dict[str, object]:
    """Return what is sent to create a job: the spec under its full name, with the submission's token.

    Args:
        spec: of the job.
        name_key: the spec's key for its name.
        name: see :func:`full_name`.
        token: the submission's.
    """
    return {**spec, name_key: name, "labels": labels_with_token(spec, token)}


def has_token(job: JsonObject, token: str) -> bool:
    """Return whether a job at the service was submitted with ``token``."""
    return labels_of(job).get(TOKEN_LABEL) == label_value(token)


def label_key(text: str) -> str:
    """Return ``text`` as a label's key: like a value, but the first a letter; "" where nothing is left.

    Source: https://cloud.google.com/ai-platform/training/docs/resource-labels
    """
    return re.sub(r"^[^a-z]+", "", _clean(text))[:_LABEL_LENGTH]


def label_value(text: str) -> str:
    """Return ``text`` as a label's value: at most 63 lower-case letters, digits, dashes and underscores."""
    return _clean(text)[:_LABEL_LENGTH]


def image_label(image: ImageRef) -> str:
    """Return the label's value for an image: its name and tag, without its digest, which is too long."""
    return label_value(image.partition("@")[0])


def object_at(parent: JsonObject, name: str) -> Mapping[str, object]:
    """Return the JSON object ``name`` of a recorded job spec.

    Raises:
        PlatformError: ``malformed-job-spec``: it has none.
    """
    value = parent.get(name)
    if not isinstance(value, Mapping):
        raise malformed(f"{name} is missing")
    return value


def text_at(parent: JsonObject, name: str) -> str:
    """Return the text ``name`` of a recorded job spec; never "".

    Raises:
        PlatformError: ``malformed-job-spec``: it has none.
    """
    value = parent.get(name)
    if not isinstance(value, str) or not value:
        raise malformed(f"{name} is missing")
    return value


def malformed(problem: str) -> PlatformError:
    """Return the error for a recorded job spec that cannot be used."""
    return PlatformError(
        "malformed-job-spec",
        "cannot run the recorded job again",
        cause=f"in the recorded job spec: {problem}",
        hint="submit the experiment again",
    )


def _clean(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "", text.lower().replace(".", "_"))


def _with_labels(own: Mapping[str, str], more: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return ``own`` and ``more`` labels, leaving room for the token's; the first of a name wins."""
    labels = dict(own)
    for name, value in more:
        key = label_key(name)
        if key and key != TOKEN_LABEL and len(labels) < MAX_LABELS - 1:
            labels.setdefault(key, label_value(value))
    return labels
