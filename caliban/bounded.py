"""Limits of what is read from other machines and programs: seconds, bytes, and the depth of JSON.

A server may send one byte a second, a small body that decompresses to gigabytes, or JSON that no recursion can read.
The limits of HTTP requests are applied in :mod:`caliban.bounded_http`.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from threading import Event

from caliban.clock import Clock

MEBIBYTE = 1 << 20
BODY_LIMIT = 64 * MEBIBYTE
"""Bytes of a body, decompressed: a page of a list with hundreds of large objects has a few million."""
JSON_DEPTH_LIMIT = 100
"""Objects and lists inside each other. Services nest about 20."""

_HEADERS_LIMIT = MEBIBYTE
_SLOW_AFTER = 5.0
"""Seconds after which the user is told that an answer is waited for."""
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_UNSTORABLE = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
_SECONDS = re.compile(r"\s*([0-9]{1,12})\s*", re.ASCII)


class DeadlineExceededError(TimeoutError):
    """An answer took too long in total, although its server sent something now and then."""


class TooLargeError(OSError):
    """More was sent than is read."""


class Budget:
    """What one call may take: seconds by a clock, and bytes from its connection."""

    def __init__(
        self,
        clock: Clock,
        seconds: float,
        wire_bytes: int = BODY_LIMIT + _HEADERS_LIMIT,
        on_slow: Callable[[], None] = lambda: None,
    ) -> None:
        """Start to count.

        Args:
            clock: counts the seconds.
            seconds: from now to the last byte.
            wire_bytes: the most that is received, headers and interim answers included.
            on_slow: called once, when the call takes more than some seconds.
        """
        self._clock = clock
        self._seconds = seconds
        self._ends_at = clock.monotonic() + seconds
        self._wire_bytes = self._bytes_left = wire_bytes
        self._slow_at = clock.monotonic() + _SLOW_AFTER
        self._on_slow: Callable[[], None] | None = on_slow

    def seconds_left(self) -> float:
        """Return how long the call may go on.

        Raises:
            DeadlineExceededError: not any longer.
        """
        left = self._ends_at - self._clock.monotonic()
        if left <= 0:
            raise DeadlineExceededError(f"no complete answer after {self._seconds:.0f} s")
        return left

    def seconds_until_slow(self) -> float | None:
        """Return how long the call may still take before it is reported as slow; None once it was."""
        return None if self._on_slow is None else self._slow_at - self._clock.monotonic()

    def report_slow(self) -> None:
        """Report the call as slow, unless that was done."""
        report, self._on_slow = self._on_slow, None
        if report is not None:
            report()

    def wait_for(self, done: Event) -> bool:
        """Wait until another thread of this process has set ``done``; return False when the call may not go on.

        Slowness is reported meanwhile.
        """
        slow = self.seconds_until_slow()
        if slow is not None and slow > 0 and self._clock.wait_in_background(done, min(slow, self.seconds_left())):
            return True
        if not done.is_set():
            self.report_slow()
        return self._clock.wait_in_background(done, max(0.0, self._ends_at - self._clock.monotonic()))

    def spend(self, count: int) -> None:
        """Count received bytes.

        Raises:
            TooLargeError: they are too many.
        """
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise TooLargeError(f"the answer is larger than {_in_mebibytes(self._wire_bytes)}")


_current: ContextVar[Budget | None] = ContextVar("caliban_call_budget", default=None)


@contextmanager
def limited(budget: Budget) -> Iterator[None]:
    """Apply ``budget`` to what this thread receives in this block (:mod:`caliban.bounded_http`)."""
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)


def current_budget() -> Budget | None:
    """Return the budget of the innermost :func:`limited` block of this thread, or None."""
    return _current.get()


def read_limited(chunks: Iterable[bytes], encoding: str = "", limit: int = BODY_LIMIT) -> bytes:
    """Return a body, decompressed, of which never much more than ``limit`` bytes are in memory.

    Args:
        chunks: as they are received.
        encoding: the header Content-Encoding: "", ``identity``, ``gzip`` or ``deflate`` (RFC 9110, 8.4.1).
        limit: the most bytes that are returned.

    Raises:
        TooLargeError: it has more.
        ValueError: it is compressed in another way, several times, or not correctly.
    """
    name = encoding.strip().lower()
    if name in ("gzip", "x-gzip", "deflate"):
        chunks = _inflated(chunks, name, limit)
    elif name not in ("", "identity"):
        raise ValueError(f"the answer is compressed with {name[:40]}, which was not offered")
    parts, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise TooLargeError(f"the answer is larger than {_in_mebibytes(limit)}")
        parts.append(chunk)
    return b"".join(parts)


def _inflated(chunks: Iterable[bytes], encoding: str, limit: int) -> Iterator[bytes]:
    """Yield decompressed data, in pieces of a mebibyte at most."""
    piece = min(limit + 1, MEBIBYTE)
    inflater = None
    for chunk in chunks:
        data = chunk
        while data:
            if inflater is None or inflater.eof:  # gzip may have several members (RFC 1952, 2.2)
                inflater = zlib.decompressobj(_window(encoding, data))
            try:
                yield inflater.decompress(data, piece)
            except zlib.error as error:
                raise ValueError("the answer is not compressed correctly") from error
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    if inflater is not None and not inflater.eof:
        raise ValueError("the compressed answer is incomplete")


def _window(encoding: str, data: bytes) -> int:
    """Return zlib's ``wbits``. "deflate" has a zlib header, or with some servers none."""
    if encoding != "deflate":
        return 16 + zlib.MAX_WBITS
    return zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS


def parse_json(content: bytes | str, *, depth: int = JSON_DEPTH_LIMIT) -> object:
    """Return the value of a JSON text from another machine or program.

    Its texts can be stored and shown: lone surrogates and NUL are replaced by U+FFFD.

    Args:
        content: UTF-8, with or without a byte order mark; of bounded size.
        depth: the most objects and lists inside each other.

    Raises:
        ValueError: it is not JSON (RFC 8259), too deep, or has a number that is out of range.
    """
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    brackets = text.count("[") + text.count("{")
    if brackets > depth and _depth(text) > depth:
        raise ValueError(f"more than {depth} objects and lists inside each other")
    try:
        value = json.loads(text, parse_constant=_reject_constant, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("too many objects and lists inside each other") from error
    return _storable(value) if _UNSTORABLE.search(text) else value


def _depth(text: str) -> int:
    """Return how many brackets of a text are open at once, at most; those in strings do not count."""
    deepest = current = 0
    for bracket in re.findall(r"[\[\]{}]", _JSON_STRING.sub("", text)):
        current += 1 if bracket in "[{" else -1
        deepest = max(deepest, current)
    return deepest


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError("a number is out of range")
    return value


def _reject_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _storable(value: object) -> object:
    if isinstance(value, str):
        return re.sub(r"[\x00\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [_storable(each) for each in value]
    if isinstance(value, dict):
        return {str(_storable(key)): _storable(each) for key, each in value.items()}
    return value


def parse_retry_after(value: object, date: object = None) -> float | None:
    """Return the seconds of a header Retry-After (RFC 9110, 10.2.3), 0 or more; None for what is neither of its forms.

    Args:
        value: the header: a number of seconds or a date; None where there is none. Anything is accepted.
        date: the header Date of the same answer, which a date is compared with, as the clocks of two machines differ;
            without one a date is compared with this machine's clock.
    """
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return None
    if (seconds := _SECONDS.fullmatch(value)) is not None:
        return float(seconds[1])
    until = _parse_date(value)
    if until is None:
        return None
    return max(0.0, (until - (_parse_date(date) or datetime.now(timezone.utc))).total_seconds())


def _parse_date(value: object) -> datetime | None:
    if not isinstance(value, str) or len(value) > 100:
        return None
    try:
        date = parsedate_to_datetime(value)
        return date.replace(tzinfo=timezone.utc) if date.tzinfo is None else date.astimezone(timezone.utc)
    except (ValueError, TypeError, LookupError, OverflowError):  # not all are documented
        return None


def _in_mebibytes(count: int) -> str:
    return f"{count / MEBIBYTE:.0f} MiB" if count >= MEBIBYTE else f"{count} bytes"
