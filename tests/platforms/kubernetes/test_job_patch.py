"""``--job_patch``: what may be patched, what is refused, and how files are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import UsageError
from caliban.platforms.kubernetes import job_spec
from caliban.platforms.kubernetes.job_patch import JobPatch
from caliban.platforms.kubernetes.patch_file import MalformedPatchError, parse
from caliban.platforms.kubernetes.resource_changes import changed_spec, settings
from caliban.platforms.kubernetes.resources import Hardware
from caliban.platforms.resources import ResourceRequest
from tests.platforms.kubernetes.helpers import IMAGE, NAME, NEW_IMAGE, OUR_LABELS, assert_valid

SPEC = job_spec.new_job_spec(
    base="caliban-totoro", image=IMAGE, arguments=["--foo", "3"], hardware=Hardware(), labels={"team": "vision"}
)


def patched(patch: dict[str, Any], spec: dict[str, Any] | None = None) -> Any:
    return JobPatch("job.yaml", patch).applied(spec or SPEC)


def pod(**fields: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": fields}}}


def own(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "*", **fields}])


def manifest(spec: Any) -> Any:
    made = job_spec.manifest(spec, NAME, OUR_LABELS)
    assert_valid(made)
    return made


def test_the_own_container_is_called_a_star() -> None:
    spec = patched(own(env=[{"name": "X", "value": "1"}], resources={"limits": {"cpu": "1"}}))
    (container,) = manifest(spec)["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "X", "value": "1"}, {"name": "PYTHONUNBUFFERED", "value": "1"}]
    assert container["resources"] == {"limits": {"cpu": "1"}}
    assert container["name"] == "caliban-totoro"


def test_annotations_and_labels_of_the_job_are_its_own() -> None:
    metadata = {"annotations": {"a": "b"}, "labels": {"cost": "x"}}
    made = manifest(patched({"metadata": metadata}))
    assert made["metadata"] == {
        "name": NAME,
        "annotations": {"a": "b"},
        "labels": {"cost": "x", "team": "vision", **OUR_LABELS},
    }
    assert made["spec"]["template"]["metadata"] == {"labels": {"team": "vision", **OUR_LABELS}}
    assert "metadata" not in made["spec"]


def test_a_job_of_several_containers_keeps_its_own_one_on_a_rerun() -> None:
    sidecar = {"name": "aa-proxy", "image": "proxy:1"}
    spec = patched(pod(containers=[sidecar], **{"$setElementOrder/containers": [sidecar, {"name": "*"}]}))
    again = job_spec.with_arguments(spec, NEW_IMAGE, ["--foo", "4"])
    made = manifest(again)["spec"]["template"]
    names = [(each["name"], each["image"]) for each in made["spec"]["containers"]]
    assert names == [("caliban-totoro", NEW_IMAGE), ("aa-proxy", "proxy:1")]
    assert made["metadata"]["annotations"] == {"kubectl.kubernetes.io/default-container": "caliban-totoro"}
    assert job_spec.job_name(again, "0123456789abcdef") == "caliban-totoro-0123456789"
    assert job_spec.container_name(again) == "caliban-totoro"


def test_the_resources_of_a_job_of_several_containers_are_those_of_its_own_one() -> None:
    spec = patched(pod(containers=[{"name": "proxy", "image": "proxy:1", "resources": {"requests": {"cpu": "7"}}}]))
    request = ResourceRequest(Path("/nowhere"), min_cpu=500)
    changed: Any = changed_spec(spec, request, is_gke=False)
    own, proxy = manifest(changed)["spec"]["template"]["spec"]["containers"]
    assert (own["resources"], proxy["resources"]) == ({"requests": {"cpu": "500m"}}, {"requests": {"cpu": "7"}})
    assert settings(changed)["cpu"] == "500m"


def test_several_containers_of_which_none_is_known_as_the_own_one_are_malformed() -> None:
    spec = patched(pod(containers=[{"name": "proxy", "image": "proxy:1"}]))
    del spec["template"]["metadata"]["annotations"]
    with pytest.raises(Exception, match="malformed"):
        job_spec.container_of(spec)


def test_patches_are_applied_in_order() -> None:
    spec = patched(pod(nodeSelector={"a": None}), patched(pod(nodeSelector={"a": "1", "b": "2"})))
    assert manifest(spec)["spec"]["template"]["spec"]["nodeSelector"] == {"b": "2"}


def test_nulls_are_not_recorded() -> None:
    spec = patched(pod(volumes=[{"name": "x", "emptyDir": {}, "secret": None}]))
    assert spec["template"]["spec"]["volumes"][0] == {"name": "x", "emptyDir": {}}


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"ttlSecondsAfterFinished": 3600, "activeDeadlineSeconds": 60, "suspend": True}},
        {"spec": {"backoffLimit": 0, "completions": 1, "parallelism": 1, "completionMode": "NonIndexed"}},
        {"apiVersion": "batch/v1", "kind": "Job", "spec": {"podFailurePolicy": None}},
        pod(hostAliases=[{"ip": "10.0.0.1", "hostnames": ["db"]}], runtimeClassName="gvisor"),
        own(command=["nsys", "profile", "python", "train.py"]),
        pod(initContainers=[{"name": "mesh", "image": "x", "restartPolicy": "Always"}]),
        {},
    ],
)
def test_other_settings_may_be_patched(patch: dict[str, Any]) -> None:
    manifest(patched(patch))


POLICY = {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [1]}}]}


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"metadata": {"name": "x"}}, "metadata.name"),
        ({"metadata": {"generateName": "x-"}}, "metadata.generateName"),
        ({"metadata": {"namespace": "x"}}, "metadata.namespace"),
        ({"metadata": {"finalizers": ["x/y"]}}, "metadata.finalizers"),
        ({"metadata": {"labels": {"caliban.token": "x"}}}, "metadata.labels.caliban.token"),
        (
            {"spec": {"template": {"metadata": {"labels": {"caliban.group": "x"}}}}},
            "spec.template.metadata.labels.caliban.group",
        ),
        ({"status": {}}, "status"),
        ({"spec": {"backoffLimit": 3}}, "spec.backoffLimit"),
        ({"spec": {"backoffLimit": None}}, "spec.backoffLimit"),
        ({"spec": {"backoffLimit": False}}, "spec.backoffLimit"),
        ({"spec": {"completions": 2}}, "spec.completions"),
        ({"spec": {"parallelism": 0}}, "spec.parallelism"),
        ({"spec": {"completionMode": "Indexed"}}, "spec.completionMode"),
        ({"spec": {"backoffLimitPerIndex": 1}}, "spec.backoffLimitPerIndex"),
        ({"spec": {"manualSelector": True}}, "spec.manualSelector"),
        ({"spec": {"selector": {"matchLabels": {"a": "b"}}}}, "spec.selector"),
        ({"spec": {"podFailurePolicy": POLICY}}, "spec.podFailurePolicy"),
        (pod(restartPolicy="OnFailure"), "spec.template.spec.restartPolicy"),
        (pod(restartPolicy=None), "spec.template.spec.restartPolicy"),
        (own(image="x"), "spec.template.spec.containers[caliban-totoro].image"),
        (own(args=["x"]), "spec.template.spec.containers[caliban-totoro].args"),
        (own(args=None), "spec.template.spec.containers[caliban-totoro].args"),
        (own(restartPolicy="Always"), "spec.template.spec.containers[caliban-totoro].restartPolicy"),
        (own(**{"$patch": "delete"}), "spec.template.spec.containers"),
        (pod(containers=[{"name": "x", "image": "x"}, {"$patch": "replace"}]), "spec.template.spec.containers"),
        (pod(containers=None), "spec.template.spec.containers"),
    ],
)
def test_what_breaks_a_promise_cannot_be_patched(patch: dict[str, Any], path: str) -> None:
    with pytest.raises(UsageError) as caught:
        patched(patch)
    assert (caught.value.id, caught.value.message) == ("job-patch-refused", f"job.yaml: {path} cannot be patched")
    assert caught.value.cause
    assert caught.value.hint


@pytest.mark.parametrize(
    ("patch", "problem"),
    [
        ({"kind": "Pod"}, "it is not a patch of a Job of batch/v1"),
        ({"$patch": "delete"}, "spec: expected an object"),
        ({"spec": "x"}, "spec: expected an object"),
        ({"spec": {"template": []}}, "spec.template: expected an object"),
        (pod(containers=[{"image": "x"}]), 'spec.template.spec.containers: an item has no "name"'),
        ({"metadata": {"labels": {"a": True}}}, "metadata.labels.a: expected a string; put it in quotes"),
        ({"metadata": {"annotations": {"a": 1}}}, "metadata.annotations.a: expected a string; put it in quotes"),
        (
            pod(initContainers=[{"name": "x", "$setElementOrder/env": []}]),
            "spec.template.spec.initContainers: the directive $setElementOrder/env has nothing to change here",
        ),
    ],
)
def test_a_malformed_patch_is_refused(patch: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        patched(patch)
    assert (caught.value.id, caught.value.cause) == ("malformed-job-patch", problem)


def test_labels_of_a_patch_are_checked_as_those_of_the_flag() -> None:
    with pytest.raises(UsageError) as caught:
        patched({"metadata": {"labels": {"a b": "x"}}})
    assert caught.value.id == "malformed-label"


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ('{"spec": {"suspend": true}}', {"spec": {"suspend": True}}),
        ("spec:\n  suspend: true\n", {"spec": {"suspend": True}}),
        ("# a comment\n---\nspec: {a: 1.5, b: null, c: ~}\n...\n", {"spec": {"a": 1.5, "b": None, "c": None}}),
        ("{spec: {a: b}}", {"spec": {"a": "b"}}),
        (
            "a: 2026-11-27\nb: 12:30\nc: 2026-11-27T10:00:00Z\n",
            {"a": "2026-11-27", "b": "12:30", "c": "2026-11-27T10:00:00Z"},
        ),
        ("2: x\ntrue: y\n", {"2": "x", "true": "y"}),
        ("x: &a {b: 1}\ny: {<<: *a, b: 2, c: 3}\n", {"x": {"b": 1}, "y": {"b": 2, "c": 3}}),
    ],
)
def test_yaml_and_json_are_read_as_kubectl_reads_them(text: str, content: dict[str, Any]) -> None:
    assert parse(text) == content


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, after in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("- a\n", "the file is not an object"),
        ("a: 1\n---\nb: 1\n", "the file has several documents"),
        ("a: [1\n", "invalid YAML, line 2"),
        ("a: 1\na: 2\n", 'duplicate key "a"'),
        ('{"a": 1, "a": 2}', 'duplicate key "a"'),
        ("a: .nan\n", "JSON has no float"),
        ("a: !!binary aGk=\n", "JSON has no bytes"),
        ("a: !!python/object:os.system {}\n", "invalid YAML"),
        ("? [a]\n: 1\n", "unhashable key"),
        ("? 2026.5\n: 1\n", "a key is no string"),
        (BOMB, "too many values"),
        ("a: &a [*a]\n", "nested too deeply"),
        ("a: " + "[" * 700 + "]" * 700, "nested too deeply"),
        ('{"a":' * 200 + "1" + "}" * 200, "nested too deeply"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "nested too deeply"),
        ("a: " + "[" * 200 + "]" * 200, "nested too deeply"),
    ],
)
def test_what_is_no_patch_is_refused(text: str, problem: str) -> None:
    with pytest.raises(MalformedPatchError, match=problem):
        parse(text)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        JobPatch.read("gone.yaml", tmp_path)
    assert caught.value.id == "file-not-found"


def test_a_relative_file_is_one_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps({"spec": {"suspend": True}}))
    assert JobPatch.read("job.json", tmp_path) == JobPatch("job.json", {"spec": {"suspend": True}})
