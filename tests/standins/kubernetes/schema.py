"""Decodes what is sent as the API server does with ``fieldValidation=Strict``, by the official schemas of a version.

A field that has another type, or that there is not, is refused with 400; a field that is missing with 422.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import jsonschema
from kubernetes_validate.utils import all_versions, schema_contents  # type: ignore[import-untyped]
from referencing import Registry
from referencing import Resource as Schema

from tests.standins.kubernetes.names import quantity
from tests.standins.kubernetes.status import Resource, StatusError, bad_request, not_valid, required

DELETE_OPTIONS = Resource("meta.k8s.io", "deleteoptions", "DeleteOptions")
_GO_TYPES = {"string": "string", "integer": "int32", "boolean": "bool", "object": "map", "array": "slice"}
_QUANTITIES = re.compile(r"\.(limits|requests)\.[^.]+$|\.sizeLimit$")


def known_versions() -> list[str]:
    """The versions of Kubernetes of which there are schemas, as ``1.33``, the oldest first."""
    return list(dict.fromkeys(str(version).rpartition(".")[0] for version in all_versions()))


def decode(resource: Resource, body: object, version: str) -> dict[str, Any]:
    """The object that was sent.

    Raises:
        StatusError: it is no object of that resource.
    """
    if not isinstance(body, dict):
        raise bad_request("couldn't get version/kind; json parse error: the body is no object")
    kind, api_version = body.get("kind", resource.kind), body.get("apiVersion", resource.api_version)
    if (kind, api_version) != (resource.kind, resource.api_version):
        raise bad_request(
            f'{kind} in version "{api_version.rpartition("/")[2]}" cannot be handled as a {resource.kind}: no kind '
            f'"{kind}" is registered for version "{api_version}" in scheme "pkg/api/legacyscheme/scheme.go:30"'
        )
    whole = {**body, "kind": kind, "apiVersion": api_version}
    for error in _validator(f"{kind.lower()}-{api_version.replace('/', '-')}", version).iter_errors(whole):
        raise _refusal(resource, whole, error)
    for place, text in _leaves(whole):
        if _QUANTITIES.search(place) and quantity(text) is None:
            pattern = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
            raise _undecodable(resource, f"quantities must match the regular expression '{pattern}'")
    return whole


def decode_delete_options(body: object, version: str) -> dict[str, Any]:
    """The options of a deletion, whose group and version may be any: the schema lists those that there are.

    Raises:
        StatusError: they are none.
    """
    if not isinstance(body, dict):
        raise bad_request("couldn't get version/kind; json parse error: the body is no object")
    for error in _validator("deleteoptions-meta-v1", version).iter_errors(body):
        raise _refusal(DELETE_OPTIONS, body, error)
    return dict(body)


@cache
def _validator(name: str, version: str) -> Any:
    """What checks by one of the schemas: kubernetes-validate itself would read its 1.5 MB again for each object."""
    full = next(known for known in all_versions() if known.startswith(f"{version}."))
    directory = f"kubernetes-json-schema/v{full}-local-strict"
    schema, shared = (schema_contents(f"{directory}/{file}.json", version) for file in (name, "_definitions"))
    registry: Any = Schema.from_contents(shared) @ Registry()
    return jsonschema.Draft202012Validator(schema, registry=registry)


def go_path(parts: Iterable[str | int]) -> str:
    """``spec.template.spec.containers[0].image``"""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".")


def _refusal(resource: Resource, whole: Mapping[str, Any], error: Any) -> StatusError:
    place = go_path(error.absolute_path)
    if error.validator == "additionalProperties":
        unknown = sorted(set(error.instance) - set(error.schema.get("properties", {})))
        words = ", ".join(f'unknown field "{f"{place}.{name}".removeprefix(".")}"' for name in unknown)
        return _undecodable(resource, f"strict decoding error: {words}")
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        errors = [required(f"{place}.{name}".removeprefix(".")) for name in missing]
        return not_valid((resource.group, resource.kind), whole.get("metadata", {}).get("name", ""), errors)
    wanted = error.validator_value if isinstance(error.validator_value, str | list) else "string"
    first = wanted if isinstance(wanted, str) else str(wanted[0])
    words = f"json: cannot unmarshal {_json_type(error.instance)} into Go struct field {resource.kind}.{place} of type "
    return _undecodable(resource, words + _GO_TYPES.get(first, "resource.Quantity"))


def _undecodable(resource: Resource, words: str) -> StatusError:
    return bad_request(f'{resource.kind} in version "v1" cannot be handled as a {resource.kind}: {words}')


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    return {str: "string", int: "number", float: "number", list: "array", dict: "object"}.get(type(value), "null")


def _leaves(value: object, place: str = "") -> Iterable[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            key = name.replace(".", "_")
            yield from _leaves(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, place)
    else:
        yield place, value


def as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of an object that shares nothing with it."""
    copied: dict[str, Any] = json.loads(json.dumps(value))
    return copied
