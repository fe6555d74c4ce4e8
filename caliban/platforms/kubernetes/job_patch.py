"""``--job_patch``: change job specs by a strategic merge patch, as far as caliban can keep its promises then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from caliban import input_files
from caliban.errors import UsageError
from caliban.platforms.kubernetes.details import object_at, objects_in
from caliban.platforms.kubernetes.job_spec import DEFAULT_CONTAINER, OWN_LABELS, check_label, container_of
from caliban.platforms.kubernetes.patch_file import MalformedPatchError, parse
from caliban.platforms.kubernetes.strategic_merge import PatchError, merge
from caliban.records import JsonObject

OWN_CONTAINER = "*"
"""What a patch may call the job's own container, whose name is that of the job."""

_ORDER = "$setElementOrder/containers"
_FLAGS = {"name": "--name", "generateName": "--name", "namespace": "--namespace"}
_ONE_POD = {"completions": 1, "parallelism": 1, "completionMode": "NonIndexed", "backoffLimit": 0}
_REFUSED = ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy", "selector", "manualSelector")
_RERUN = "remove it; to run failed jobs again, use: caliban resubmit, or --retries"


@dataclass(frozen=True)
class JobPatch:
    """A patch.

    Attributes:
        source: the file, as the user named it.
        content: the patch.
    """

    source: str
    content: JsonObject = field(repr=False)

    @classmethod
    def read(cls, name: str, directory: Path) -> JobPatch:
        """Read a file.

        Args:
            name: of the file.
            directory: where relative names start.

        Raises:
            InputFileError: it cannot be read.
            UsageError: ``malformed-job-patch``.
        """
        try:
            return cls(name, parse(input_files.read_text(directory / name)))
        except MalformedPatchError as error:
            raise _malformed(name, str(error)) from error

    def applied(self, spec: JsonObject) -> dict[str, object]:
        """Return a job spec with the patch.

        Raises:
            UsageError: ``malformed-job-patch``; ``job-patch-refused``: caliban could not keep its promises of the job.
        """
        own = container_of(spec)
        before = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": object_at(spec, "metadata"),
            "spec": {key: value for key, value in spec.items() if key != "metadata"},
        }
        try:
            after = merge(before, _with_name(self.content, str(own["name"])))
            job = _finished(after)
        except PatchError as error:
            raise _malformed(self.source, str(error)) from error
        self._check_job(job)
        self._check_spec(object_at(job, "spec"))
        self._check_container(job, own)
        return _spec_of(job, str(own["name"]))

    def _check_job(self, job: JsonObject) -> None:
        """Check all but the spec."""
        if (job.get("apiVersion"), job.get("kind")) != ("batch/v1", "Job"):
            raise _malformed(self.source, "it is not a patch of a Job of batch/v1")
        for key in job:
            if key not in ("apiVersion", "kind", "metadata", "spec"):
                raise self._refused(key, "a Job is created with metadata and spec only")
        metadata = object_at(job, "metadata")
        for key in metadata:
            if key not in ("labels", "annotations"):
                flag = _FLAGS.get(key)
                hint = f"remove it, and use {flag}" if flag else "remove it"
                raise self._refused(f"metadata.{key}", "a patch may add labels and annotations", hint)
        self._check_metadata(metadata, "metadata")
        self._check_metadata(object_at(job, "spec", "template", "metadata"), "spec.template.metadata")

    def _check_metadata(self, metadata: JsonObject, path: str) -> None:
        labels = object_at(metadata, "labels")
        for name, found in (("labels", labels), ("annotations", object_at(metadata, "annotations"))):
            for key, value in found.items():
                if not isinstance(value, str):
                    raise _malformed(self.source, f"{path}.{name}.{key}: expected a string; put it in quotes")
        for key, value in labels.items():
            if key in OWN_LABELS:
                raise self._refused(f"{path}.labels.{key}", "caliban finds its jobs by this label")
            check_label(key, str(value))

    def _check_spec(self, spec: JsonObject) -> None:
        """Check that the job has one pod, which runs once."""
        for key, value in _ONE_POD.items():
            if spec.get(key, value) != value or isinstance(spec.get(key), bool):
                raise self._refused(
                    f"spec.{key}", f"a job is one pod, which is attempted once ({key}: {value})", _RERUN
                )
        if "backoffLimit" not in spec:
            raise self._refused("spec.backoffLimit", "Kubernetes attempts a job 7 times without it", _RERUN)
        for key in _REFUSED:
            if key in spec:
                raise self._refused(f"spec.{key}", "a job is one pod, which is attempted once")
        for rule in objects_in(object_at(spec, "podFailurePolicy"), "rules"):
            if rule.get("action") == "Ignore" and "onExitCodes" in rule:
                why = "failures that are ignored are attempted again, without a limit"
                raise self._refused("spec.podFailurePolicy", why, _RERUN)
        if object_at(spec, "template", "spec").get("restartPolicy") != "Never":
            raise self._refused("spec.template.spec.restartPolicy", "a job is attempted once (Never)", _RERUN)

    def _check_container(self, job: JsonObject, own: Mapping[str, object]) -> None:
        path = "spec.template.spec.containers"
        pod = object_at(job, "spec", "template", "spec")
        found = [each for each in objects_in(pod, "containers") if each.get("name") == own["name"]]
        if len(found) != 1:
            why = f"it removes the container {own['name']}, which runs your code"
            raise self._refused(
                path, why, f'remove the directive; in a patch, name: "{OWN_CONTAINER}" is that container'
            )
        for key, flag in (("image", "--image_tag"), ("args", "the arguments after --")):
            if found[0].get(key) != own.get(key):
                why = f"caliban sets the {key} of the job's own container, for each attempt"
                raise self._refused(f"{path}[{own['name']}].{key}", why, f"remove it, and use {flag}")
        for key in ("restartPolicy", "restartPolicyRules"):
            if key in found[0]:
                raise self._refused(f"{path}[{own['name']}].{key}", "a job is attempted once", _RERUN)

    def _refused(self, path: str, why: str, hint: str = "remove it") -> UsageError:
        return UsageError("job-patch-refused", f"{self.source}: {path} cannot be patched", cause=why, hint=hint)


def _with_name(patch: JsonObject, name: str) -> JsonObject:
    """Return a patch with the name of the job's own container in place of ``*``."""
    pod = dict(object_at(patch, "spec", "template", "spec"))
    for key in ("containers", _ORDER):
        items = pod.get(key)
        if isinstance(items, list):
            pod[key] = [
                {**each, "name": name} if isinstance(each, Mapping) and each.get("name") == OWN_CONTAINER else each
                for each in items
            ]
    if not pod:
        return patch
    spec = object_at(patch, "spec")
    return {**patch, "spec": {**spec, "template": {**object_at(spec, "template"), "spec": pod}}}


def _finished(job: Mapping[str, object]) -> dict[str, object]:
    """Return a merged job without nulls, which mean nothing to Kubernetes.

    Raises:
        PatchError: a directive is left over, or a part is of another type.
    """
    for path in (("metadata",), ("spec",), ("spec", "template"), ("spec", "template", "spec")):
        value: object = job
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(value, Mapping) and (value is not None or path != ("metadata",)):
            raise PatchError(".".join(path), "expected an object")
    cleaned = _cleaned(job, "")
    assert isinstance(cleaned, dict)
    return cleaned


def _cleaned(value: object, path: str) -> object:
    if isinstance(value, Mapping):
        left = next((key for key in value if key.startswith("$")), None)
        if left is not None:
            raise PatchError(path, f"the directive {left} has nothing to change here")
        return {
            key: _cleaned(each, f"{path}.{key}" if path else key) for key, each in value.items() if each is not None
        }
    return [_cleaned(each, path) for each in value] if isinstance(value, list) else value


def _spec_of(job: JsonObject, own: str) -> dict[str, object]:
    """Return the job spec that is recorded; its own container is the first one, and known by an annotation."""
    spec, metadata = object_at(job, "spec"), object_at(job, "metadata")
    template = object_at(spec, "template")
    pod, of_pod = object_at(template, "spec"), dict(object_at(template, "metadata"))
    containers = sorted(objects_in(pod, "containers"), key=lambda each: each.get("name") != own)
    if len(containers) > 1:
        of_pod["annotations"] = {**object_at(of_pod, "annotations"), DEFAULT_CONTAINER: own}
    changed = {**template, "metadata": of_pod, "spec": {**pod, "containers": containers}}
    return {**({"metadata": metadata} if metadata else {}), **spec, "template": changed}


def _malformed(source: str, problem: str) -> UsageError:
    return UsageError(
        "malformed-job-patch",
        f"cannot apply the job patch {source}",
        cause=problem,
        hint="write a strategic merge patch of a Job, as for: kubectl patch job NAME --patch-file FILE",
    )
