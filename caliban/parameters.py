"""The parameters of experiments by name, and values as people type them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase

from caliban.records import ExperimentRecord

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9})?")
ASSIGNMENT = re.compile(r"\+{0,2}([A-Za-z_][\w./-]*)=(.*)", re.DOTALL)
_WORDS_OF_CONSTANTS = {"true": "true", "false": "false", "none": "null", "null": "null"}
_WILDCARDS = re.compile(r"[*?]")


@dataclass(frozen=True)
class Match:
    """A condition on one parameter: ``lr=0.1``.

    Attributes:
        key: the parameter's name, without dashes in front; dashes and underscores within are the same.
        value: its value as people type it: numbers are compared as numbers (``0.1`` is ``1e-1``), ``true``, ``false``
            and ``null`` in any case. ``*`` and ``?`` are wildcards. Commas separate alternatives.
    """

    key: str
    value: str

    def takes(self, experiment: ExperimentRecord) -> bool:
        """Return whether an experiment has the parameter with that value."""
        wanted = _plain_name(self.key)
        wanted_values = dict.fromkeys((self.value, *self.value.split(",")))
        return any(
            _is_value(typed, value)
            for name, value in parameters_of(experiment)
            if _plain_name(name) == wanted
            for typed in wanted_values
        )


def parameters_of(experiment: ExperimentRecord) -> Iterator[tuple[str, object]]:
    """Yield the parameters of an experiment: name, without dashes in front, and value.

    Those of its positional arguments are read as most scripts read them: ``--foo 3``, ``--foo=3``, ``-f 3`` and
    ``foo=3`` are ``foo`` or ``f`` with the value "3"; a flag that no value follows is true.
    """
    yield from _typed_parameters(experiment.args)
    for name, value in experiment.kwargs.items():
        yield name.lstrip("-"), value


def _typed_parameters(words: Sequence[str]) -> Iterator[tuple[str, object]]:
    for word, following in zip(words, (*words[1:], None), strict=False):
        assignment = ASSIGNMENT.fullmatch(word.lstrip("-"))
        if assignment:
            yield assignment[1], assignment[2]
        elif _is_flag(word):
            yield word.lstrip("-"), True if following is None or _is_flag(following) else following


def _is_flag(word: str) -> bool:
    return len(word) > 1 and word.startswith("-") and word != "--" and not NUMBER.fullmatch(word)


def _plain_name(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _is_value(typed: str, value: object) -> bool:
    """Return whether a value is what somebody typed."""
    text = _text(value)
    if typed in (text, str(value)):
        return True
    if _WILDCARDS.search(typed):
        pattern = typed.replace("[", "[[]")  # brackets are ordinary characters
        return fnmatchcase(text, pattern) or fnmatchcase(str(value), pattern)
    if isinstance(value, bool) or value is None or typed.lower() in _WORDS_OF_CONSTANTS:
        constant = _WORDS_OF_CONSTANTS.get(typed.lower())
        return constant is not None and constant == _WORDS_OF_CONSTANTS.get(text.lower())
    number = _number(typed)
    return number is not None and number == _number(text)


def _text(value: object) -> str:
    """Return a value as JSON has it: ``true``, ``null``, ``0.1``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)


def _number(text: str) -> Decimal | None:
    if not NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None
