"""The filters that ``customJobs.list`` of aiplatform v1 takes: parsed, checked, and made into a test of jobs.

Sources: the parameter ``filter`` of that method in ``aiplatform.v1.json`` (fields and comparisons);
https://google.aip.dev/160 (the language: ``OR`` binds closer than ``AND``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from tests.standins.discovery import ApiError, bad_field

Test = Callable[[Mapping[str, Any]], bool]

_TOKENS = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\(|\)|!=|<=|>=|=|<|>|:|[^\s()"=!<>:]+)')
_COMPARISONS = {
    "display_name": frozenset({"=", "!=", ":"}),
    "state": frozenset({"=", "!="}),
    "create_time": frozenset({"=", "!=", "<", "<=", ">", ">="}),
}
_ORDERS: Mapping[str, Callable[[datetime, datetime], bool]] = {
    "=": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}


def parse_filter(text: str) -> Test:
    """``state="JOB_STATE_FAILED" AND labels.phase=test`` -> a test of jobs as the API tells them.

    Raises:
        ApiError: 400: it is not of the language, or compares what cannot be compared.
    """
    return _Parser(text).whole() if text.strip() else lambda job: True


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
        while self._next_is("AND"):
            self._take()
            tests.append(self._one_of())
        return lambda job: all(test(job) for test in tests)

    def _one_of(self) -> Test:
        tests = [self._term()]
        while self._next_is("OR"):
            self._take()
            tests.append(self._term())
        return lambda job: any(test(job) for test in tests)

    def _term(self) -> Test:
        if self._next_is("NOT"):
            self._take()
            negated = self._term()
            return lambda job: not negated(job)
        if self._next_is("("):
            self._take()
            inner = self._all_of()
            if self._take() != ")":
                raise self._invalid()
            return inner
        return self._comparison(self._take(), self._take(), self._take())

    def _comparison(self, field: str, operator: str, given: str) -> Test:
        value = re.sub(r"\\(.)", r"\1", given[1:-1]) if given.startswith('"') else given
        if field.startswith("labels."):
            return self._label(field.removeprefix("labels."), operator, value)
        if operator not in _COMPARISONS.get(field, ()):
            raise self._invalid()
        if field == "create_time":
            return self._time(operator, value)
        if operator == ":":
            pattern = re.compile(".*".join(map(re.escape, value.split("*"))), re.DOTALL)
            return lambda job: pattern.fullmatch(job["displayName"]) is not None
        name, is_equal = {"display_name": "displayName"}.get(field, field), operator == "="
        return lambda job: (job[name] == value) is is_equal

    def _label(self, key: str, operator: str, value: str) -> Test:
        if operator == "=":
            return lambda job: job.get("labels", {}).get(key) == value
        if (operator, value) == (":", "*"):
            return lambda job: key in job.get("labels", {})
        raise self._invalid()

    def _time(self, operator: str, value: str) -> Test:
        moment = parse_time(value)
        if moment is None:
            raise self._invalid()
        order = _ORDERS[operator]

        def holds(job: Mapping[str, Any]) -> bool:
            created = parse_time(job["createTime"])
            assert created is not None
            return order(created, moment)

        return holds

    def _next_is(self, word: str) -> bool:
        return self._rest[:1] == [word]

    def _take(self) -> str:
        if not self._rest:
            raise self._invalid()
        return self._rest.pop(0)

    def _invalid(self) -> ApiError:
        return bad_field("filter", f"Invalid filter expression: {self._text}")


def parse_time(text: str) -> datetime | None:
    """A moment in RFC 3339, which names its offset from UTC; None for anything else."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
