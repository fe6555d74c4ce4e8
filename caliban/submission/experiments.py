"""``experiment.json`` -> the flags of each experiment of a group.

The file is JSON with comments: an object, or a list of objects. A list value spans the Cartesian product with the
others; ``"[a,b]": [[1, 2], [3, 4]]`` varies ``a`` and ``b`` together; ``true`` becomes the bare flag, ``false``
nothing. Whatever is wrong is told by key and place before anything is built.
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
    """The flags of each experiment that ``text`` spans, in order, the last key varying fastest.

    Args:
        text: the content of an experiment file.
        source: the file's name, for messages.

    Raises:
        UsageError: ``malformed-json``, or ``malformed-experiments`` with the key and place that is wrong.
    """
    document = jsonc.loads(text, source=source)
    if isinstance(document, Mapping):
        return list(_expand(document, source))
    if not isinstance(document, list):
        raise _wrong(source, f"an object or a list of objects is wanted, not {_kind(document)}")
    experiments: list[dict[str, Scalar]] = []
    for index, entry in enumerate(document):
        place = f"{source}, entry {index + 1}"
        if not isinstance(entry, Mapping):
            raise _wrong(place, f"an object is wanted, not {_kind(entry)}")
        experiments.extend(_expand(entry, place))
    if not experiments:
        raise _wrong(source, "the list is empty, so there is no experiment to run")
    return experiments


def _expand(entry: Mapping[str, object], place: str) -> Iterator[dict[str, Scalar]]:
    names: set[str] = set()
    axes: list[Settings] = []
    for key, value in entry.items():
        axis = _axis(key, value, f'{place}, key "{key}"')
        repeated = names.intersection(axis[0])
        if repeated:
            raise _wrong(f'{place}, key "{key}"', f"the flag {sorted(repeated)[0]} is set by another key as well")
        names.update(axis[0])
        axes.append(axis)
    for combination in itertools.product(*axes):
        yield {name: value for setting in combination for name, value in setting.items()}


def _axis(key: str, value: object, place: str) -> Settings:
    """The settings that one key of the file goes through."""
    compound = _COMPOUND.fullmatch(key.strip())
    if compound is None:
        values = value if isinstance(value, list) else [value]
        if not values:
            raise _wrong(place, "the list has no values, so there would be no experiment")
        return [{_flag(key, place): _scalar(item, place)} for item in values]
    names = [_flag(name.strip(), place) for name in compound.group(1).split(",")]
    if len(set(names)) < len(names):
        raise _wrong(place, "a flag is named twice")
    if not isinstance(value, list) or not value:
        raise _wrong(place, f"a list of lists is wanted, one value for each of {', '.join(names)}")
    rows = value if all(isinstance(row, list) for row in value) else [value]
    return [_compound_setting(names, row, f"{place}, row {number}") for number, row in enumerate(rows, 1)]


def _compound_setting(names: Sequence[str], row: Sequence[object], place: str) -> dict[str, Scalar]:
    if len(row) != len(names):
        raise _wrong(place, f"one value for each of {', '.join(names)} is wanted, not {len(row)} of them")
    return {name: _scalar(value, place) for name, value in zip(names, row, strict=True)}


def _flag(name: str, place: str) -> str:
    if name.startswith("-"):
        raise _wrong(place, f'a flag is named without its dashes: "{name.lstrip("-")}"')
    if not name or re.search(r"[\s=]", name):
        raise _wrong(place, "this cannot be the name of a flag")
    return name


def _scalar(value: object, place: str) -> Scalar:
    if isinstance(value, (str, int, float, bool)):
        return value
    raise _wrong(place, f"a string, number, true or false is wanted, not {_kind(value)}")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return {dict: "an object", list: "a list", str: "a string", bool: "true or false"}.get(type(value), "a number")


def _wrong(place: str, what: str) -> UsageError:
    return UsageError(
        "malformed-experiments",
        f"{place}: {what}",
        hint='for example: {"learning_rate": [0.1, 0.01], "[width,depth]": [[64, 2], [128, 4]], "verbose": true}',
    )
