"""Files and pipes get the last state of a bar, and everything else byte for byte."""

from __future__ import annotations

import random

import pytest

from caliban.outputs.progress_bars import MAX_HELD, LastStates, last_states

BAR = b"".join(b"\rtrain: %3d%%|####  | %d/100" % (n, n) for n in range(101))
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\rIHDR\r\x00\n"


@pytest.mark.parametrize(
    ("written", "passed_on"),
    [
        (BAR + b"\n", b"train: 100%|####  | 100/100\n"),
        (b"before\n" + BAR + b"\nafter\n", b"before\ntrain: 100%|####  | 100/100\nafter\n"),
        (BAR, b"train: 100%|####  | 100/100"),
        ("\r 10%|█   |\r 90%|███ |\n".encode(), " 90%|███ |\n".encode()),
        (b"\x1b[32m10%\r\x1b[32m20%\x1b[0m\n", b"\x1b[32m20%\x1b[0m\n"),
        (b"10%\r20%\r", b"20%\r"),
        (b"10%\r20%\r\n", b"20%\r\n"),
        (b"\r10%\r   \rdone\n", b"done\n"),
    ],
)
def test_of_a_bar_the_last_state_is_passed_on(written: bytes, passed_on: bytes) -> None:
    assert last_states(written) == passed_on


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"\n",
        b"a\nb",
        b"a\r\nb\r\n",
        b"a\r\r\n",
        b"a\r",
        "Ünïcode ☃\r\n".encode(),
        "Ünïcode ☃\r\nx\ry\n".encode("utf-16"),
        bytes(range(256)),
        PNG,
        b"PK\x03\x04a\rb\n",
        b"latin-1: \xfc\rx\n",
        b"caf\xef\xbf\xbd\rx\n",
        b"x" * (3 * MAX_HELD) + b"\n",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_what_is_no_bar_stays_byte_for_byte(written: bytes, size: int) -> None:
    states = LastStates()
    if size == 1 and len(written) > MAX_HELD:
        size = 1000
    pieces = [states.feed(written[start : start + size]) for start in range(0, len(written), size)]
    assert b"".join(pieces) + states.flush() == written


def test_once_a_stream_is_not_text_nothing_of_it_is_changed() -> None:
    text, binary = b"10%\r20%\nlist\n", b"\x00" + random.Random(7).randbytes(100_000)
    states = LastStates()
    assert states.feed(text) + states.feed(binary) + states.flush() == b"20%\nlist\n" + binary


def test_the_pieces_in_which_a_stream_arrives_do_not_matter() -> None:
    written = "épochs\n".encode() + BAR + b"\r\ntext\r\n" + BAR
    states = LastStates()
    pieces = [states.feed(written[start : start + 1]) for start in range(len(written))]
    assert b"".join(pieces) + states.flush() == last_states(written)


def test_an_unfinished_line_is_held_back_until_it_is_complete() -> None:
    states = LastStates()
    assert [states.feed(each) for each in (b"a", b"b\nc", b"\n")] == [b"", b"ab\n", b"c\n"]


@pytest.mark.slow
def test_a_bar_without_an_end_takes_no_memory() -> None:
    states = LastStates()
    for number in range(30_000):
        assert states.feed(b"\r%5d/30000 %s" % (number, b"#" * 50)) == b""
    assert len(states._held) <= 2 * MAX_HELD
    assert states.feed(b"\n") == b"29999/30000 " + b"#" * 50 + b"\n"


def test_a_long_line_without_a_carriage_return_is_not_held_back() -> None:
    states = LastStates()
    assert states.feed(b"." * (MAX_HELD + 1)) == b"." * (MAX_HELD + 1)
    assert states.feed(b".\r.\n10%\r20%\n") == b".\r.\n20%\n"
