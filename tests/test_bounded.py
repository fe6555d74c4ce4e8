"""What other machines send is read up to a limit of seconds, bytes and depth, and may be anything."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.bounded import (
    MEBIBYTE,
    Budget,
    DeadlineExceededError,
    TooLargeError,
    parse_json,
    parse_retry_after,
    read_limited,
)
from tests.fakes import FakeClock

DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


class Chunks:
    """A body of ``count`` equal chunks, which counts how many were read."""

    def __init__(self, chunk: bytes, count: int) -> None:
        self._chunk, self._count = chunk, count
        self.read = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.read < self._count:
            self.read += 1
            yield self._chunk


def test_a_body_is_read_whole() -> None:
    assert read_limited([b"ab", b"", b"c"], limit=3) == b"abc"


def test_reading_ends_with_the_chunk_that_is_too_much() -> None:
    chunks = Chunks(b"x" * 10, 1000)
    with pytest.raises(TooLargeError):
        read_limited(chunks, limit=25)
    assert chunks.read == 3


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", " GZIP "])
def test_a_gzip_body_of_several_members_in_small_chunks_is_decompressed(encoding: str) -> None:
    content = gzip.compress(b"totoro ") + gzip.compress(b"mei")
    assert read_limited((content[i : i + 3] for i in range(0, len(content), 3)), encoding) == b"totoro mei"


@pytest.mark.parametrize("content", [zlib.compress(b"mei"), zlib.compress(b"mei")[2:-4]])
def test_deflate_means_with_or_without_a_header(content: bytes) -> None:
    assert read_limited([content], "deflate") == b"mei"


def test_a_compressed_body_that_grows_beyond_the_limit_is_not_decompressed_further() -> None:
    bomb = gzip.compress(bytes(64 * MEBIBYTE), mtime=0)
    with pytest.raises(TooLargeError):
        read_limited([bomb], "gzip", limit=MEBIBYTE)


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"x", "br"),
        (gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), "gzip, gzip"),
        (b"not compressed", "gzip"),
        (gzip.compress(b"mei" * 100, mtime=0)[:-9], "gzip"),
        (b"\xff\xff", "deflate"),
    ],
)
def test_a_body_that_is_not_compressed_as_it_says_is_refused(content: bytes, encoding: str) -> None:
    with pytest.raises(ValueError, match="compressed"):
        read_limited([content], encoding)


def test_a_call_ends_at_its_deadline() -> None:
    clock = FakeClock()
    budget = Budget(clock, 70)
    clock.seconds = 69
    assert budget.seconds_left() == 1
    clock.seconds = 70
    with pytest.raises(DeadlineExceededError):
        budget.seconds_left()


@pytest.mark.parametrize(
    "content", [b"[" * 200 + b"]" * 200, b'{"a":' * 150 + b"1" + b"}" * 150, b"[" * 10**6, "[" * 10**6]
)
def test_deep_json_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="inside each other"):
        parse_json(content)


def test_brackets_in_texts_are_no_depth() -> None:
    content = json.dumps({"a": "[{" * 500, "b": '"[' * 500})
    assert parse_json(content) == json.loads(content)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"\xff\xfe{", b'{"a": NaN}', b"[Infinity]", b"[1e999]", b"[" + b"9" * 5000 + b"]", b'{"a"'],
)
def test_what_is_not_json_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several types
        parse_json(content)


def test_texts_of_json_can_be_stored() -> None:
    assert parse_json(b'{"\\ud800": ["\\u0000", "\\ud83d\\ude00", {"a": "\\\\ud800"}]}') == {
        "\ufffd": ["\ufffd", "\U0001f600", {"a": "\\ud800"}]
    }


@given(st.binary())
def test_any_bytes_are_json_or_a_value_error(content: bytes) -> None:
    try:
        parse_json(content)
    except ValueError:
        pass
    else:
        json.loads(content.decode("utf-8-sig"))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 7 ", 7.0),
        (b"7", 7.0),
        ("0", 0.0),
        ("-1", None),
        ("1e999", None),
        ("1.5", None),
        ("9" * 5000, None),
        ("soon", None),
        ("", None),
        ("\u0663", None),
        ("\xb2", None),
        (7, None),
        (["7"], None),
        (DATE, 0.0),
        ("Wed, 21 Oct 2015 07:28:30 -0000", 30.0),
        ("Wed, 21 Oct 2015 09:28:30 +0200", 30.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 +9999999999", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_a_number_of_seconds_or_a_date_and_anything_else_is_ignored(
    header: object, seconds: float | None
) -> None:
    assert parse_retry_after(header, DATE) == seconds


def test_a_date_is_compared_with_the_clock_of_this_machine_where_the_answer_has_none() -> None:
    moment = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30), usegmt=True)
    assert parse_retry_after(moment) == pytest.approx(30, abs=2)


@given(st.text(), st.text())
def test_no_retry_after_is_an_error(header: str, date: str) -> None:
    assert (parse_retry_after(header, date) or 0) >= 0
