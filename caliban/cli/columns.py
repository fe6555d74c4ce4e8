"""Text in columns of a terminal: East Asian letters take two, combining marks none. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence

_ELLIPSIS = "..."
_SPACE = "  "
_FIRST_COLUMN = 24


def display_width(text: str) -> int:
    """Return how many columns a text takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def cut(text: str, width: int) -> str:
    """Return a text in at most ``width`` columns, with ``...`` at its end where something was cut off."""
    if display_width(text) <= width:
        return text
    if width <= len(_ELLIPSIS):
        return _ELLIPSIS[: max(0, width)]
    kept, used = [], 0
    for char in text:
        used += _width(char)
        if used > width - len(_ELLIPSIS):
            break
        kept.append(char)
    return "".join(kept) + _ELLIPSIS


def table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = (), width: int | None
) -> list[str]:
    """Return the lines of a table.

    Args:
        headings: of the columns.
        rows: the cells, as they are shown.
        right: the columns that are aligned to the right.
        width: columns of the terminal, or None. Where the table is wider, its first column is cut, but keeps 24
            columns, or half of the terminal: it names the row, so what is on the right is cut rather than all of it.
    """
    lines = [headings, *rows]
    widths = [max(display_width(line[column]) for line in lines) for column in range(len(headings))]
    if width is not None:
        others = sum(widths[1:]) + len(_SPACE) * (len(widths) - 1)
        widths[0] = min(widths[0], max(width - others, min(_FIRST_COLUMN, width // 2), len(headings[0])))
    return [_row(line, widths, right) for line in lines]


def _row(cells: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    parts = []
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        shown = cut(cell, width)
        space = " " * (width - display_width(shown))
        parts.append(space + shown if column in right else shown + space)
    return _SPACE.join(parts).rstrip()
