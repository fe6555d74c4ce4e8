from __future__ import annotations

import pytest

from caliban.outputs.line_choice import MAX_KEPT, MAX_LINE, LastLines, Pattern, WholeLines, as_drawn
from caliban.records import OutputLine


@pytest.mark.parametrize(
    ("data", "drawn"),
    [(b"10 %\r20 %\r\n", b"20 %\n"), (b"\r5 %", b"5 %"), (b"a\r\n", b"a\n"), (b"\r\r\n", b"\n"), (b"a\n", b"a\n")],
)
def test_a_progress_bar_is_what_it_shows_in_the_end(data: bytes, drawn: bytes) -> None:
    assert as_drawn(OutputLine(data)).data == drawn


def test_pieces_of_a_line_are_joined() -> None:
    lines = WholeLines()
    pieces = [OutputLine(b"a"), OutputLine(b"b", is_stderr=True), OutputLine(b"c\n"), OutputLine(b"d")]
    whole = [line.data for piece in pieces for line in lines.add(piece)]
    assert (whole, sorted(line.data for line in lines.rest())) == ([b"ac\n"], [b"b", b"d"])


def test_a_line_without_end_is_bounded() -> None:
    lines = WholeLines()
    pieces = [b"x" * 65536] * 40
    whole = [line for piece in pieces for line in lines.add(OutputLine(piece))]
    assert max(len(line.data) for line in whole) <= MAX_LINE + 65536


@pytest.mark.parametrize("number", [0, 1, 3, 9])
def test_only_the_last_lines_are_kept(number: int) -> None:
    last = LastLines(number)
    for value in b"abcde":
        last.add(OutputLine(bytes([value])))
    assert b"".join(line.data for line in last.take()) == b"abcde"[max(0, 5 - number) :]


def test_the_lines_that_are_kept_are_bounded() -> None:
    last = LastLines(10**9)
    for _ in range(40):
        last.add(OutputLine(b"x" * MAX_LINE))
    assert (sum(len(line.data) for line in last.take()) <= MAX_KEPT, last.is_cut) == (True, True)


@pytest.mark.parametrize(
    ("pattern", "data", "matches"),
    [
        ("^b$", b"a\rb\rc\n", True),
        ("^ERROR$", b"\x1b[31mERROR\x1b[0m\r\n", True),
        ("é", "é".encode(), True),
        ("^$", b"\n", True),
        ("", b"x", True),
        ("[[a]", b"[", True),
        ("b", b"a\n", False),
    ],
)
def test_lines_are_matched_as_people_see_them(pattern: str, data: bytes, matches: bool) -> None:
    assert bool(Pattern(pattern).matching([OutputLine(data)])) == matches
