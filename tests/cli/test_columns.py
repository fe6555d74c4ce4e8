from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.cli.columns import cut, display_width, table


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("night", 5), ("夜間実験", 8), ("e\u0301t\u00e9", 3), ("\uff71", 1), ("\uff21", 2), ("🚀", 2)],
)
def test_the_width_of_a_text_is_that_of_its_columns(text: str, width: int) -> None:
    assert display_width(text) == width


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("night", 5, "night"),
        ("nights", 5, "ni..."),
        ("夜間実験", 8, "夜間実験"),
        ("夜間実験", 7, "夜間..."),
        ("夜間実験", 6, "夜..."),
        ("night", 3, "..."),
        ("night", 1, "."),
        ("night", 0, ""),
    ],
)
def test_a_long_text_is_cut(text: str, width: int, shown: str) -> None:
    assert cut(text, width) == shown


@given(st.text(), st.integers(0, 30))
def test_no_text_is_longer_than_the_terminal(text: str, width: int) -> None:
    assert display_width(cut(text, width)) <= width


def test_columns_are_aligned_whatever_the_script_of_a_name() -> None:
    rows = [("夜間", "7", "now"), ("night", "1234", "5 min ago")]
    assert table(("NAME", "COUNT", "LAST"), rows, right=(1,), width=None) == [
        "NAME   COUNT  LAST",
        "夜間       7  now",
        "night   1234  5 min ago",
    ]


def test_the_first_column_makes_room_on_a_narrow_terminal() -> None:
    lines = table(("NAME", "COUNT"), [("n" * 300, "7")], right=(1,), width=20)
    assert lines[1] == f"{'n' * 10}...      7"


@pytest.mark.parametrize(("width", "name"), [(50, "night"), (30, "night"), (12, "night"), (30, "夜間")])
def test_the_name_of_a_row_is_whole_where_the_other_columns_need_more_than_the_terminal(width: int, name: str) -> None:
    [_, row] = table(("NAME", "LAST"), [(name, "x" * 60)], width=width)
    assert row.split()[0] == name
