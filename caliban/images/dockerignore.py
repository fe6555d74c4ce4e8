"""Which files ``.dockerignore`` excludes, by the rules of docker-py, which follow those of moby.

docker-py's own matcher translates a pattern to a regular expression, which needs exponential time for some patterns.
Here a pattern is applied to all positions of a path at once: integers are sets of positions, so that the time is at
most the length of the pattern times that of the path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from caliban import input_files
from caliban.errors import ImageError
from caliban.input_files import InputFileError

FILE = ".dockerignore"

MAX_BYTES = 64 * 1024
"""Bytes of the file, at most: each file of the project is compared with all of it."""

# Before the project's own patterns, so that a pattern with `!` can include any of these.
_DEFAULT = (".git", "**/.git", ".caliban*", "**/__pycache__")
_TOKEN = re.compile(r"\*\*/?|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)


class Ignored:
    """The patterns of ``.dockerignore``. Of those that match a path, the last decides."""

    def __init__(self, patterns: Iterator[str]) -> None:
        found = (_Pattern.parse(pattern) for pattern in (*_DEFAULT, *patterns, f"!{FILE}"))
        self._patterns = [pattern for pattern in found if pattern.parts]

    @classmethod
    def read(cls, directory: Path) -> Ignored:
        """Read the file of a directory; without a file, only ``.git``, ``.caliban*`` and caches are excluded.

        Raises:
            ImageError: ``context-unreadable``.
        """
        try:
            # Names that are not UTF-8 are matched byte by byte.
            text = input_files.read_text(directory / FILE, limit=MAX_BYTES, errors="surrogateescape")
        except InputFileError as error:
            if not error.is_missing:
                raise error.translated(ImageError, "context-unreadable", f"cannot read {FILE}") from error
            text = ""
        return cls(line.strip() for line in text.split("\n") if line.strip() and not line.startswith("#"))

    def excludes(self, relative: str) -> bool:
        """Return whether a path is excluded, itself or by a directory above it."""
        path = _Path.of(relative)
        excluded = False
        for pattern in self._patterns:
            if pattern.matches(path):
                excluded = not pattern.includes
        return excluded

    def may_include_below(self, relative: str) -> bool:
        """Return whether a pattern with ``!`` may include something below an excluded directory."""
        start = relative.lower()
        return any(each.includes and "/".join(each.parts).startswith(start) for each in self._patterns)


@dataclass(frozen=True)
class _Path:
    """A path, for all patterns.

    Attributes:
        ends: the position after each of its parts.
        where: the set of the positions of each character.
    """

    ends: tuple[int, ...]
    where: Mapping[str, int]

    @classmethod
    def of(cls, relative: str) -> _Path:
        text = relative.lower()  # as docker-py, on every system
        where: dict[str, int] = {}
        for position, character in enumerate(text):
            where[character] = where.get(character, 0) | 1 << position
        slashes = [position for position, character in enumerate(text) if character == "/"]
        return cls((*slashes, len(text)), where)

    @property
    def all(self) -> int:
        return (1 << self.ends[-1]) - 1

    @property
    def slashes(self) -> int:
        return self.where.get("/", 0)


class _Step(Protocol):
    """One element of a pattern: which positions it leads to from some positions of a path."""

    def __call__(self, positions: int, path: _Path, /) -> int: ...


@dataclass(frozen=True)
class _Pattern:
    """A line of the file.

    Attributes:
        includes: whether it begins with ``!``.
        parts: the pattern between slashes, in lower case.
        steps: its elements.
    """

    includes: bool
    parts: tuple[str, ...]
    steps: tuple[_Step, ...]

    @classmethod
    def parse(cls, line: str) -> _Pattern:
        parts: list[str] = []
        for part in line.removeprefix("!").strip().lower().split("/"):
            if part == "..":
                del parts[-1:]
            elif part not in ("", "."):
                parts.append(part)
        return cls(line.startswith("!"), tuple(parts), tuple(_steps("/".join(parts))))

    def matches(self, path: _Path) -> bool:
        """Return whether the pattern matches the path, or the directory above it that has as many parts as it."""
        positions = 1
        for step in self.steps:
            positions = step(positions, path)
            if not positions:
                return False
        wanted = 1 << path.ends[-1]
        if len(self.parts) < len(path.ends):
            wanted |= 1 << path.ends[len(self.parts) - 1]
        return bool(positions & wanted)


def _steps(pattern: str) -> Iterator[_Step]:
    for match in _TOKEN.finditer(pattern):
        token = match.group()
        if token.startswith("**"):
            yield _rest if match.end() == len(pattern) else _directories
        elif token == "*":
            yield _name
        elif token == "?":
            yield _Character("/", negated=True)
        elif token.startswith("[") and len(token) > 1:
            yield _Set.parse(token[1:-1])
        else:
            yield _Character(token)


@dataclass(frozen=True)
class _Character:
    character: str
    negated: bool = False

    def __call__(self, positions: int, path: _Path) -> int:
        found = path.where.get(self.character, 0)
        return (positions & (path.all ^ found if self.negated else found)) << 1


@dataclass(frozen=True)
class _Set:
    """``[a-z_]`` or ``[!a-z_]``: pairs of the first and last character."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool

    @classmethod
    def parse(cls, text: str) -> _Set:
        negated = text.startswith("!")
        ranges = re.findall(r"(.)-(.)|(.)", text[negated:], re.DOTALL)
        return cls(tuple((first or single, last or single) for first, last, single in ranges), negated)

    def __call__(self, positions: int, path: _Path) -> int:
        found = 0
        for character, where in path.where.items():
            if any(first <= character <= last for first, last in self.ranges) != self.negated:
                found |= where
        return (positions & found) << 1


def _name(positions: int, path: _Path) -> int:
    """``*``: any characters but slashes. The sum carries each position to the end of its run of such characters."""
    others = path.all ^ path.slashes
    return positions | (((positions & others) + others) ^ others)


def _directories(positions: int, path: _Path) -> int:
    """``**/``: nothing, or anything that ends with a slash."""
    first = positions & -positions
    return positions | ((path.slashes << 1) & ~((first << 1) - 1))


def _rest(positions: int, path: _Path) -> int:
    """``**`` at the end: anything."""
    first = positions & -positions
    return ((path.all << 1) | 1) & ~(first - 1)
