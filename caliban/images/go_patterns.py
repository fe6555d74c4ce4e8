"""What Go's standard library makes of patterns: the syntax check of ``filepath.Match``, and names of classes.

Names that are not UTF-8 have a lone surrogate for each odd byte (``surrogateescape``).
"""

from __future__ import annotations

import posixpath
from typing import TypeAlias

Ranges: TypeAlias = "tuple[tuple[str, str], ...]"
"""Pairs of the first and last character."""

SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""What ``strings.TrimSpace`` removes: Python's ``strip`` removes more."""

_DIGIT = (("0", "9"),)
_UPPER = (("A", "Z"),)
_LOWER = (("a", "z"),)
_LETTER = _UPPER + _LOWER
_WORD = _DIGIT + _LETTER + (("_", "_"),)

PERL: dict[str, Ranges] = {
    "d": _DIGIT,
    "s": (("\t", "\n"), ("\f", "\r"), (" ", " ")),
    "w": _WORD,
}
r"""``\d``, ``\s`` and ``\w`` of regular expressions, ASCII only; a capital letter negates them."""

NAMED: dict[str, Ranges] = {
    "alnum": _DIGIT + _LETTER,
    "alpha": _LETTER,
    "ascii": (("\0", "\x7f"),),
    "blank": (("\t", "\t"), (" ", " ")),
    "cntrl": (("\0", "\x1f"), ("\x7f", "\x7f")),
    "digit": _DIGIT,
    "graph": (("!", "~"),),
    "lower": _LOWER,
    "print": ((" ", "~"),),
    "punct": (("!", "/"), (":", "@"), ("[", "`"), ("{", "~")),
    "space": (("\t", "\r"), (" ", " ")),
    "upper": _UPPER,
    "word": _WORD,
    "xdigit": (*_DIGIT, ("A", "F"), ("a", "f")),
}
"""``[:alnum:]`` and the others, within a class."""


class _Malformed(ValueError):
    """Go's ``ErrBadPattern``."""


def clean(path: str) -> str:
    """Return a path without ``.``, ``..`` and double slashes, as ``filepath.Clean``."""
    # POSIX, and so Python, keeps two slashes at the beginning.
    return posixpath.normpath("/" + path.lstrip("/") if path.startswith("/") else path)


def is_malformed(pattern: str) -> bool:
    """Return whether ``filepath.Match(pattern, ".")`` finds an error, as BuildKit asks it.

    It reads the pattern up to the first part, between two ``*``, that does not match: what follows is not checked.
    """
    name = "."
    while pattern:
        star = pattern.startswith("*")
        chunk, pattern = _next_chunk(pattern.lstrip("*"))
        if star and not chunk:
            return False
        try:
            starts = ("", name) if star and name else (name,)
            rests = [rest for rest in (_match_chunk(chunk, start) for start in reversed(starts)) if rest is not None]
        except _Malformed:
            return True
        fitting = [rest for rest in rests if not rest or pattern]
        if not fitting:
            return False
        name = fitting[0]
    return False


def _next_chunk(pattern: str) -> tuple[str, str]:
    """Return the pattern up to its first ``*`` outside of a class, and the rest."""
    position, in_class = 0, False
    while position < len(pattern):
        character = pattern[position]
        if character == "*" and not in_class:
            break
        if character in "[]":
            in_class = character == "["
        position += 2 if character == "\\" and position + 1 < len(pattern) else 1
    return pattern[:position], pattern[position:]


def _match_chunk(chunk: str, name: str) -> str | None:
    """Return what follows in the name, or None where its beginning does not match. All of the chunk is checked.

    Raises:
        _Malformed: it is malformed.
    """
    failed = False
    while chunk:
        failed = failed or not name
        first, name = name[:1], name[1:]
        if chunk[0] == "[":
            matched, chunk = _match_class(chunk[1:], first)
        elif chunk[0] == "?":
            matched, chunk = first != "/", chunk[1:]
        else:
            chunk = chunk.removeprefix("\\")
            if not chunk:
                raise _Malformed
            matched, chunk = chunk[0] == first, chunk[1:]
        failed = failed or not matched
    return None if failed else name


def _match_class(chunk: str, character: str) -> tuple[bool, str]:
    negated = chunk.startswith("^")
    chunk = chunk.removeprefix("^")
    found, first = False, True
    while first or not chunk.startswith("]"):
        first = False
        low, chunk = _class_character(chunk)
        high = low
        if chunk.startswith("-"):
            high, chunk = _class_character(chunk[1:])
        found = found or low <= character <= high
    return found != negated, chunk[1:]


def _class_character(chunk: str) -> tuple[str, str]:
    if chunk.startswith(("-", "]")):
        raise _Malformed
    chunk = chunk.removeprefix("\\")
    if len(chunk) < 2 or "\udc80" <= chunk[0] <= "\udcff":  # nothing follows, or not UTF-8
        raise _Malformed
    return chunk[0], chunk[1:]
