"""The tables of ``docs/json.md``, made from the schemas of the documents of ``--json``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CLONE = Path(__file__).resolve().parent.parent
PAGE = CLONE / "docs" / "json.md"
SCHEMAS = CLONE / "caliban" / "schemas"

Schema = Mapping[str, Any]

_COMMON = "common-1"
_OF_EVERY_DOCUMENT = ("schema", "exit_code", "error")
_TABLE = re.compile(r"(<!-- fields of ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def json_page() -> str:
    """Return ``docs/json.md`` with current tables between its marks, each of a schema or of a common part.

    Raises:
        KeyError: a mark names no schema.
    """
    tables = _tables()
    text = PAGE.read_text(encoding="utf-8")
    missing = set(tables) - {found[2] for found in _TABLE.finditer(text)}
    if missing:
        raise KeyError(f"{PAGE.name} has no table of {', '.join(sorted(missing))}")
    return _TABLE.sub(lambda found: found[1] + "\n".join(tables[found[2]]) + "\n" + found[3], text)


def _tables() -> dict[str, list[str]]:
    schemas = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(SCHEMAS.glob("*.json"))}
    parts = schemas.pop(_COMMON)["$defs"]
    of_every = {name: schemas["status-1"]["properties"][name] for name in _OF_EVERY_DOCUMENT}
    found = {"every-document": _table({"properties": of_every})}
    for name, schema in schemas.items():
        own = {key: each for key, each in schema["properties"].items() if key not in _OF_EVERY_DOCUMENT}
        found[name] = _table({"properties": own})
    for name, schema in parts.items():
        if _is_a_section(schema):
            found[name] = _table(schema)
    return found


def _is_a_section(schema: Schema) -> bool:
    """Return whether a common part has a section of its own: not one that is a single value."""
    return "properties" in schema or "items" in schema


def _table(schema: Schema) -> list[str]:
    return ["", "| field | type | meaning |", "|---|---|---|", *_rows(schema, ""), ""]


def _rows(schema: Schema, path: str) -> Iterator[str]:
    """Yield a row for each field of an object, and of the objects in it that are described in the same place."""
    if "items" in schema and "properties" not in schema:
        schema = schema["items"]
        path = f"{path}[]"
    for each in schema.get("allOf", ()):
        yield f"| {f'`{path}`: ' if path else ''}all fields of {_link(each)} | | |"
    for name, field in schema.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        yield f"| `{below}` | {_type(field)} | {_meaning(field)} |"
        for inner in _inner(field):
            yield from _rows(inner, f"{below}[]" if "items" in field else below)


def _inner(field: Schema) -> Iterator[Schema]:
    """Yield the objects that a field has, unless they are common parts."""
    for each in (field.get("items", field), *field.get("anyOf", ())):
        if "properties" in each:
            yield each


def _type(field: Schema) -> str:
    if "$ref" in field:
        return _link(field)
    if "anyOf" in field:
        return " or ".join(_type(each) for each in field["anyOf"])
    if "const" in field:
        return "string"
    if "enum" in field:
        return " or ".join("null" if each is None else f"`{each}`" for each in field["enum"])
    if field.get("type") == "array":
        return f"list of {_plural(field['items'])}"
    types = field.get("type", "any value")
    names = types if isinstance(types, list) else [types]
    return " or ".join("time" if each == "string" and "format" in field else each for each in names)


def _plural(item: Schema) -> str:
    if "allOf" in item or "$ref" not in item:
        kind = item.get("type", "any value")
        return f"{kind}s"
    return _link(item)


def _link(reference: Schema) -> str:
    name = reference["$ref"].rpartition("/")[2]
    return f"[{name}](#{name})"


def _meaning(field: Schema) -> str:
    return str(field.get("description", "")).replace("|", "/")
