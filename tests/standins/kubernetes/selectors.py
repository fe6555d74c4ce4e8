"""Label and field selectors.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors and
``staging/src/k8s.io/apimachinery/pkg/labels/selector.go``; ``pkg/apis/batch/v1/conversion.go`` and
``pkg/apis/core/v1/conversion.go`` for the fields by which one may select; all of kubernetes/kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.standins.kubernetes.names import is_label_value, is_qualified_name
from tests.standins.kubernetes.status import Resource, bad_request

Labels = Mapping[str, str]
_METADATA = {"metadata.name": "metadata.name", "metadata.namespace": "metadata.namespace"}
_FIELDS: Mapping[str, Mapping[str, str]] = {
    "jobs": {**_METADATA, "status.successful": "status.succeeded"},
    "events": {
        **_METADATA,
        **{name: name for name in ("reason", "type", "reportingComponent")},
        **{
            f"involvedObject.{name}": f"involvedObject.{name}"
            for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
        },
    },
    "pods": {
        **_METADATA,
        **{name: name for name in ("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase")},
    },
}
"""What each resource can be selected by -> where that is in an object."""
_REQUIREMENT = re.compile(
    r"\s*(?:"
    r"(?P<lacked>!\s*[^\s!=,()]+)"
    r"|(?P<key>[^\s!=,()]+)(?:"
    r"\s*(?P<equality>==|=|!=)\s*(?P<value>[^\s!=,()]*)"
    r"|\s+(?P<set>in|notin)\s*\((?P<values>[^()]*)\)"
    r"|))\s*(?:,|$)"
)


def labels_match(text: str) -> Callable[[Labels], bool]:
    """``a=b,c!=d,e,!f,g in (h,i),j notin (k)`` -> a test of labels.

    Raises:
        StatusError: 400, the text is no selector.
    """
    tests: list[Callable[[Labels], bool]] = []
    at = 0
    while at < len(text):
        found = _REQUIREMENT.match(text, at)
        if found is None:
            raise bad_request(f"unable to parse requirement: found '{text[at:]}', expected: a requirement")
        tests.append(_requirement(found))
        at = found.end()
        if at == len(text) and text.rstrip().endswith(","):
            raise bad_request("unable to parse requirement: found '', expected: identifier after ','")
    return lambda labels: all(test(labels) for test in tests)


def _requirement(found: re.Match[str]) -> Callable[[Labels], bool]:
    key = found["key"] or found["lacked"][1:].strip()
    if not is_qualified_name(key):
        raise bad_request(f'unable to parse requirement: key: Invalid value: "{key}": name part must be a label key')
    if found["lacked"]:
        return lambda labels: key not in labels
    if not found["equality"] and not found["set"]:
        return lambda labels: key in labels
    given = found["values"].split(",") if found["set"] else [found["value"]]
    values = {value.strip() for value in given}
    for value in values:
        if not is_label_value(value):
            raise bad_request(f'unable to parse requirement: values[0][{key}]: Invalid value: "{value}"')
    if (found["equality"] or found["set"]) in ("!=", "notin"):
        return lambda labels: labels.get(key) not in values
    return lambda labels: labels.get(key) in values


def fields_match(text: str, resource: Resource) -> Callable[[Mapping[str, Any]], bool]:
    """``metadata.name=x,status.phase!=Failed`` -> a test of objects.

    Raises:
        StatusError: 400, the text is no selector, or names a field by which such objects cannot be selected.
    """
    wanted: list[tuple[str, bool, str]] = []
    for term in filter(None, text.split(",")):
        found = re.fullmatch(r"([^=!]+)(==|=|!=)([^=!]*)", term)
        if found is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        if found[1] not in _FIELDS[resource.plural]:
            is_job = resource.group == "batch"
            words = f'"{found[1]}" not supported for batchv1.Job' if is_job else f"not supported: {found[1]}"
            raise bad_request(f"field label {words}")
        wanted.append((_FIELDS[resource.plural][found[1]], found[2] != "!=", found[3]))
    return lambda item: all((_told(item, place) == value) == is_same for place, is_same, value in wanted)


def _told(item: Mapping[str, Any], place: str) -> str:
    group, _, name = place.partition(".")
    if not name:
        return str(item.get(group, ""))
    absent = 0 if name == "succeeded" else ""
    return str(item.get(group, {}).get(name, absent))
