"""Read a patch: YAML or JSON, as kubectl reads it. Whatever is in a file, reading it ends."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from caliban.jsonc import MAX_DEPTH
from caliban.records import JsonObject

_MAX_VALUES = 50_000
"""Values in a patch, those of aliases counted each time: a Job has some hundreds."""


class MalformedPatchError(Exception):
    """The text is no patch; the message says why."""


def parse(text: str) -> JsonObject:
    """Parse a patch.

    Raises:
        MalformedPatchError: it is malformed, or no object.
    """
    parsed = _from_json(text) if text.lstrip().startswith("{") else None
    if parsed is None:
        parsed = _from_yaml(text)
    if parsed is None:
        raise MalformedPatchError("the file is empty")
    if not isinstance(parsed, dict):
        raise MalformedPatchError("the file is not an object")
    patch = _Copier().copy(parsed)
    assert isinstance(patch, dict)
    return patch


def _from_json(text: str) -> object:
    """Return None for what is no JSON: it may be YAML."""
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError:
        return None
    except RecursionError:
        raise MalformedPatchError("values are nested too deeply") from None
    except ValueError:
        raise MalformedPatchError("a number is out of range") from None


def _without_duplicates(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise MalformedPatchError(f'duplicate key "{key}"')
        found[key] = value
    return found


def _from_yaml(text: str) -> object:
    import yaml

    try:
        documents = [each for each in yaml.load_all(text, _loader()) if each is not None]
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", error)
        where = f", line {mark.line + 1}" if mark else ""
        raise MalformedPatchError(f"invalid YAML{where}{f': {problem}' if problem else ''}") from None
    except RecursionError:
        raise MalformedPatchError("values are nested too deeply") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
        raise MalformedPatchError("invalid YAML") from None
    if len(documents) > 1:
        raise MalformedPatchError("the file has several documents")
    return documents[0] if documents else None


def _loader() -> Any:  # noqa: ANN401 - a class of pyyaml
    """Return a loader whose times and dates are strings, as those of Go's YAML, and that refuses duplicate keys."""
    import yaml

    class Loader(yaml.SafeLoader):
        def scalar_int(self, node: Any) -> object:  # noqa: ANN401 - of pyyaml
            return node.value if ":" in node.value else yaml.SafeLoader.construct_yaml_int(self, node)

        def scalar_float(self, node: Any) -> object:  # noqa: ANN401 - of pyyaml
            return node.value if ":" in node.value else yaml.SafeLoader.construct_yaml_float(self, node)

        def compose_mapping_node(self, anchor: Any) -> Any:  # noqa: ANN401 - of pyyaml
            node = super().compose_mapping_node(anchor)
            names = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
            twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
            if twice is not None:
                raise yaml.YAMLError(f'duplicate key "{twice}"')
            return node

    for kind in ("int", "float"):
        Loader.add_constructor(f"tag:yaml.org,2002:{kind}", getattr(Loader, f"scalar_{kind}"))
    timestamp = "tag:yaml.org,2002:timestamp"
    Loader.yaml_implicit_resolvers = {
        first: [each for each in resolvers if each[0] != timestamp]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader


class _Copier:
    """Copies values, as far as JSON has them."""

    def __init__(self) -> None:
        self._count = 0

    def copy(self, value: object, depth: int = 0) -> object:
        """Return a copy in which nothing is shared.

        Raises:
            MalformedPatchError: JSON has no such value, or there are too many.
        """
        self._count += 1
        if self._count > _MAX_VALUES:
            raise MalformedPatchError("too many values")
        if depth > MAX_DEPTH:
            raise MalformedPatchError("values are nested too deeply")
        if isinstance(value, dict):
            return {self._key(key): self.copy(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list):
            return [self.copy(each, depth + 1) for each in value]
        is_finite = not isinstance(value, float) or math.isfinite(value)
        if value is not None and not (isinstance(value, str | int | float) and is_finite):
            raise MalformedPatchError(f"JSON has no {type(value).__name__} such as {str(value)[:40]}")
        return value

    @staticmethod
    def _key(key: object) -> str:
        if not isinstance(key, str | int):
            raise MalformedPatchError(f"a key is no string: {str(key)[:40]}")
        return json.dumps(key) if isinstance(key, int) else key
