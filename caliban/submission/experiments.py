"""Expand ``experiment.json`` into the flags of each experiment of a group.

The file is JSON with comments: an object, or a list of objects. Lists of values are combined as a Cartesian product;
``"[a,b]": [[1, 2], [3, 4]]`` varies ``a`` and ``b`` together; ``true`` becomes the bare flag, ``false`` no flag. Where
the file has changes of recorded experiments, ``null`` removes a flag; elsewhere it is an error.
Errors name the file, entry and key.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from caliban import input_files, jsonc
from caliban.errors import UsageError
from caliban.input_files import shortened

Scalar: TypeAlias = "str | int | float | bool"
Setting: TypeAlias = "Scalar | None"
Settings: TypeAlias = "list[dict[str, Setting]]"

MAX_BYTES = 4 * input_files.MIB
"""Bytes of an experiment file, at most."""

MAX_EXPERIMENTS = 100_000
"""Experiments of one file, at most: counted before anything is expanded."""

MAX_SIZE = 500_000_000
"""Bytes of the names and values of all experiments together, at most, for the same reason."""

MAX_ARGUMENT = 128 * 1024 - 1
"""Bytes of one value, at most: Linux starts no program with a longer argument (MAX_ARG_STRLEN of execve(2))."""

_COUNTED = 10**15  # counting ends here: more keys would only make a larger number
_BYTES_PER_FLAG = 100  # besides its name and value
_COMPOUND = re.compile(r"\[(.*)\]", re.DOTALL)


@dataclass(frozen=True)
class _Entry:
    """One object of the file: the settings of each of its keys, which are combined."""

    axes: Sequence[Settings]

    @property
    def count(self) -> int:
        """The number of experiments, or one above ``_COUNTED``."""
        count = 1
        for axis in self.axes:
            count *= len(axis)
            if count > _COUNTED:
                break
        return count

    @property
    def size(self) -> int:
        """How many bytes the names and values of all experiments need together, approximately."""
        count = self.count
        return sum(count // len(axis) * sum(map(_size, axis)) for axis in self.axes)

    def experiments(self) -> Iterator[dict[str, Setting]]:
        for combination in itertools.product(*self.axes):
            yield {name: value for setting in combination for name, value in setting.items()}


def parse_experiments(text: str, *, source: str) -> list[dict[str, Scalar]]:
    """Return the flags of each experiment, in order, with the last key varying fastest.

    Args:
        text: the content of an experiment file.
        source: the file's name, for messages.

    Raises:
        UsageError: ``malformed-json``, ``malformed-experiments``, ``too-many-experiments``.
    """
    parsed = _parsed(text, source, removes=False)
    return [{key: value for key, value in each.items() if value is not None} for each in parsed]


def parse_changes(text: str, *, source: str) -> list[dict[str, Setting]]:
    """Return the changes of each combination of the file, where None removes a flag; otherwise as above."""
    return _parsed(text, source, removes=True)


def _parsed(text: str, source: str, *, removes: bool) -> list[dict[str, Setting]]:
    document = jsonc.loads(text, source=source)
    if isinstance(document, Mapping):
        entries = [_entry(document, source, removes=removes)]
    elif isinstance(document, list):
        entries = [
            _entry(each, f"{source}, entry {number}", removes=removes) for number, each in enumerate(document, 1)
        ]
    else:
        raise _wrong(source, f"expected an object or a list of objects, got {_kind(document)}")
    if not entries:
        raise _wrong(source, "the list of experiments is empty")
    _check_size(entries, source)
    return [experiment for entry in entries for experiment in entry.experiments()]


def read_experiments(config: str, directory: Path, read_input: Callable[[int], str]) -> tuple[str, str]:
    """Return the content of an experiment file, and its name for messages.

    Args:
        config: its path, or ``stdin``.
        directory: what a relative path starts from.
        read_input: reads standard input, up to a number of bytes.

    Raises:
        UsageError: ``no-experiment-config``.
    """
    is_stdin = config == "stdin"
    source = "standard input" if is_stdin else config
    try:
        text = read_input(MAX_BYTES) if is_stdin else input_files.read_text(directory / config, limit=MAX_BYTES)
    except input_files.InputFileError as error:
        raise _unreadable(source, error) from error
    return text, source


def _unreadable(source: str, error: input_files.InputFileError) -> UsageError:
    hint = "--experiment_config takes the path of a UTF-8 JSON file, or stdin"
    if error.id not in ("file-not-found", "not-a-file"):
        hint = f"{error.hint}; {hint}"
    return UsageError(
        "no-experiment-config", f"cannot read the experiments from {shortened(source)}", cause=error.cause, hint=hint
    )


def _check_size(entries: Sequence[_Entry], source: str) -> None:
    """Refuse what would fill the memory.

    Raises:
        UsageError: ``too-many-experiments``.
    """
    count = sum(entry.count for entry in entries)
    if count > MAX_EXPERIMENTS:
        raise UsageError(
            "too-many-experiments",
            f"{source}: {f'{count:,}' if count <= _COUNTED else 'more than 10^15'} experiments",
            cause=f"at most {MAX_EXPERIMENTS:,} are possible; every value is combined with all values of other keys",
            hint='shorten the lists, or vary flags together: "[width,depth]": [[64, 2], [128, 4]]',
        )
    if sum(entry.size for entry in entries) > MAX_SIZE:
        raise UsageError(
            "too-many-experiments",
            f"{source}: the flags of {count:,} experiments together have more than {MAX_SIZE // 10**6} MB",
            hint="write long values to a file of the project, and name it by a flag",
        )


def _size(setting: Mapping[str, Setting]) -> int:
    return sum(_BYTES_PER_FLAG + len(name) + len(str(value)) for name, value in setting.items())


def _entry(entry: object, location: str, *, removes: bool) -> _Entry:
    if not isinstance(entry, Mapping):
        raise _wrong(location, f"expected an object, got {_kind(entry)}")
    names: set[str] = set()
    axes: list[Settings] = []
    for key, value in entry.items():
        place = f'{location}, key "{shortened(key)}"'
        axis = _axis(key, value, place, removes=removes)
        repeated = names.intersection(axis[0])
        if repeated:
            raise _wrong(place, f"the flag {shortened(min(repeated))} is already set by another key")
        names.update(axis[0])
        axes.append(axis)
    return _Entry(axes)


def _axis(key: str, value: object, location: str, *, removes: bool) -> Settings:
    """Return the settings that one key of the file produces."""
    compound = _COMPOUND.fullmatch(key.strip())
    if compound is None:
        values = value if isinstance(value, list) else [value]
        if not values:
            raise _wrong(location, "the list of values is empty")
        return [{_flag(key, location): _setting(item, location, removes=removes)} for item in values]
    names = [_flag(name.strip(), location) for name in compound.group(1).split(",")]
    listed = shortened(", ".join(names))
    if len(set(names)) < len(names):
        raise _wrong(location, "duplicate flag")
    if not isinstance(value, list) or not value:
        raise _wrong(location, f"expected a list of lists, with one value for each of {listed}")
    rows = value if all(isinstance(row, list) for row in value) else [value]
    return [
        _compound_setting(names, row, f"{location}, row {number}", removes=removes)
        for number, row in enumerate(rows, 1)
    ]


def _compound_setting(
    names: Sequence[str], row: Sequence[object], location: str, *, removes: bool
) -> dict[str, Setting]:
    if len(row) != len(names):
        raise _wrong(location, f"expected one value for each of {shortened(', '.join(names))}, got {len(row)}")
    return {name: _setting(value, location, removes=removes) for name, value in zip(names, row, strict=True)}


def _flag(name: str, location: str) -> str:
    if name.startswith("-"):
        raise _wrong(location, f'write the flag without dashes: "{shortened(name.lstrip("-"))}"')
    if not name or re.search(r"[\s=]", name):
        raise _wrong(location, "invalid flag name")
    return name


def _setting(value: object, location: str, *, removes: bool) -> Setting:
    return None if value is None and removes else _scalar(value, location)


def _scalar(value: object, location: str) -> Scalar:
    if isinstance(value, str) and len(value.encode()) > MAX_ARGUMENT:
        raise _wrong(location, f"a value of {len(value.encode()):,} bytes; Linux allows {MAX_ARGUMENT:,}")
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
