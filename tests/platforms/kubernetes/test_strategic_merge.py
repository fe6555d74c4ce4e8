"""Strategic merge patches of Jobs. The results are those of ``kubectl patch --local --type strategic`` 1.36.3."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from caliban.platforms.kubernetes.strategic_merge import PatchError, merge


def pod(**fields: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": fields}}}


def containers(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return pod(containers=list(items), **more)


A, B, C = ({"name": name, "image": "x"} for name in "abc")
ORDER = "$setElementOrder/containers"

CASES = {
    "a field is set": ({"spec": {"a": 1}}, {"spec": {"b": 2}}, {"spec": {"a": 1, "b": 2}}),
    "null deletes a field": ({"spec": {"a": 1, "b": 2}}, {"spec": {"a": None, "c": None}}, {"spec": {"b": 2}}),
    "true is not 1": (
        containers({"name": "a", "ports": [{"containerPort": 1}]}),
        containers({"name": "a", "ports": [{"containerPort": True}]}),
        containers({"name": "a", "ports": [{"containerPort": 1}, {"containerPort": True}]}),
    ),
    "nulls in what is new are left out": ({}, {"spec": {"a": {"b": None, "c": 1}}}, {"spec": {"a": {"c": 1}}}),
    "another type replaces": ({"spec": {"a": {"b": 1}}}, {"spec": {"a": [1]}}, {"spec": {"a": [1]}}),
    "an object is replaced": (
        pod(nodeSelector={"b": "1"}),
        pod(nodeSelector={"$patch": "replace", "c": "2"}),
        pod(nodeSelector={"c": "2"}),
    ),
    "an object is emptied": (
        pod(nodeSelector={"b": "1"}),
        pod(nodeSelector={"$patch": "delete"}),
        pod(nodeSelector={}),
    ),
    "deleting what does not exist adds nothing": ({"spec": {}}, {"spec": {"a": {"$patch": "delete"}}}, {"spec": {}}),
    "most lists are replaced": (
        pod(tolerations=[{"key": "a"}]),
        pod(tolerations=[{"key": "b"}]),
        pod(tolerations=[{"key": "b"}]),
    ),
    "containers are merged by name, and new ones come last": (
        containers(A, B),
        containers({"name": "b", "tty": True}, C),
        containers(A, {**B, "tty": True}, C),
    ),
    "items that the patch names come in its order": (
        containers(A, B, C),
        containers({"name": "c"}, {"name": "a"}),
        containers(B, C, A),
    ),
    "an item is deleted": (containers(A, B), containers({"name": "a", "$patch": "delete"}), containers(B)),
    "deleting an item that does not exist changes nothing": (
        containers(A),
        containers({"name": "b", "$patch": "delete"}),
        containers(A),
    ),
    "a deleted item is added again": (
        containers({**A, "tty": True}, B),
        containers({"name": "a", "$patch": "delete"}, {"name": "a", "image": "y"}),
        containers({"name": "a", "image": "y"}, B),
    ),
    "a merged list is replaced": (containers(A, B), containers(C, {"$patch": "replace"}), containers(C)),
    "a merged list is emptied": (containers(A), containers({"$patch": "replace"}), containers()),
    "variables are merged by name": (
        containers({"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}),
        containers({"name": "a", "env": [{"name": "Y", "value": None, "valueFrom": {"fieldRef": {}}}]}),
        containers({"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "valueFrom": {"fieldRef": {}}}]}),
    ),
    "mounts are merged by path": (
        containers({"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/x"}]}),
        containers({"name": "a", "volumeMounts": [{"name": "w", "mountPath": "/x"}, {"name": "v", "mountPath": "/y"}]}),
        containers({"name": "a", "volumeMounts": [{"name": "w", "mountPath": "/x"}, {"name": "v", "mountPath": "/y"}]}),
    ),
    "ports are merged by number": (
        containers({"name": "a", "ports": [{"containerPort": 80}]}),
        containers({"name": "a", "ports": [{"containerPort": 80, "name": "web"}]}),
        containers({"name": "a", "ports": [{"containerPort": 80, "name": "web"}]}),
    ),
    "arguments are replaced": (
        containers({"name": "a", "args": ["x", "y"]}),
        containers({"name": "a", "args": ["z"]}),
        containers({"name": "a", "args": ["z"]}),
    ),
    "strings are deleted from a list": (
        containers({"name": "a", "args": ["x", "y", "x"]}),
        containers({"name": "a", "$deleteFromPrimitiveList/args": ["x"]}),
        containers({"name": "a", "args": ["y"]}),
    ),
    "finalizers are united": (
        {"metadata": {"finalizers": ["a", "b"]}},
        {"metadata": {"finalizers": ["c", "b", "c"]}},
        {"metadata": {"finalizers": ["c", "a", "b"]}},
    ),
    "a volume keeps only the named keys": (
        pod(volumes=[{"name": "v", "emptyDir": {}}]),
        pod(volumes=[{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]),
        pod(volumes=[{"name": "v", "hostPath": {"path": "/"}}]),
    ),
    "an order is given": (containers(A, B, C), pod(**{ORDER: [C, A]}), containers(B, C, A)),
    "an order is given for a patched list": (
        containers(A, B),
        containers(C, {"name": "a", "tty": True}, **{ORDER: [C, A, B]}),
        containers(C, {**A, "tty": True}, B),
    ),
    "an order of finalizers": (
        {"metadata": {"finalizers": ["a", "b"]}},
        {"metadata": {"finalizers": ["c"], "$setElementOrder/finalizers": ["c", "b", "a"]}},
        {"metadata": {"finalizers": ["c", "b", "a"]}},
    ),
    "an order of a list that does not exist": (pod(), pod(**{ORDER: [A]}), pod()),
    "directives in what is new are left out": (
        pod(),
        containers(A, {"name": "b", "$patch": "delete"}),
        containers(A),
    ),
}


@pytest.mark.parametrize(("original", "patch", "expected"), CASES.values(), ids=CASES.keys())
def test_a_patch_is_merged_as_kubectl_does(
    original: dict[str, Any], patch: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = copy.deepcopy((original, patch))
    assert merge(original, patch) == expected
    assert (original, patch) == before


REFUSED = {
    "an unknown directive": (pod(nodeSelector={}), pod(nodeSelector={"$patch": "merge"})),
    "an unknown directive of an item": (containers(A), containers({"name": "a", "$patch": "merge"})),
    "an item without its key": (containers(A), containers({"image": "y"})),
    "a deletion without its key": (containers(A), containers({"$patch": "delete"})),
    "items of different types": (containers(A), containers(A, "b")),  # type: ignore[arg-type]
    "keys that are not retained": (
        pod(volumes=[{"name": "v"}]),
        pod(volumes=[{"name": "v", "$retainKeys": ["emptyDir"], "emptyDir": {}}]),
    ),
    "retained keys that are no list": (pod(volumes=[{"name": "v"}]), pod(volumes=[{"name": "v", "$retainKeys": "a"}])),
    "an order without all items": (containers(A), containers(B, **{ORDER: [A]})),
    "another order": (containers(A, B), containers({"name": "b"}, {"name": "a"}, **{ORDER: [A, B]})),
    "an order of something else": (containers(A), pod(**{ORDER: "a"})),
    "an order of no items": (containers(), pod(**{ORDER: []})),
    "an order without keys": (containers(A), pod(**{ORDER: [{"image": "x"}]})),
}


@pytest.mark.parametrize(("original", "patch"), REFUSED.values(), ids=REFUSED.keys())
def test_a_patch_that_kubectl_refuses_is_refused(original: dict[str, Any], patch: dict[str, Any]) -> None:
    with pytest.raises(PatchError):
        merge(original, patch)
