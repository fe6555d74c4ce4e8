"""Expand ``experiment.json`` into the flags of each experiment of a group.

The file is JSON with comments: an object, or a list of objects. Lists of values are combined as a Cartesian product;
``"[a,b]": [[1, 2], [3, 4]]`` varies ``a`` and ``b`` together; ``true`` becomes the bare flag, ``false`` no flag.
Errors name the file, entry and key.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from caliban import jsonc
from caliban.errors import UsageError

Scalar: TypeAlias = "str | int | float | bool"
Settings: TypeAlias = "list[dict[str, Scalar]]"

_COMPOUND = re.compile(r"\[(.*)\]", re.DOTALL)


def parse_experiments(text: str, *, source: str) -> list[dict[str, Scalar]]:
    """Return the flags of each experiment, in order, with the last key varying fastest.

    Args:
        text: the content of an experiment file.
        source: the file's name, for messages.

    Raises:
        UsageError: ``malformed-json``, ``malformed-experiments``.
    """
    document = jsonc.loads(text, source=source)
    if isinstance(document, Mapping):
        return list(_expand(document, source))
    if not isinstance(document, list):
        raise _wrong(source, f"expected an object or a list of objects, got {_kind(document)}")
    experiments: list[dict[str, Scalar]] = []
    for index, entry in enumerate(document):
        location = f"{source}, entry {index + 1}"
        if not isinstance(entry, Mapping):
            raise _wrong(location, f"expected an object, got {_kind(entry)}")
        experiments.extend(_expand(entry, location))
    if not experiments:
        raise _wrong(source, "the list of experiments is empty")
    return experiments


def _expand(entry: Mapping[str, object], location: str) -> Iterator[dict[str, Scalar]]:
    names: set[str] = set()
    axes: list[Settings] = []
    for key, value in entry.items():
        axis = _axis(key, value, f'{location}, key "{key}"')
        repeated = names.intersection(axis[0])
        if repeated:
            raise _wrong(f'{location}, key "{key}"', f"the flag {sorted(repeated)[0]} is already set by another key")
        names.update(axis[0])
        axes.append(axis)
    for combination in itertools.product(*axes):
        yield {name: value for setting in combination for name, value in setting.items()}


def _axis(key: str, value: object, location: str) -> Settings:
    """Return the settings that one key of the file produces."""
    compound = _COMPOUND.fullmatch(key.strip())
    if compound is None:
        values = value if isinstance(value, list) else [value]
        if not values:
            raise _wrong(location, "the list of values is empty")
        return [{_flag(key, location): _scalar(item, location)} for item in values]
    names = [_flag(name.strip(), location) for name in compound.group(1).split(",")]
    if len(set(names)) < len(names):
        raise _wrong(location, "duplicate flag")
    if not isinstance(value, list) or not value:
        raise _wrong(location, f"expected a list of lists, with one value for each of {', '.join(names)}")
    rows = value if all(isinstance(row, list) for row in value) else [value]
    return [_compound_setting(names, row, f"{location}, row {number}") for number, row in enumerate(rows, 1)]


def _compound_setting(names: Sequence[str], row: Sequence[object], location: str) -> dict[str, Scalar]:
    if len(row) != len(names):
        raise _wrong(location, f"expected one value for each of {', '.join(names)}, got {len(row)}")
    return {name: _scalar(value, location) for name, value in zip(names, row, strict=True)}


def _flag(name: str, location: str) -> str:
    if name.startswith("-"):
        raise _wrong(location, f'write the flag without dashes: "{name.lstrip("-")}"')
    if not name or re.search(r"[\s=]", name):
        raise _wrong(location, "invalid flag name")
    return name


def _scalar(value: object, location: str) -> Scalar:
    if isinstance(value, (str, int, float, bool)):
        return value
    raise _wrong(location, f"expected a string, number, true or false, got {_kind(value)}")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return {dict: "an object", list: "a list", str: "a string", bool: "true or false"}.get(type(value), "a number")


def _wrong(location: str, what: str) -> UsageError:
    return UsageError(
        "malformed-experiments",
        f"{location}: {what}",
        hint='for example: {"learning_rate": [0.1, 0.01], "[width,depth]": [[64, 2], [128, 4]], "verbose": true}',
    )
