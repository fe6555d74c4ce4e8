"""The end of an output, as it is stored."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.outputs.stored import STORED_BYTES
from caliban.outputs.tail import OutputEnd, Tail, read_end
from caliban.records import OutputLine
from caliban.redaction import forget_secrets, register_secrets


def end_of(*pieces: bytes, tail: int = 1_000_000) -> OutputEnd:
    return read_end(map(OutputLine, pieces), tail)


def test_a_short_output_is_kept_whole() -> None:
    assert end_of(b"one\n", b"two") == OutputEnd(b"one\ntwo", True, False)


def test_a_long_output_is_cut_at_the_beginning_of_a_line() -> None:
    end = end_of(*(b"line %06d\n" % number for number in range(100_000)))
    assert not end.is_complete
    assert STORED_BYTES - 12 < len(end.data) <= STORED_BYTES
    assert end.data.startswith(b"line ")
    assert end.data.endswith(b"line 099999\n")


BAR = "\r100%|██████████| 20/20 [00:02<00:00,  9.9it/s]\n".encode()


@pytest.mark.parametrize(
    ("lines", "is_stderr"),
    [
        ([(b"done\n", False), (BAR, True)], False),
        ([(b"done\n", False), (BAR.rstrip() + b"no such file\n", True)], True),
        ([(b"no such file\n", True), (b" \n", False)], True),
        ([(b"no such file\n", True), (b"done\n", False)], False),
    ],
    ids=["a bar", "a line after a bar", "white space", "standard output"],
)
def test_the_stream_of_an_output_is_that_of_its_last_line_of_text(
    lines: list[tuple[bytes, bool]], is_stderr: bool
) -> None:
    assert read_end([OutputLine(*line) for line in lines], 10).is_stderr is is_stderr


def test_fewer_lines_than_were_written_are_not_complete() -> None:
    assert not end_of(b"1\n", b"2\n", tail=2).is_complete
    assert end_of(b"1\n", b"2\n", tail=3).is_complete


@pytest.mark.slow
@pytest.mark.parametrize("piece", [b"x" * 4096, b"ab\r" * 1400, b"\xe2\x96\x88" * 1400], ids=["x", "updates", "bars"])
def test_a_line_without_an_end_takes_bounded_memory(piece: bytes) -> None:
    line = OutputLine(piece)
    tail = Tail()
    tracemalloc.start()
    try:
        for _ in range(16_000):  # 64 MiB
            tail.add(line)
        end = tail.end()
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert len(end.data) <= STORED_BYTES
    assert end.data
    end.data.decode()


@pytest.mark.slow
def test_many_lines_take_bounded_memory() -> None:
    def lines() -> Iterator[OutputLine]:
        for number in range(200_000):
            yield OutputLine(b"%d" % number + b"x" * 80 + b"\n")

    tracemalloc.start()
    try:
        read_end(lines(), 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((b"10%\r20%\r30%\n",), b"30%\n"),
        ((b"10%\r", b"20%\r", b"30%", b"\ndone\n"), b"30%\ndone\n"),
        ((b"10%\r20%\r\n",), b"20%\n"),
        ((b"one\r\n", b"two\r", b"\n"), b"one\ntwo\n"),
        ((b"a\r\r\r\n",), b"a\n"),
        ((b"10%\r20%",), b"20%"),
        ((b"10%\r20%\r",), b"20%"),
        ((b"\0\xff\x1b[1m\n",), b"\0\xff\x1b[1m\n"),
    ],
)
def test_of_a_line_that_is_written_again_the_last_counts(pieces: tuple[bytes, ...], expected: bytes) -> None:
    assert end_of(*pieces).data == expected


@pytest.fixture
def secret() -> Iterator[str]:
    register_secrets("planted-secret-4711")
    yield "planted-secret-4711"
    forget_secrets()


KEY = b"-----BEGIN PRIVATE KEY-----\n" + b"MIIabcdef0123456789\n" * 80 + b"-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "line",
    [b"token: ghp_0123456789abcdefghij0123\n", b"GET https://mei:hunter22@host/\n", b"x: Bearer abc4DEF0123\n", KEY],
)
@pytest.mark.parametrize("after", [0, 10, 1000, 4000, 5400])
def test_credentials_are_removed(line: bytes, after: int) -> None:
    filler = [b"line %06d\n" % number for number in range(after)]
    end = end_of(b"start\n", line, *filler)
    for secret in (b"ghp_0123", b"hunter22", b"abc4DEF", b"MIIabc"):
        assert secret not in end.data


@pytest.mark.slow
def test_a_registered_secret_is_removed_wherever_the_output_is_cut(secret: str) -> None:
    for length in range(0, 200_000, 997):
        end = end_of(secret.encode() + b" " + b"y" * length)
        assert b"secret" not in end.data
        assert b"4711" not in end.data


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_how_the_output_is_split_does_not_matter(pieces: list[bytes]) -> None:
    assert end_of(*pieces).data == end_of(b"".join(pieces)).data
