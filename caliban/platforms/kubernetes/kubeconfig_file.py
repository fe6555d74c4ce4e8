"""Read kubeconfig files as plain data: strings, lists and objects. Whatever is in a file, reading it ends.

Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/#merging-kubeconfig-files.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caliban import input_files
from caliban.input_files import InputFileError

MAX_SIZE = 4 * 2**20
"""Bytes of a file: a kubeconfig of hundreds of clusters has less than one megabyte."""

_MAX_ALIASES = 1000


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
    """The merged content of several files: the first entry of a name wins, as does the first current context."""

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
        parsed = _parse(text)
        for group, entries in groups.items():
            for entry in _entries(parsed, group, file.parent.absolute()):
                entries.setdefault(entry.name, entry)
        named = parsed.get("current-context")
        current = current or (named if isinstance(named, str) else "")
    return KubeconfigContent(current, **groups)


def read_text(file: Path) -> str | None:
    """Return the text of a regular file of bounded size; None for one that does not exist, or is a directory.

    Raises:
        MalformedFileError: it cannot be read, or is something else, such as a device or a pipe.
    """
    try:
        return input_files.read_text(file, limit=MAX_SIZE)
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
            return base64.b64decode("".join(str(data).split()), validate=True).decode("ascii")
        except ValueError:
            raise ValueError(f"{key}-data is not base64 of a PEM file") from None
    return file_of(entry, key)


def file_of(entry: Entry, key: str) -> str | None:
    """Return the text of the file that an entry names under ``key``; None where it names none.

    Raises:
        MalformedFileError: it cannot be read.
    """
    name = entry.value.get(key)
    if not isinstance(name, str) or not name:
        return None
    text = read_text(entry.directory / name)
    if text is None:
        raise MalformedFileError(f"file not found: {entry.directory / name}")
    return text


def _parse(text: str) -> Mapping[str, object]:
    import yaml

    try:
        # a subclass of pyyaml's pure loader: libyaml's parser overflows the stack where values are nested deeply
        parsed = yaml.load(text, _loader())
    except yaml.YAMLError as error:
        # The parser's message has the lines around the error, which may hold a token.
        mark = getattr(error, "problem_mark", None)
        raise MalformedFileError(f"invalid YAML, line {mark.line + 1}" if mark else "invalid YAML") from None
    except RecursionError:
        raise MalformedFileError("values are nested too deeply") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
        raise MalformedFileError("invalid YAML") from None
    if parsed is None or parsed == "":
        raise MalformedFileError("the file is empty")
    if not isinstance(parsed, Mapping):
        raise MalformedFileError("the file is not an object")
    return parsed


def _loader() -> Any:  # noqa: ANN401 - a class of pyyaml
    """Return a loader that makes every scalar a string, except null, and has neither tags nor merge keys."""
    import re

    import yaml

    class Loader(yaml.BaseLoader):
        aliases = 0

        def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 - of pyyaml
            if self.check_event(yaml.AliasEvent):
                self.aliases += 1
                if self.aliases > _MAX_ALIASES:
                    raise yaml.YAMLError("too many aliases")
            return super().compose_node(parent, index)

    null = "tag:yaml.org,2002:null"
    Loader.add_implicit_resolver(null, re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
    Loader.add_constructor(null, lambda loader, node: None)
    return Loader


def _entries(content: Mapping[str, object], group: str, directory: Path) -> list[Entry]:
    found = content.get(group)
    if found is None:
        return []
    if not isinstance(found, list):
        raise MalformedFileError(f"{group} is not a list")
    entries = []
    for number, each in enumerate(found, 1):
        name = each.get("name") if isinstance(each, Mapping) else None
        if not isinstance(name, str):
            raise MalformedFileError(f"entry {number} of {group} has no name")
        value = each.get(group[:-1])
        entries.append(Entry(name, value if isinstance(value, Mapping) else {}, directory))
    return entries
