"""Jobs as files that ``kubectl apply -f`` takes."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from caliban.commands.launch import Launch
from caliban.errors import CalibanError, UsageError
from caliban.platforms.base import GROUP_LABEL
from caliban.platforms.kubernetes.job_spec import job_name, label_value, manifest
from caliban.records import ImageRef, JsonObject
from caliban.store.journal import new_token

_YAML = (".yaml", ".yml")
_JSON = ".json"


def check_file(file: Path) -> None:
    """Refuse, before anything is built, a file that could not be written.

    Raises:
        UsageError: ``export-format``, ``export-folder-missing``.
    """
    if file.suffix not in (*_YAML, _JSON):
        raise UsageError(
            "export-format",
            f"in which format {file.name} is to be written is not known",
            hint="let its name end in .yaml, .yml or .json",
        )
    if not file.parent.is_dir():
        raise UsageError("export-folder-missing", f"there is no folder {file.parent}", hint="make it first")


def manifests(
    launch: Launch, image: ImageRef, namespace: str | None, *, token: str | None = None
) -> list[dict[str, object]]:
    """The jobs of a launch, each whole. They carry their group's name, but no token: caliban does not follow them.

    Args:
        launch: what was asked for.
        image: what they run.
        namespace: what their metadata names; None for none, so that kubectl chooses.
        token: what makes their names unique; None for a new one for each.
    """
    jobs = []
    for number, experiment in enumerate(launch.previews(), 1):
        spec = launch.job_spec(number, experiment, image)
        job = manifest(spec, job_name(spec, token or new_token()), {GROUP_LABEL: label_value(launch.xgroup)})
        if namespace:
            job["metadata"] = {**_metadata(job), "namespace": namespace}
        jobs.append(job)
    return jobs


def as_yaml(jobs: Sequence[JsonObject]) -> str:
    """One document a job."""
    import yaml

    class WithoutAliases(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    text: str = yaml.dump_all(jobs, Dumper=WithoutAliases, sort_keys=False, default_flow_style=False)
    return text


def as_json(jobs: Sequence[JsonObject]) -> str:
    """The job, or a List of them."""
    document = jobs[0] if len(jobs) == 1 else {"apiVersion": "v1", "kind": "List", "items": list(jobs)}
    return json.dumps(document, indent=2) + "\n"


def write(file: Path, jobs: Sequence[JsonObject]) -> None:
    """Write a file whole, or leave it as it is.

    Raises:
        CalibanError: ``export-failed``.
    """
    text = as_json(jobs) if file.suffix == _JSON else as_yaml(jobs)
    try:
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as opened:
            part = Path(opened.name)
            try:
                opened.write(text)
                opened.flush()
                part.chmod(0o666 & ~_umask())
                part.replace(file)
            except OSError:
                part.unlink()
                raise
    except OSError as error:
        raise CalibanError("export-failed", f"{file} cannot be written", cause=str(error)) from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _metadata(job: JsonObject) -> dict[str, object]:
    metadata = job["metadata"]
    assert isinstance(metadata, dict)
    return metadata
