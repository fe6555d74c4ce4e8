from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.resubmit.words import Style, join, split

WORDS = st.lists(
    st.sampled_from(["--", "-", "-1", "-1e-3", "-inf", "-x", "-x1", "-lr", "--lr", "--lr=1", "--lr=", "lr=1", "+a=1"])
    | st.text(max_size=4),
    max_size=8,
)


@given(WORDS)
def test_the_parts_of_a_command_line_have_all_of_its_words(words: list[str]) -> None:
    assert join(split(words)) == tuple(words)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("--lr 0.1 --fast", ["--lr", "--fast"]),
        ("--lr -1 --x -.5 --y -1e-3 --z -inf", ["--lr", "--x", "--y", "--z"]),
        ("--layers 64 32 -v", ["--layers", "-v"]),
        ("--lr=0.1 data.csv", ["--lr", None]),
        ("train lr=0.1 +b=2", [None, "lr", "+b"]),
        ("--set a=1 b=2", ["--set", "b"]),
        ("--x -- --lr 1", ["--x", None]),
        ("- -1 a", [None, None, None]),
    ],
)
def test_a_command_line_is_split_into_flags_assignments_and_positional_words(words: str, names: list[str]) -> None:
    assert [part.name for part in split(words.split(" "))] == names


def test_a_word_with_a_space_before_its_equals_sign_is_no_flag() -> None:
    [part] = split(["-5 degrees=x"])
    assert part.style is Style.POSITIONAL
