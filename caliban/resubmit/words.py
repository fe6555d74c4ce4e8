"""Split the arguments of an experiment into flags, assignments and positional words. Pure.

caliban does not know the flags of a script, so that it reads a command line as most scripts do:

- A flag is ``--name``, ``-n`` or ``-name``. The words that follow it up to the next flag are its values. After the
  first of them, ``name=value`` is an assignment and not a value.
- ``--name=value`` and ``name=value`` are complete in one word.
- Numbers with a sign are values: ``-1``, ``-.5``, ``-1e-3``, ``-inf``.
- ``--`` ends the flags: what follows it is positional.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, unique

from caliban.parameters import ASSIGNMENT, NUMBER

_FLAG = re.compile(r"(-+[^\s=-][^\s=]*)(?:=(.*))?", re.DOTALL)
_OTHER_NUMBER = re.compile(r"-(?:inf|infinity|nan)", re.IGNORECASE)


@unique
class Style(Enum):
    """How a parameter is written."""

    SEPARATE = "separate"
    """``--name``, ``--name value``, ``--name value value``."""
    ATTACHED = "attached"
    """``--name=value``."""
    ASSIGNMENT = "assignment"
    """``name=value``, as in Hydra."""
    POSITIONAL = "positional"
    """Any other word; or ``--`` and everything after it."""


@dataclass(frozen=True)
class Part:
    """A flag with its values, an assignment, or a positional word.

    Attributes:
        name: as it is written, with its dashes: ``--lr``; None for a positional word.
        style: how it is written.
        values: what follows the name; the words themselves where it has none.
    """

    name: str | None
    style: Style
    values: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the command line."""
        if self.name is None:
            return self.values
        if self.style is Style.SEPARATE:
            return (self.name, *self.values)
        return (f"{self.name}={self.values[0]}",)

    @property
    def ends_flags(self) -> bool:
        """Whether this is ``--`` with what follows it."""
        return self.name is None and self.values[0] == "--"


def is_flag(word: str) -> bool:
    """Return whether a word would be read as a flag, and not as the value of one."""
    if not word.startswith("-"):
        return False
    if NUMBER.fullmatch(word) or _OTHER_NUMBER.fullmatch(word):
        return False
    return word == "--" or bool(_FLAG.fullmatch(word))


def split(words: Sequence[str]) -> list[Part]:
    """Return the parts of a command line; their words together are ``words``."""
    return list(_parts(words))


def join(parts: Iterable[Part]) -> tuple[str, ...]:
    """Return the words of a command line."""
    return tuple(word for part in parts for word in part.words)


def _parts(words: Sequence[str]) -> Iterator[Part]:
    position = 0
    while position < len(words):
        word = words[position]
        if word == "--":
            yield Part(None, Style.POSITIONAL, tuple(words[position:]))
            return
        part = _part(word, words, position)
        yield part
        position += len(part.words)


def _part(word: str, words: Sequence[str], position: int) -> Part:
    if is_flag(word):
        found = _FLAG.fullmatch(word)
        assert found is not None
        if found[2] is not None:
            return Part(found[1], Style.ATTACHED, (found[2],))
        return Part(word, Style.SEPARATE, tuple(_values(words, position + 1)))
    assignment = _assignment(word)
    if assignment:
        value = assignment[2]
        return Part(word[: len(word) - len(value) - 1], Style.ASSIGNMENT, (value,))
    return Part(None, Style.POSITIONAL, (word,))


def _assignment(word: str) -> re.Match[str] | None:
    return ASSIGNMENT.fullmatch(word) if "=" in word else None


def _values(words: Sequence[str], start: int) -> Iterator[str]:
    for position in range(start, len(words)):
        word = words[position]
        if is_flag(word) or (position > start and _assignment(word)):
            return
        yield word
