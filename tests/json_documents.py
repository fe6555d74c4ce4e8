"""Check the documents of ``--json`` against the schemas of the package."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """The schemas by the name of the file."""
    files = resources.files("caliban").joinpath("schemas").iterdir()
    return {file.name: json.loads(file.read_text(encoding="utf-8")) for file in files if file.name.endswith(".json")}


@cache
def _validator(name: str) -> Draft202012Validator:
    found = schemas()
    registry: Registry[Any] = Registry().with_resources(
        [(schema["$id"], Resource.from_contents(schema)) for schema in found.values()]
    )
    return Draft202012Validator(found[name], registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER)


def checked(text: str) -> dict[str, Any]:
    """The one document in ``text``: one line of ASCII, JSON as others read it, and valid by its schema."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert text.isascii()
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    document = json.loads(text, parse_constant=refuse)
    json.dumps(document, ensure_ascii=False).encode()  # no half of a surrogate pair
    name, _, version = document["schema"].removeprefix("caliban.").partition("/")
    errors = [
        f"{error.json_path}: {error.message}" for error in _validator(f"{name}-{version}.json").iter_errors(document)
    ]
    assert errors == [], document
    assert isinstance(document, dict)
    return document
