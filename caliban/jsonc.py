"""JSON as people write it by hand: with comments and trailing commas.

caliban 0.4.2 accepts both in ``experiment.json`` and ``.calibanconfig.json``, so files that were written for it are
read here.
"""

from __future__ import annotations

import json
import math
import re
from typing import NoReturn

from caliban.errors import UsageError

_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"?|//[^\n]*|#[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_STRING_OR_LAST_COMMA = re.compile(r'"(?:\\.|[^"\\\n])*"?|,(?=\s*[}\]])', re.DOTALL)
_SHOWN_WIDTH = 100


class _RefusedValueError(ValueError):
    """Something that the standard parser lets pass and we do not; it has no place, only words."""


def loads(text: str, *, source: str) -> object:
    r"""Read JSON with ``//``, ``#`` and ``/* */`` comments and trailing commas.

    Comments are blanked in place, so that every line and column in an error is that of the text as given.

    Args:
        text: the whole text; a byte order mark at its start is allowed.
        source: the name of the file, for messages.

    Raises:
        UsageError: ``malformed-json``, with source, line and column; also for a key that stands twice in one object,
            for ``NaN`` and ``Infinity``, and for numbers that are too large.
    """
    plain = _without_last_commas(_without_comments(text.replace("\ufeff", " ", 1), source))
    try:
        value: object = json.loads(
            plain, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole
        )
    except json.JSONDecodeError as error:
        raise _malformed(text, source, error.pos, error.msg) from error
    except _RefusedValueError as error:
        raise UsageError("malformed-json", f"{source} is not usable: {error}") from error
    except RecursionError as error:
        raise UsageError("malformed-json", f"{source} is not usable: it is nested too deeply") from error
    return value


def _without_comments(text: str, source: str) -> str:
    def blank(match: re.Match[str]) -> str:
        found = match.group()
        if found.startswith('"'):
            return found
        if found.startswith("/*") and (len(found) < len("/**/") or not found.endswith("*/")):
            raise _malformed(text, source, match.start(), "this comment is never closed")
        return re.sub(r"[^\n]", " ", found)

    return _STRING_OR_COMMENT.sub(blank, text)


def _without_last_commas(text: str) -> str:
    def blank(match: re.Match[str]) -> str:
        if match.group() != ",":
            return match.group()
        before = match.start() - 1
        while before >= 0 and text[before].isspace():
            before -= 1
        # `[,]` and `[1,,]` stay wrong: a trailing comma follows a value.
        return " " if before >= 0 and text[before] not in "[{,:" else ","

    return _STRING_OR_LAST_COMMA.sub(blank, text)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise _RefusedValueError(f"the key {json.dumps(key)} stands twice in one object")
        result[key] = value
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise _RefusedValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _RefusedValueError(f"the number {digits} is too large")
    return number


def _whole(digits: str) -> int:
    try:
        return int(digits)
    except ValueError as error:  # CPython refuses integers of more than 4300 digits
        raise _RefusedValueError(f"the number {digits[:20]}... is too large") from error


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
        f"{source} is not JSON: line {line}, column {column}",
        cause=f"{reason}\n{shown[cut : cut + _SHOWN_WIDTH]}\n{caret}",
        hint="comments (//, #, /* */) and trailing commas are allowed; everything else is standard JSON",
    )
