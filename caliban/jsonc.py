"""JSON with comments and trailing commas, which caliban 0.4.2 accepts in its files too."""

from __future__ import annotations

import json
import math
import re
from typing import NoReturn

from caliban.errors import UsageError

_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"?|//[^\n]*|#[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_STRING_OR_TRAILING_COMMA = re.compile(r'"(?:\\.|[^"\\\n])*"?|,(?=\s*[}\]])', re.DOTALL)
_SHOWN_WIDTH = 100


class _InvalidValueError(ValueError):
    """A value that the standard parser accepts and this one does not; its position is not known."""


def loads(text: str, *, source: str) -> object:
    r"""Parse JSON with ``//``, ``#`` and ``/* */`` comments and trailing commas.

    Comments are replaced by spaces, so that lines and columns in errors are those of the original text.

    Args:
        text: the content; it may start with a byte order mark.
        source: the file's name, for messages.

    Raises:
        UsageError: ``malformed-json``, with line and column; also for duplicate keys, ``NaN``, ``Infinity`` and
            numbers that are out of range.
    """
    plain = _without_trailing_commas(_without_comments(text.replace("\ufeff", " ", 1), source))
    try:
        value: object = json.loads(
            plain, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole
        )
    except json.JSONDecodeError as error:
        raise _malformed(text, source, error.pos, error.msg) from error
    except _InvalidValueError as error:
        raise UsageError("malformed-json", f"{source}: {error}") from error
    except RecursionError as error:
        raise UsageError("malformed-json", f"{source}: nested too deeply") from error
    return value


def _without_comments(text: str, source: str) -> str:
    def blank(match: re.Match[str]) -> str:
        found = match.group()
        if found.startswith('"'):
            return found
        if found.startswith("/*") and (len(found) < len("/**/") or not found.endswith("*/")):
            raise _malformed(text, source, match.start(), "unterminated comment")
        return re.sub(r"[^\n]", " ", found)

    return _STRING_OR_COMMENT.sub(blank, text)


def _without_trailing_commas(text: str) -> str:
    def blank(match: re.Match[str]) -> str:
        if match.group() != ",":
            return match.group()
        before = match.start() - 1
        while before >= 0 and text[before].isspace():
            before -= 1
        # `[,]` and `[1,,]` stay invalid: a trailing comma follows a value.
        return " " if before >= 0 and text[before] not in "[{,:" else ","

    return _STRING_OR_TRAILING_COMMA.sub(blank, text)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise _InvalidValueError(f"duplicate key {json.dumps(key)}")
        result[key] = value
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise _InvalidValueError(f"{name} is not valid JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _InvalidValueError(f"number out of range: {digits}")
    return number


def _whole(digits: str) -> int:
    try:
        return int(digits)
    except ValueError as error:  # CPython limits integers to 4300 digits
        raise _InvalidValueError(f"number out of range: {digits[:20]}...") from error


def _malformed(text: str, source: str, position: int, reason: str) -> UsageError:
    line = text.count("\n", 0, position) + 1
    start = text.rfind("\n", 0, position) + 1
    column = position - start + 1
    end = text.find("\n", position)
    shown = text[start : end if end >= 0 else len(text)].rstrip("\r").replace("\t", " ").replace("\ufeff", " ")
    cut = max(0, column - _SHOWN_WIDTH)
    caret = " " * (column - 1 - cut) + "^"
    return UsageError(
        "malformed-json",
        f"{source}: invalid JSON at line {line}, column {column}",
        cause=f"{reason}\n{shown[cut : cut + _SHOWN_WIDTH]}\n{caret}",
        hint="use standard JSON; comments (//, #, /* */) and trailing commas are allowed",
    )
