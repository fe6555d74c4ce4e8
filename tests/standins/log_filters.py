"""The filters that ``entries.list`` of logging v2 takes: parsed, checked, and made into a test of entries.

Source: https://docs.cloud.google.com/logging/docs/view/logging-query-language. ``NOT`` binds closest, then ``OR``, then
``AND``; comparisons that follow each other are joined by ``AND``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.standins.discovery import ApiError

Test = Callable[[Mapping[str, Any]], bool]

LONGEST = 20_000
SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")

_TOKENS = re.compile(
    r'\s*("(?:[^"\\]|\\.)*"|\(|\)|!=|<=|>=|=~|!~|=|<|>|:|(?:"(?:[^"\\]|\\.)*"|[^\s()"=!<>:~])+)', re.DOTALL
)
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}
_TIMES = ("timestamp", "receiveTimestamp")
_TEXTS = re.compile(
    r"logName|insertId|textPayload|resource\.type|(?:resource\.)?labels\.[\w\"./-]+|jsonPayload\.[\w.]+"
)


def parse_filter(text: str) -> Test:
    """``resource.type="ml_job" AND timestamp>="2026-11-25T11:00:00Z"`` -> a test of entries as the API tells them.

    Raises:
        ApiError: 400: it is not of the language, or compares what cannot be compared.
    """
    if len(text) > LONGEST:
        raise ApiError(400, f"The filter is too long: it has more than {LONGEST} characters.")
    return _Parser(text).whole() if text.strip() else lambda entry: True


def time_key(text: str) -> tuple[str, str]:
    """What sorts times, to the nanosecond."""
    match = TIME.fullmatch(text)
    assert match is not None, text
    return match[1], (match[2] or "").ljust(9, "0")


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._rest: list[str] = []
        at = 0
        while text[at:].strip():
            match = _TOKENS.match(text, at)
            if match is None:
                raise self._invalid()
            self._rest.append(match[1])
            at = match.end()

    def whole(self) -> Test:
        found = self._all_of()
        if self._rest:
            raise self._invalid()
        return found

    def _all_of(self) -> Test:
        tests = [self._one_of()]
        while self._rest and self._rest[0] != ")":
            if self._rest[0] == "AND":
                self._take()
            tests.append(self._one_of())
        return lambda entry: all(test(entry) for test in tests)

    def _one_of(self) -> Test:
        tests = [self._term()]
        while self._rest[:1] == ["OR"]:
            self._take()
            tests.append(self._term())
        return lambda entry: any(test(entry) for test in tests)

    def _term(self) -> Test:
        if self._rest[:1] == ["NOT"]:
            self._take()
            negated = self._term()
            return lambda entry: not negated(entry)
        if self._rest[:1] == ["("]:
            self._take()
            inner = self._all_of()
            if self._take() != ")":
                raise self._invalid()
            return inner
        return self._comparison(self._take(), self._take(), self._take())

    def _comparison(self, field: str, operator: str, given: str) -> Test:
        is_quoted = given.startswith('"')
        value = re.sub(r"\\(.)", r"\1", given[1:-1]) if is_quoted else given
        if not is_quoted and not re.fullmatch(r"[\w./*-]+", given):
            raise self._invalid()
        if field in _TIMES:
            return self._time(field, operator, value)
        if field == "severity" and value in SEVERITIES and operator in _ORDERS:
            limit, order = SEVERITIES.index(value), _ORDERS[operator]
            return lambda entry: order(SEVERITIES.index(entry.get("severity", "DEFAULT")), limit)
        if not _TEXTS.fullmatch(field):
            raise self._invalid()
        path = [part.strip('"') for part in re.findall(r'"[^"]*"|[^.]+', field)]
        if operator == "=":  # ignores the case of letters, except for regular expressions
            return lambda entry: _at(entry, path).lower() == value.lower()
        if operator == "!=":
            return lambda entry: _at(entry, path).lower() != value.lower()
        if operator == ":":
            return lambda entry: value.lower() in _at(entry, path).lower()
        raise self._invalid()

    def _time(self, field: str, operator: str, value: str) -> Test:
        if operator not in _ORDERS or TIME.fullmatch(value) is None:
            raise self._invalid()
        moment, order = time_key(value), _ORDERS[operator]
        return lambda entry: order(time_key(entry[field]), moment)

    def _take(self) -> str:
        if not self._rest:
            raise self._invalid()
        return self._rest.pop(0)

    def _invalid(self) -> ApiError:
        return ApiError(400, f"Unparseable filter: {self._text[:200]}")


def _at(entry: Mapping[str, Any], path: list[str]) -> str:
    found: Any = entry
    for name in path:
        found = found.get(name, "") if isinstance(found, dict) else ""
    return found if isinstance(found, str) else ""
