"""One pattern of ``.dockerignore``, with the meaning that BuildKit gives it (github.com/moby/patternmatcher).

A pattern is a plain name, a prefix, a suffix, or an expression of the subset of Go's regular expressions that patterns
translate to: escapes and classes have Go's meaning. An expression is applied to all positions of a path at once:
integers are sets of positions, so that the time is at most the length of the pattern times that of the path. Python's
``re`` needs exponential time for some patterns; it is used, since it is ten times as fast, for those that have only
names and at most two of ``*`` and ``**``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from caliban.images.go_patterns import NAMED, PERL, SPACE, Ranges, clean, is_malformed

_SINGLE_ESCAPES = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_NEWLINE: Ranges = (("\n", "\n"),)
_SLASH: Ranges = (("/", "/"),)
_ESCAPED = frozenset(".+()$")
"""What patternmatcher escapes. It means to escape braces and ``|``, too, but shifts their bits out of a byte."""
_ANY_NAME = "[^/]"
_DIRECTORIES = "(.*/)?"
_REST = ".*"
_UNUSUAL = re.compile(r"[^\w./*? -]")
_MAX_STARS_OF_RE = 2
_REPETITION = re.compile(r"\{\d+(?:,\d*)?\}")


class PatternError(ValueError):
    """A pattern that BuildKit rejects, too."""


class PathText:
    """A path, for all patterns: its text and the positions of each character."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def where(self) -> dict[str, int]:
        """The set of the positions of each character."""
        where: dict[str, int] = {}
        for position, character in enumerate(self.text):
            where[character] = where.get(character, 0) | 1 << position
        return where

    @property
    def all(self) -> int:
        """The set of the positions of all characters; the position after the last is not in it."""
        return (1 << len(self.text)) - 1


class _Step(Protocol):
    """One element of an expression: which positions it leads to from some positions of a path."""

    def __call__(self, positions: int, path: PathText, /) -> int: ...


class Pattern:
    """A line of the file, cleaned.

    Args:
        line: the pattern without white space around it, and without slashes at the beginning.

    Attributes:
        line: the pattern as it was given.
        includes: whether it begins with ``!``.
        text: the pattern without ``!``.

    Raises:
        PatternError: BuildKit rejects it before it looks at any file.
    """

    def __init__(self, line: str) -> None:
        self.line = line
        cleaned = clean(line.strip(SPACE))
        self.includes = cleaned.startswith("!")
        self.text = cleaned[1:] if self.includes else cleaned
        if not self.text:
            raise PatternError('there is nothing after "!"')
        if is_malformed(self.text):
            raise PatternError('"[" without "]", or an escape without a character')

    def matches(self, path: PathText) -> bool:
        """Return whether the pattern matches the path itself; see ``Ignored`` for the directories above it.

        Raises:
            PatternError: BuildKit rejects the pattern when it first applies it.
        """
        kind, _ = self._compiled
        if kind == "exact":
            return path.text == self.text
        if kind == "prefix":
            return path.text.startswith(self.text[:-2])
        if kind == "suffix":
            suffix = self.text[2:]
            return path.text.endswith(suffix) or (suffix.startswith("/") and path.text == suffix[1:])
        return self._matches_expression(path)

    def _matches_expression(self, path: PathText) -> bool:
        if self._simple is not None:
            return self._simple.fullmatch(path.text) is not None
        return any(_leads_anywhere(steps, path) for steps in self._alternatives)

    @cached_property
    def below(self) -> str | None:
        """The directory (with a slash) in which the pattern matches, and below; None where it has wildcards."""
        directory = self.text.removesuffix("/**").removesuffix("/*")
        return None if re.search(r"[*\[\]?^\\]", directory) else f"{directory}/"

    @cached_property
    def _compiled(self) -> tuple[str, str]:
        return _translated(self.text)

    @cached_property
    def _simple(self) -> re.Pattern[str] | None:
        if _UNUSUAL.search(self.text) or len(re.findall(r"\*\*?", self.text)) > _MAX_STARS_OF_RE:
            return None
        return re.compile(self._compiled[1])

    @cached_property
    def _alternatives(self) -> list[list[_Step]]:
        result: list[list[_Step]] = [[]]
        for step in _parsed(self._compiled[1]):
            if step is None:
                result.append([])
            else:
                result[-1].append(step)
        return result


def _leads_anywhere(steps: list[_Step], path: PathText) -> bool:
    positions = path.all << 1 | 1
    for step in steps:
        positions = step(positions, path)
        if not positions:
            return False
    return True


def _translated(pattern: str) -> tuple[str, str]:
    """Return the kind of a pattern (exact, prefix, suffix or expression) and the expression.

    As with BuildKit, characters of a class are translated like others: ``[*]`` is the class ``[[^/]`` any number of
    times, then ``]``.
    """
    kind, result, position = "exact", "", 0
    while position < len(pattern):
        first, character = position == 0, pattern[position]
        position += 1
        if character == "*" and pattern.startswith("*", position):
            position += 2 if pattern.startswith("/", position + 1) else 1
            at_end = position == len(pattern)
            result += _REST if at_end else _DIRECTORIES
            kind = "suffix" if first else "prefix" if at_end and kind == "exact" else "expression"
        elif character in "*?":
            result += f"{_ANY_NAME}*" if character == "*" else _ANY_NAME
            kind = "expression"
        elif character == "\\":
            result += pattern[position - 1 : position + 1]
            kind = "expression" if position < len(pattern) else kind
            position += 1
        else:
            result += f"\\{character}" if character in _ESCAPED else character
            kind = "expression" if character in "[]" else kind
    return kind, f"^{result}$"


def _parsed(expression: str) -> Iterator[_Step | None]:
    """Yield the steps of an expression that ``_translated`` returned, and None between alternatives.

    Raises:
        PatternError: Go rejects the expression.
    """
    position = 0
    while position < len(expression):
        character = expression[position]
        if expression.startswith((_DIRECTORIES, _REST), position):
            directories = character == "("
            yield _directories if directories else _rest
            position += len(_DIRECTORIES if directories else _REST)
        elif character == "[":
            parsed, position = _parsed_class(expression, position + 1)
            repeated = expression.startswith("*", position)
            yield _Repeated(parsed) if repeated else parsed
            position += repeated
        elif character in _SINGLE:
            yield _SINGLE[character]
            position += 1
        elif character == "\\":
            yield _escape(expression[position + 1 : position + 2])
            position += 2
        elif _REPETITION.match(expression, position):
            raise PatternError('a number in braces; write "\\{" for a brace')
        else:
            yield _Characters(((character, character),))
            position += 1


def _escape(letter: str) -> _Step:
    if letter == "A":
        return _start
    if letter == "z":
        return _end
    if letter in ("b", "B"):
        return _Boundary(negated=letter == "B")
    if letter.lower() in PERL:
        return _Characters(PERL[letter.lower()], negated=letter.isupper())
    return _Characters(((_escaped_character(letter),) * 2,))


def _escaped_character(letter: str) -> str:
    if letter in _SINGLE_ESCAPES:
        return _SINGLE_ESCAPES[letter]
    if not letter or not letter.isascii() or letter.isalnum():
        raise PatternError(f'invalid escape "\\{letter}"; use "/" between directories')
    return letter


def _parsed_class(expression: str, position: int) -> tuple[_Characters, int]:
    """Return the class that begins at a position, after its bracket, and the position after it."""
    negated = expression.startswith("^", position)
    position += negated
    start = position
    parts: list[_Characters] = []
    while position == start or not expression.startswith("]", position):
        named = re.compile(r"\[:(.*?):\]", re.DOTALL).match(expression, position)
        letter = expression[position + 1 : position + 2] if expression.startswith("\\", position) else ""
        if named:
            parts.append(_named_class(named[1]))
            position = named.end()
        elif letter and letter.lower() in PERL:
            parts.append(_Characters(PERL[letter.lower()], negated=letter.isupper()))
            position += 2
        else:
            first, position = _class_character(expression, position)
            last = first
            if expression.startswith("-", position) and expression[position + 1 : position + 2] not in ("]", ""):
                last, position = _class_character(expression, position + 1)
            if last < first:
                raise PatternError(f'invalid range "{first}-{last}"')
            parts.append(_Characters(((first, last),)))
    return _union(parts, negated), position + 1


def _named_class(name: str) -> _Characters:
    plain = name.removeprefix("^")
    if plain not in NAMED:
        raise PatternError(f'invalid class "[:{name}:]"')
    return _Characters(NAMED[plain], negated=name.startswith("^"))


def _class_character(expression: str, position: int) -> tuple[str, int]:
    if position >= len(expression):
        raise PatternError('"[" without "]"')
    if expression[position] == "\\":
        return _escaped_character(expression[position + 1 : position + 2]), position + 2
    return expression[position], position + 1


def _union(parts: list[_Characters], negated: bool) -> _Characters:
    if any(part.negated for part in parts):
        return _Characters((), negated, tuple(parts))
    return _Characters(tuple(each for part in parts for each in part.ranges), negated)


@dataclass(frozen=True)
class _Characters:
    """One character: of any of the ranges (pairs of the first and last) or parts."""

    ranges: Ranges
    negated: bool = False
    parts: tuple[_Characters, ...] = ()

    def __call__(self, positions: int, path: PathText) -> int:
        return (positions & self.found(path)) << 1

    def found(self, path: PathText) -> int:
        """Return the set of the positions of such characters."""
        found = 0
        for character, where in path.where.items():
            if any(first <= character <= last for first, last in self.ranges):
                found |= where
        for part in self.parts:
            found |= part.found(path)
        return path.all ^ found if self.negated else found


@dataclass(frozen=True)
class _Repeated:
    """Any number of such characters."""

    characters: _Characters

    def __call__(self, positions: int, path: PathText) -> int:
        # The sum carries each position to the end of its run of such characters.
        found = self.characters.found(path)
        return positions | (((positions & found) + found) ^ found)


@dataclass(frozen=True)
class _Boundary:
    negated: bool

    def __call__(self, positions: int, path: PathText) -> int:
        words = _Characters(PERL["w"]).found(path)
        boundaries = words ^ (words << 1)
        return positions & ~boundaries if self.negated else positions & boundaries


_rest = _Repeated(_Characters(_NEWLINE, negated=True))
"""``.*``: Go's dot matches no newline."""


def _directories(positions: int, path: PathText) -> int:
    """``(.*/)?``: nothing, or anything that ends with a slash."""
    return positions | _Characters(_SLASH)(_rest(positions, path), path)


def _start(positions: int, path: PathText) -> int:
    return positions & 1


def _end(positions: int, path: PathText) -> int:
    return positions & (1 << len(path.text))


_SINGLE: dict[str, _Step | None] = {"^": _start, "$": _end, "|": None}
