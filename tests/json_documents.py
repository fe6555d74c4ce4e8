"""Check the documents of ``--json`` against the schemas of the package."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

Schema = dict[str, Any]

_FORMATS = FormatChecker(())
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")


@cache
def schemas() -> dict[str, Schema]:
    """The schemas by the name of the file."""
    files = resources.files("caliban").joinpath("schemas").iterdir()
    return {file.name: json.loads(file.read_text(encoding="utf-8")) for file in files if file.name.endswith(".json")}


@cache
def _registry() -> Registry[Any]:
    empty: Registry[Any] = Registry()
    return empty.with_resources([(each["$id"], Resource.from_contents(each)) for each in schemas().values()])


@_FORMATS.checks("date-time")
def _is_time(value: object) -> bool:
    """Whether it is a time in UTC, in the one form of all documents."""
    return not isinstance(value, str) or _TIME.fullmatch(value) is not None


def validator(schema: Schema) -> Draft202012Validator:
    return Draft202012Validator(schema, registry=_registry(), format_checker=_FORMATS)


@cache
def _validator_of(file: str) -> Draft202012Validator:
    return validator(schemas()[file])


def file_of(schema: str) -> str:
    """The file of a schema: ``status-1.json`` for ``caliban.status/1``."""
    name, _, version = schema.removeprefix("caliban.").partition("/")
    return f"{name}-{version}.json"


def checked(text: str) -> dict[str, Any]:
    """The one document in ``text``: one line of ASCII, JSON as others read it, and as its schema says."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert text.isascii()
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    document = json.loads(text, parse_constant=refuse)
    json.dumps(document, ensure_ascii=False).encode()  # no half of a surrogate pair
    file = file_of(document["schema"])
    errors = [f"{error.json_path}: {error.message}" for error in _validator_of(file).iter_errors(document)]
    assert errors == [], text[:10_000]
    assert list(undescribed(document, schemas()[file])) == []
    assert isinstance(document, dict)
    return document


def parts(schema: Schema) -> Iterator[Schema]:
    """The schemas that a value has to fulfil, without those of ``anyOf``."""
    yield schema
    if "$ref" in schema:
        file, _, path = schema["$ref"].removeprefix("urn:caliban:").partition("#/$defs/")
        yield from parts(schemas()[file.replace(":", "-") + ".json"]["$defs"][path])
    for each in schema.get("allOf", ()):
        yield from parts(each)


def fields(schema: Schema) -> dict[str, Schema]:
    """The fields of an object, each with its schema; none where the schema leaves open which there are."""
    found: dict[str, Schema] = {}
    for each in parts(schema):
        found = {**each.get("properties", {}), **found}
    return found


def items(schema: Schema) -> Schema | None:
    """The schema of the items of a list."""
    return next((each["items"] for each in parts(schema) if "items" in each), None)


def fitting(schema: Schema, value: object) -> Schema:
    """The alternative of ``anyOf`` that a value is of; the schema itself where there are no alternatives."""
    alternatives = schema.get("anyOf", [schema])
    [found] = [each for each in alternatives if len(alternatives) == 1 or validator(each).is_valid(value)]
    assert isinstance(found, dict)
    return found


def undescribed(value: object, schema: Schema, path: str = "$") -> Iterator[str]:
    """Yield the paths of fields that a schema does not describe."""
    if not isinstance(value, dict | list):
        return
    schema = fitting(schema, value)
    if isinstance(value, list):
        of_items = items(schema)
        for number, each in enumerate(value if of_items else ()):
            yield from undescribed(each, of_items or {}, f"{path}[{number}]")
        return
    known = fields(schema)
    for name, each in value.items() if known else ():
        if name in known:
            yield from undescribed(each, known[name], f"{path}.{name}")
        else:
            yield f"{path}.{name}"
