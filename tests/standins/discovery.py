"""Checks requests against the discovery document that google-api-python-client ships, and refuses as Google does.

Source of the words: https://cloud.google.com/apis/design/errors, and proto3's JSON mapping,
https://protobuf.dev/programming-guides/json/.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import googleapiclient.discovery_cache  # type: ignore[import-untyped]

_STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_FORMATS = {
    "google-duration": re.compile(r"-?\d{1,12}(\.\d{1,9})?s"),
    "google-datetime": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)"),
}
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


class ApiError(Exception):
    """An answer with an error in Google's shape."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        status: str | None = None,
        details: list[dict[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.headers = dict(headers or {})
        error: dict[str, Any] = {"code": code, "message": message, "status": status or _STATUS_NAMES[code]}
        if details:
            error["details"] = details
        self.body = {"error": error}


def bad_field(field: str, description: str) -> ApiError:
    """400, naming the field that is wrong."""
    violation = {"field": field, "description": description}
    return ApiError(400, description, details=[{"@type": _BAD_REQUEST, "fieldViolations": [violation]}])


@dataclass(frozen=True)
class Method:
    """One method of the API, and the parts of its path."""

    id: str
    document: Mapping[str, Any]
    path: Mapping[str, str]


Route: TypeAlias = tuple[str, re.Pattern[str], Mapping[str, Any]]
"""HTTP method, pattern of the path, and the document of the API's method."""


class Discovery:
    """The discovery document of one API."""

    def __init__(self, api: str, version: str) -> None:
        self.document = _document(api, version)
        self._routes = _routes(api, version)

    def method(self, verb: str, path: str) -> Method | None:
        """The method that a request asks for; None where there is none."""
        for http_verb, pattern, document in self._routes:
            match = pattern.fullmatch(path) if http_verb == verb else None
            if match:
                return Method(document["id"], document, match.groupdict())
        return None

    def check_query(self, method: Method, query: Mapping[str, list[str]]) -> None:
        """Refuse a query parameter that the method has not, or of another type."""
        known = {**self.document["parameters"], **method.document.get("parameters", {})}
        for name, values in query.items():
            if name not in known or known[name]["location"] != "query":
                raise bad_field(
                    "", f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.'
                )
            if known[name]["type"] == "integer" and not re.fullmatch(r"-?\d+", values[-1]):
                raise bad_field(_snake(name), f"Invalid value at '{_snake(name)}' (TYPE_INT32), \"{values[-1]}\"")

    def check_body(self, method: Method, body: object, root: str) -> None:
        """Refuse a field that the message has not, or a value of another type."""
        reference = method.document.get("request", {}).get("$ref")
        if reference is not None:
            self._check(self.document["schemas"][reference], body, root)

    def check_schema(self, schema: str, value: object) -> None:
        """Refuse what is no message of that name: for a stand-in's own answers."""
        self._check(self.document["schemas"][schema], value, schema)

    def without_outputs(self, schema: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body without the fields that only the service sets, which it ignores in requests."""
        properties = self.document["schemas"][schema]["properties"]
        return {k: v for k, v in body.items() if not properties[k].get("description", "").startswith("Output only.")}

    def as_told(self, schema: Mapping[str, Any], value: Any) -> Any:
        """A message that was accepted, as answers have it: without nulls, its 64-bit integers as strings."""
        schema = self.document["schemas"][schema["$ref"]] if "$ref" in schema else schema
        if isinstance(value, dict):
            inner = schema.get("properties", {})
            other = schema.get("additionalProperties", {})
            given = ((name, item) for name, item in value.items() if item is not None)
            return {name: self.as_told(inner.get(name, other), item) for name, item in given}
        if isinstance(value, list):
            return [self.as_told(schema["items"], item) for item in value]
        return str(value) if schema.get("format") in ("int64", "uint64") else value

    def _check(self, schema: Mapping[str, Any], value: object, place: str) -> None:
        if "$ref" in schema:
            schema = self.document["schemas"][schema["$ref"]]
        if value is None or schema.get("type") == "any":
            return
        if schema["type"] == "object":
            self._check_object(schema, value, place)
        elif schema["type"] == "array":
            if not isinstance(value, list):
                raise _invalid(place, "TYPE_MESSAGE", value)
            for number, item in enumerate(value):
                self._check(schema["items"], item, f"{place}[{number}]")
        elif not _SCALARS[schema["type"]](schema, value):
            raise _invalid(place, schema.get("format", schema["type"]), value)

    def _check_object(self, schema: Mapping[str, Any], value: object, place: str) -> None:
        if not isinstance(value, dict):
            raise _invalid(place, "TYPE_MESSAGE", value)
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if inner is None:
                text = f"Invalid JSON payload received. Unknown name \"{name}\" at '{place}': Cannot find field."
                raise bad_field(place, text)
            self._check(inner, item, f"{place}.{_snake(name)}")


@cache
def _document(api: str, version: str) -> Mapping[str, Any]:
    """Return the document, parsed once per process: that of Vertex AI has 3 MB."""
    directory = Path(googleapiclient.discovery_cache.__file__).parent / "documents"
    document: Mapping[str, Any] = json.loads((directory / f"{api}.{version}.json").read_text())
    return document


@cache
def _routes(api: str, version: str) -> Sequence[Route]:
    """Return all routes of the API, compiled once per process: Vertex AI has more than `re` keeps in its own cache."""
    routes: list[Route] = []

    def walk(resource: Mapping[str, Any]) -> None:
        for method in resource.get("methods", {}).values():
            pattern = re.sub(r"\\?\{(\w+)\\?\}", r"(?P<\1>[^/:]+)", "/" + method["flatPath"])
            routes.append((method["httpMethod"], re.compile(pattern), method))
        for inner in resource.get("resources", {}).values():
            walk(inner)

    walk(_document(api, version))
    return routes


def _invalid(place: str, kind: str, value: object) -> ApiError:
    return bad_field(place, f"Invalid value at '{place}' ({kind}), {json.dumps(value)}")


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", lambda match: "_" + match[1].lower(), name)


def _is_string(schema: Mapping[str, Any], value: object) -> bool:
    if schema.get("format") in ("int64", "uint64"):
        return _is_integer(schema, value)
    if not isinstance(value, str):
        return False
    if "enum" in schema:
        return value in schema["enum"]
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]].fullmatch(value) is not None
    if schema.get("format") == "byte":
        try:
            base64.b64decode(value, validate=True)
        except binascii.Error:
            return False
    return True


def _is_integer(_: Mapping[str, Any], value: object) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"-?\d+", value) is not None
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_: Mapping[str, Any], value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_SCALARS: Mapping[str, Callable[[Mapping[str, Any], object], bool]] = {
    "string": _is_string,
    "integer": _is_integer,
    "number": _is_number,
    "boolean": lambda _, value: isinstance(value, bool),
}
