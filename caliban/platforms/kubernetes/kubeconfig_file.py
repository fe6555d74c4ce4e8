"""Read kubeconfig files as plain data: strings, lists and objects. Whatever is in a file, reading it ends.

Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/#merging-kubeconfig-files.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caliban import input_files
from caliban.input_files import InputFileError

MAX_SIZE = 4 * 2**20
"""Bytes of a file: a kubeconfig of hundreds of clusters has less than one megabyte."""

_MAX_ALIASES = 1000
_MAX_MERGED = 10_000
"""Keys that merge keys (``<<``) copy."""
_YES = frozenset({"true", "yes", "on", "y"})
_NO = frozenset({"false", "no", "off", "n"})


class PlainText(str):
    """The text of a scalar without quotation marks: of a number or a boolean value, where it is the text of one."""


class MalformedFileError(Exception):
    """A file cannot be used; the message does not show its content."""


@dataclass(frozen=True)
class Entry:
    """An entry of ``clusters``, ``contexts`` or ``users``.

    Attributes:
        name: of the entry.
        value: what is below ``cluster``, ``context`` or ``user``; {} where that is no object.
        directory: of its file: relative paths in it start there.
    """

    name: str
    value: Mapping[str, object] = field(repr=False)
    directory: Path


@dataclass(frozen=True)
class KubeconfigContent:
    """The merged content of several files: the first entry of a name wins, as does the first current context.

    Attributes:
        current: the name of the current context, or "".
        contexts, clusters, users: the entries by name.
    """

    current: str
    contexts: Mapping[str, Entry]
    clusters: Mapping[str, Entry]
    users: Mapping[str, Entry]


def read_kubeconfig(files: Sequence[Path]) -> KubeconfigContent | None:
    """Read and merge files; one that does not exist, or is a directory, is skipped.

    Returns:
        None where there is no file.

    Raises:
        MalformedFileError: a file cannot be read, or is no kubeconfig.
    """
    loaded = [(file, content) for file in files if (content := read_text(file)) is not None]
    if not loaded:
        return None
    current = ""
    groups: dict[str, dict[str, Entry]] = {"contexts": {}, "clusters": {}, "users": {}}
    for file, text in loaded:
        try:
            parsed = _parse(text)
            found = {group: _entries(parsed, group, file.parent.absolute()) for group in groups}
        except MalformedFileError as error:
            raise (MalformedFileError(f"{file}: {error}") if len(files) > 1 else error) from None
        for group, entries in found.items():
            groups[group] = {**entries, **groups[group]}
        named = parsed.get("current-context")
        current = current or (named if isinstance(named, str) else "")
    return KubeconfigContent(current, **groups)


def read_text(file: Path, errors: str = "strict") -> str | None:
    """Return the text of a regular file of bounded size; None for one that does not exist, or is a directory.

    Args:
        file: its path.
        errors: what to do with bytes that are not UTF-8, as for :meth:`bytes.decode`.

    Raises:
        MalformedFileError: it cannot be read, or is something else, such as a device or a pipe.
    """
    try:
        return input_files.read_text(file, limit=MAX_SIZE, errors=errors)
    except InputFileError as error:
        if error.id in ("file-not-found", "broken-link") or input_files.is_dir(file):
            return None
        raise MalformedFileError(f"{error.message}: {error.cause}") from error


def pem_of(entry: Entry, key: str) -> str | None:
    """Return a certificate or a key: ``KEY-data``, in base64, or else the file ``KEY``; None where there is neither.

    Raises:
        MalformedFileError: the file cannot be read.
        ValueError: the data cannot; the message does not show it.
    """
    data = entry.value.get(f"{key}-data")
    if data:
        try:
            return base64.b64decode("".join(str(data).split()), validate=True).decode("utf-8", "replace")
        except ValueError:
            raise ValueError(f"{key}-data is not base64") from None
    return file_of(entry, key)


def file_of(entry: Entry, key: str) -> str | None:
    """Return the text of the file that an entry names under ``key``; None where it names none.

    Raises:
        MalformedFileError: it cannot be read.
    """
    name = entry.value.get(key)
    if not isinstance(name, str) or not name:
        return None
    # comments between certificates may be in any encoding; a token with such characters is refused as it is used
    text = read_text(entry.directory / name, errors="replace")
    if text is None:
        raise MalformedFileError(f"file not found: {entry.directory / name}")
    return text


def is_true(value: object) -> bool:
    """Return whether a value is a boolean one that is true, in any of YAML's spellings."""
    return value is True or (isinstance(value, PlainText) and value.lower() in _YES)


def typed(value: object) -> object:
    """Return a value of :func:`read_kubeconfig` with the types that YAML gives its scalars."""
    if isinstance(value, Mapping):
        return {str(key): typed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [typed(each) for each in value]
    if not isinstance(value, PlainText):
        return value
    if value.lower() in _YES | _NO:
        return value.lower() in _YES
    for kind in (int, float):
        try:
            found = kind(value)
        except ValueError:
            continue
        return found if math.isfinite(found) else str(value)
    return str(value)


def _parse(text: str) -> Mapping[str, object]:
    """Return the object in a file, of YAML or JSON; {} for a file with nothing in it, as of ``touch``."""
    parsed = _json(text) if text.lstrip().startswith("{") else None
    if parsed is None:
        parsed = _yaml(text)
    if parsed is None or parsed == "":
        return {}
    if not isinstance(parsed, Mapping):
        raise MalformedFileError("the file is not an object")
    if parsed.get("kind") not in (None, "", "Config") or parsed.get("apiVersion") not in (None, "", "v1"):
        raise MalformedFileError("the file is an object of another kind: not of kind Config, version v1")
    return parsed


def _json(text: str) -> object:
    """Return what a file of JSON has; None where it is none. YAML's parser does not accept the tabs of JSON."""
    try:
        return json.loads(text, parse_int=PlainText, parse_float=PlainText)
    except (ValueError, RecursionError):
        return None


def _yaml(text: str) -> object:
    """Return the first document of a file, as kubectl does."""
    import yaml

    # a subclass of pyyaml's pure loader: libyaml's parser overflows the stack where values are nested deeply
    try:
        return _loader()(text).get_data()
    except yaml.YAMLError as error:
        # The parser's message has the lines around the error, which may hold a token.
        mark = getattr(error, "problem_mark", None)
        raise MalformedFileError(f"invalid YAML, line {mark.line + 1}" if mark else "invalid YAML") from None
    except RecursionError:
        raise MalformedFileError("values are nested too deeply") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
        raise MalformedFileError("invalid YAML") from None


def _loader() -> Any:  # noqa: ANN401 - a class of pyyaml
    """Return a loader that makes every scalar a string, except null, and has merge keys but no tags."""
    import re

    import yaml

    class Loader(yaml.BaseLoader):
        aliases = merged = 0

        def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 - of pyyaml
            if self.check_event(yaml.AliasEvent):
                self.aliases += 1
                if self.aliases > _MAX_ALIASES:
                    raise yaml.YAMLError("too many aliases")
            return super().compose_node(parent, index)

        def construct_scalar(self, node: Any) -> Any:  # noqa: ANN401 - of pyyaml
            value = super().construct_scalar(node)
            return PlainText(value) if getattr(node, "style", "") is None else value

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: ANN401 - of pyyaml
            found = super().construct_mapping(node, deep)
            bases = found.pop("<<", None)
            for base in bases if isinstance(bases, list) else [bases]:
                if isinstance(base, Mapping):
                    self.merged += len(base)
                    if self.merged > _MAX_MERGED:
                        raise yaml.YAMLError("too many merged keys")
                    found = {**base, **found}
            return found

    null = "tag:yaml.org,2002:null"
    Loader.add_implicit_resolver(null, re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
    Loader.add_constructor(null, lambda loader, node: None)
    return Loader


def _entries(content: Mapping[str, object], group: str, directory: Path) -> dict[str, Entry]:
    """Return the entries of one file by name.

    Raises:
        MalformedFileError: there are others, or two of one name, which kubectl refuses, too.
    """
    found = content.get(group)
    if found is None:
        return {}
    if not isinstance(found, list):
        raise MalformedFileError(f"{group} is not a list")
    entries: dict[str, Entry] = {}
    for number, each in enumerate(found, 1):
        fields = {} if each is None else each
        name = (fields.get("name") or "") if isinstance(fields, Mapping) else None
        if not isinstance(name, str):
            raise MalformedFileError(f"entry {number} of {group} has no name")
        if name in entries:
            raise MalformedFileError(f"entry {number} of {group} has the name of another one")
        value = fields.get(group[:-1])
        entries[name] = Entry(name, value if isinstance(value, Mapping) else {}, directory)
    return entries
