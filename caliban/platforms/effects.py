"""Find in a recorded job spec what caliban itself does not write there: what its job would do beyond running its image.

The known shape of a spec is described by nested dicts, lists (whose only item describes all items) and tests of values;
everything else is reported, so that no option is forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

Known: TypeAlias = "Mapping[str, Known] | list[Known] | Callable[[object], bool]"

_MAX_VALUE = 200


def anything(value: object) -> bool:
    """Accept any value."""
    return True


def only(*values: object) -> Callable[[object], bool]:
    """Accept these values."""
    return lambda value: any(value == each and type(value) is type(each) for each in values)


def unknown_settings(value: object, known: Known, path: str = "") -> Iterator[str]:
    """Yield ``template.spec.hostNetwork: true`` for each setting of a spec that is not of the known shape.

    Args:
        value: the spec, or a part of it.
        known: its known shape.
        path: of the part.
    """
    if value in (None, False, "", 0) or value == {} or value == []:
        return
    if isinstance(known, Mapping) and isinstance(value, Mapping):
        for key, each in value.items():
            yield from unknown_settings(each, known.get(key, only()), f"{path}.{key}" if path else str(key))
    elif isinstance(known, list) and isinstance(value, list):
        for each in value:
            yield from unknown_settings(each, known[0], path)
    elif isinstance(known, (Mapping, list)) or not known(value):
        text = value if isinstance(value, str) else json.dumps(value)
        yield f"{path}: {text if len(text) <= _MAX_VALUE else f'{text[: _MAX_VALUE - 3]}...'}"
