"""Check the text of what is recorded and sent: no platform or database accepts every string of Python and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caliban.errors import CalibanError


def text_problem(text: str) -> str | None:
    """Return why ``text`` cannot be an argument of a program, or part of a request; None if it can."""
    if "\0" in text:
        return "contains a NUL character"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"contains the character U+{ord(text[error.start]):04X}, which is half of a pair"
    return None


def check_text(value: object) -> None:
    """Check every string of a job spec, before the job is recorded.

    Raises:
        CalibanError: ``malformed-text``.
    """
    for text in _texts(value):
        if problem := text_problem(text):
            raise CalibanError(
                "malformed-text",
                "the job cannot be submitted",
                cause=f"{text[:80]!a} {problem}",
                hint="correct the experiment's flags, arguments or container spec",
            )


def _texts(value: object) -> list[str]:
    """Return all strings of a JSON value, keys among them."""
    found: list[str] = []
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, Mapping):
            left += [*item.keys(), *item.values()]
        elif isinstance(item, Sequence) and not isinstance(item, bytes):
            left += item
    return found
