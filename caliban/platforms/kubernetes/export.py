"""Write jobs to a file for ``kubectl apply -f``."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from caliban.errors import CalibanError, UsageError
from caliban.platforms.base import GROUP_LABEL
from caliban.platforms.kubernetes.job_spec import job_name, label_value, manifest
from caliban.records import JsonObject

_YAML = (".yaml", ".yml")
_JSON = ".json"


def check_file(file: Path) -> None:
    """Check that a file can be written, before anything is built.

    Raises:
        UsageError: ``export-format``, ``export-folder-missing``.
    """
    if file.suffix not in (*_YAML, _JSON):
        raise UsageError(
            "export-format", f"unknown format of the export file {file.name}", hint="use .yaml, .yml or .json"
        )
    if not file.parent.is_dir():
        raise UsageError("export-folder-missing", f"directory not found: {file.parent}", hint="create it first")


def exported_job(spec: JsonObject, group: str, namespace: str | None, token: str | None = None) -> JsonObject:
    """Return the manifest of a job that caliban does not follow: with the group's label, but without a token.

    Args:
        spec: the job spec.
        group: the name of the experiment group.
        namespace: of the job; None to leave it to kubectl.
        token: makes its name unique; None for a new one.
    """
    job = manifest(spec, job_name(spec, token or secrets.token_hex(8)), {GROUP_LABEL: label_value(group)})
    metadata = job["metadata"]
    assert isinstance(metadata, Mapping)
    return {**job, "metadata": {**metadata, "namespace": namespace}} if namespace else job


def as_yaml(jobs: Sequence[JsonObject]) -> str:
    """Return one YAML document per job."""
    import yaml

    class WithoutAliases(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    text: str = yaml.dump_all(jobs, Dumper=WithoutAliases, sort_keys=False, default_flow_style=False)
    return text


def write(file: Path, jobs: Sequence[JsonObject]) -> None:
    """Write a file completely, or leave it unchanged.

    Raises:
        CalibanError: ``export-failed``.
    """
    text = _as_json(jobs) if file.suffix == _JSON else as_yaml(jobs)
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
        raise CalibanError("export-failed", f"cannot write {file}", cause=str(error)) from error


def _as_json(jobs: Sequence[JsonObject]) -> str:
    document = jobs[0] if len(jobs) == 1 else {"apiVersion": "v1", "kind": "List", "items": list(jobs)}
    return json.dumps(document, indent=2) + "\n"


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
