"""JSON with comments and trailing commas, which caliban 0.4.2 accepts in its files too."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import NoReturn

from caliban.errors import UsageError

MAX_DEPTH = 100
"""Objects and lists inside each other, at most: deeper values could not be written again."""

_MAX_DIGITS = 4300  # of CPython's own limit for integers, which the environment can change

# Runs of plain characters: one group for each character would need 100 bytes of memory for it.
_STRING = r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"?'
_STRING_OR_COMMENT = re.compile(_STRING + r"|//[^\n]*|#[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_STRING_OR_TRAILING_COMMA = re.compile(_STRING + r"|,(?=\s*[}\]])", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN_WIDTH = 100
_CUT = 20


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
            numbers that are out of range, more than ``MAX_DEPTH`` levels, and strings that are no text.
    """
    start = " " if text.startswith("\ufeff") else ""
    plain = _without_trailing_commas(_without_comments(start + text[len(start) :], source))
    try:
        value: object = json.loads(
            plain, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole
        )
    except json.JSONDecodeError as error:
        raise _malformed(text, source, error.pos, error.msg) from error
    except _InvalidValueError as error:
        raise UsageError("malformed-json", f"{source}: {error}", hint="use standard JSON") from error
    except RecursionError as error:
        raise _too_deep(source) from error
    _check(value, source)
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
            raise _InvalidValueError(f"duplicate key {json.dumps(_cut(key))}")
        result[key] = value
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise _InvalidValueError(f"{name} is not valid JSON")


def _finite(digits: str) -> float:
    number = float(digits) if len(digits) <= _MAX_DIGITS else math.inf
    if not math.isfinite(number):
        raise _InvalidValueError(f"number out of range: {_cut(digits)}")
    return number


def _whole(digits: str) -> int:
    if len(digits.removeprefix("-")) > _MAX_DIGITS:
        raise _InvalidValueError(f"number out of range: {_cut(digits)}")
    return int(digits)


def _cut(text: str) -> str:
    return text if len(text) <= _CUT else f"{text[:_CUT]}..."


def _check(value: object, source: str) -> None:
    """Refuse what the standard parser accepts and neither the store nor a process can be given."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        for text in filter(_is_no_text, level):
            shown = json.dumps(_cut(str(text)))
            hint = "remove the character: arguments of programs and databases cannot contain it"
            raise UsageError(
                "malformed-json", f"{source}: NUL, or half of a surrogate pair, in the string {shown}", hint=hint
            )
        level = [child for each in level for child in _children(each)]
        if not level:
            return
    raise _too_deep(source)


def _is_no_text(value: object) -> bool:
    return isinstance(value, str) and ("\0" in value or (not value.isascii() and _SURROGATE.search(value) is not None))


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return (*value, *value.values())
    return value if isinstance(value, list) else ()


def _too_deep(source: str) -> UsageError:
    hint = f"use at most {MAX_DEPTH} levels of objects and lists"
    return UsageError("malformed-json", f"{source}: nested too deeply", hint=hint)


def _malformed(text: str, source: str, position: int, reason: str) -> UsageError:
    if not text.strip("\ufeff \t\r\n"):
        hint = "write a JSON value, as {}"
        return UsageError("malformed-json", f"{source}: no JSON value", cause="the file is empty", hint=hint)
    if not text[position:].strip():  # something is missing: show after what
        position, reason = len(text.rstrip()), f"{reason}, found the end of the file"
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
