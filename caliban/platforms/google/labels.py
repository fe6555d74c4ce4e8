"""What jobs of Google's training services have in common: names, labels, and what comes of flags; pure.

The names are those that caliban 0.4.2 gives: ``{base}_{index}`` in a job spec, and the time of submission between the
two when it is sent.
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
_BASE_LENGTH = 80  # leaves room for the time, an index and a piece of the token
_STAMP = "%Y%m%d_%H%M%S"


def job_base(name: str) -> str:
    """``name`` as names of jobs allow it: letters, digits and underscores, a letter first.

    Source: https://cloud.google.com/ai-platform/training/docs/managing-models-jobs
    """
    cleaned = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:_BASE_LENGTH].rstrip("_")
    return cleaned if cleaned[:1].isalpha() else f"caliban_{cleaned}".rstrip("_")


def full_name(recorded: str, token: str, now: datetime) -> str:
    """``{base}_{YYYYmmdd_HHMMSS}_{index}``: base and index from the spec's name, where it has one; else the token."""
    match = re.fullmatch(r"(.+?)(?:_\d{8}_\d{6})?_(\d{1,9})", recorded)
    base, index = (match[1], match[2]) if match else (recorded, slugify(token)[:8])
    return f"{job_base(base)}_{now.strftime(_STAMP)}_{index}"


def slugify(token: str) -> str:
    """What of a token may stand in a name."""
    return re.sub(r"[^A-Za-z0-9]", "", token).lower()


def common_prefix(names: Collection[str]) -> str:
    """What all of the names begin with; between the first and the last of them lie the others."""
    first, last = min(names), max(names)
    pairs = zip(first, last, strict=False)
    same = takewhile(lambda pair: pair[0] == pair[1] and (pair[0].isalnum() or pair[0] == "_"), pairs)
    return "".join(letter for letter, _ in same)


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


def new_labels(
    *, base: str, image: ImageRef, has_gpu: bool, arguments: Sequence[str], given: Mapping[str, str]
) -> dict[str, str]:
    """The labels of a new job: those of caliban 0.4.2, then ``given`` ones, then its flags, as long as there is room.

    Args:
        base: see :func:`job_base`.
        image: the image that it runs.
        has_gpu: whether it runs on GPUs.
        arguments: of the image's entry point.
        given: more labels, as a person gave them.
    """
    own = {
        "gpu_enabled": "true" if has_gpu else "false",
        "tpu_enabled": "false",
        "job_name": label_value(base),
        "docker_image": image_label(image),
    }
    return _labelled(own, [*given.items(), *flags(arguments)])


def labels_of(job: JsonObject) -> Mapping[str, str]:
    """The labels of a spec or job; {} where it has none."""
    labels = job.get("labels")
    return {str(key): str(value) for key, value in labels.items()} if isinstance(labels, Mapping) else {}


def labels_for_image(labels: Mapping[str, str], image: ImageRef) -> dict[str, str]:
    """``labels`` of a job that runs another image, which its label names where there is one."""
    return {**labels, "docker_image": image_label(image)} if "docker_image" in labels else dict(labels)


def labels_for_arguments(labels: Mapping[str, str], before: object, arguments: Sequence[str]) -> dict[str, str]:
    """``labels`` of a job that gets other ``arguments``: those that came of the flags ``before`` give way."""
    old = {label_key(name) for name, _ in flags(before if isinstance(before, list) else [])} - _OWN_LABELS
    return _labelled({key: value for key, value in labels.items() if key not in old}, flags(arguments))


def labels_with_token(spec: JsonObject, token: str) -> dict[str, str]:
    """A spec's labels as they are sent, with the submission's token."""
    kept = dict(list(labels_of(spec).items())[: MAX_LABELS - 1])
    return {**kept, TOKEN_LABEL: label_value(token)}


def has_token(job: JsonObject, token: str) -> bool:
    """Whether a job that the service has is the one that was submitted with ``token``."""
    return labels_of(job).get(TOKEN_LABEL) == label_value(token)


def label_key(text: str) -> str:
    """``text`` as a label's key: as a value, and a letter first; "" where nothing is left.

    Source: https://cloud.google.com/ai-platform/training/docs/resource-labels
    """
    return re.sub(r"^[^a-z]+", "", _cleaned(text))[:_LABEL_LENGTH]


def label_value(text: str) -> str:
    """``text`` as a label's value: 63 lower-case letters, digits, dashes, underscores; a dot becomes an underscore."""
    return _cleaned(text)[:_LABEL_LENGTH]


def image_label(image: ImageRef) -> str:
    """The label's value for an image: its name, with its tag but without its digest, for which there is no room."""
    return label_value(image.partition("@")[0])


def object_at(parent: JsonObject, name: str) -> Mapping[str, object]:
    """The JSON object that a recorded job spec has as ``name``.

    Raises:
        PlatformError: ``malformed-job-spec``: it has none.
    """
    value = parent.get(name)
    if not isinstance(value, Mapping):
        raise malformed(f"it has no {name}")
    return value


def text_at(parent: JsonObject, name: str) -> str:
    """The text that a recorded job spec has as ``name``; never "".

    Raises:
        PlatformError: ``malformed-job-spec``: it has none.
    """
    value = parent.get(name)
    if not isinstance(value, str) or not value:
        raise malformed(f"it has no {name}")
    return value


def malformed(problem: str) -> PlatformError:
    """What is said of a recorded job spec that is not one."""
    return PlatformError(
        "malformed-job-spec",
        "the recorded job cannot be run again",
        cause=f"in the recorded job spec: {problem}",
        hint="submit the experiment anew with caliban cloud",
    )


def _cleaned(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "", text.lower().replace(".", "_"))


def _labelled(own: Mapping[str, str], more: Iterable[tuple[str, str]]) -> dict[str, str]:
    """``own`` labels and as many of ``more`` as there is room for beside the token's; the first of a name counts."""
    labels = dict(own)
    for name, value in more:
        key = label_key(name)
        if key and key != TOKEN_LABEL and len(labels) < MAX_LABELS - 1:
            labels.setdefault(key, label_value(value))
    return labels
