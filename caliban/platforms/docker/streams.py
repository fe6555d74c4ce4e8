"""Streams of a container's output: attached to it, or read from its log.

Both have frames (docs.docker.com/reference/api/engine, ContainerAttach), unless the container has a terminal: a header
of 8 bytes with the stream and the size, then as many bytes. docker-py's own readers do not tell the streams of a log
apart, and wait for the socket although TLS has read more already.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from caliban.bounded import DeadlineExceededError
from caliban.images.docker.engine import ANSWER_SECONDS, Engine
from caliban.platforms.docker.state import OddStateError
from caliban.platforms.stored_json import parse_time
from caliban.redaction import clean_text

if TYPE_CHECKING:
    import docker
    import requests

_PIECE = 1 << 16
_HEADER = struct.Struct(">BxxxL")
_STDOUT, _STDERR, _ERROR = (0, 1), 2, 3
_MAX_ERROR = 2000
_UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}  # Podman answers as if it were asked for
_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[0-9.]*(?:Z|[+-]\d\d:\d\d)) ")
_FRACTION = re.compile(r"\.(\d{1,9})")
_MAX_STAMP = 40
_MESSAGE = 16 << 10
"""Where a log driver breaks a line (moby, daemon/logger/copier.go)."""

_MAX_FRAME = 1 << 20
"""The largest frame that is put together."""


@dataclass(frozen=True)
class Piece:
    """Some output of a container.

    Attributes:
        data: the bytes.
        is_stderr: whether it was written to standard error; never, where the container has a terminal.
        stamp: when it was written, as the engine writes it; "" where that was not asked for.
    """

    data: bytes
    is_stderr: bool = False
    stamp: str = ""

    @property
    def time(self) -> datetime | None:
        """When it was written, or None."""
        return parse_time(self.stamp)


class Stream:
    """An open stream, to be iterated over once; any thread may close it, which ends the iteration.

    Iterating raises one of :func:`stream_errors`.
    """

    def __init__(self, response: requests.Response, pieces: Iterator[Piece]) -> None:
        self._response = response
        self._socket = _socket(response)
        self._pieces = pieces

    def __iter__(self) -> Generator[Piece, None, None]:
        try:
            yield from self._pieces
        finally:
            self.close()

    def close(self) -> None:
        """End the stream, also for a thread that waits for more of it."""
        with suppress(OSError):  # it has ended
            self._socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            self._response.close()


def stream_errors() -> tuple[type[Exception], ...]:
    """Return what is raised where a stream cannot be opened or breaks, or the engine sends what no engine does."""
    import docker.errors
    import requests
    import urllib3.exceptions

    return (
        OSError,
        ValueError,  # it was closed while it was read; OddStateError is one, too
        AttributeError,  # likewise
        DeadlineExceededError,
        docker.errors.DockerException,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
    )


def attach(engine: Engine, container: str, *, has_terminal: bool) -> Stream:
    """Return what a container writes from now on. It has to be read: the engine keeps a megabyte of it, no more.

    Raises:
        Exception: whatever docker-py raises, or DeadlineExceededError.
    """
    query = {"stream": 1, "stdout": 1, "stderr": 1}
    response = _open(
        engine, lambda api, url: api.post(url, params=query, headers=_UPGRADE, stream=True), container, "attach"
    )
    raw: IO[Any] = _connection(response)  # that of the connection: the answer to an upgrade has no body
    read: Iterator[bytes] = iter(lambda: raw.read1(_PIECE), b"")  # type: ignore[attr-defined]  # a BufferedReader
    return Stream(response, _unframed(read) if has_terminal else _frames(read, whole=False))


def read_log(
    engine: Engine,
    container: str,
    *,
    has_terminal: bool,
    follow: bool = False,
    tail: int | None = None,
    since: int = 0,
) -> Stream:
    """Return the log of a container, in pieces of at most a line with the times at which they were written.

    Args:
        engine: which has it.
        container: its id or name.
        has_terminal: whether it has a terminal.
        follow: whether to go on until the container ends.
        tail: only so many messages of its end; None for all.
        since: only what was written at this time or later, in nanoseconds since 1970.

    Raises:
        Exception: whatever docker-py raises, or DeadlineExceededError.
    """
    query: Mapping[str, int | str] = {
        "stdout": 1,
        "stderr": 1,
        "timestamps": 1,
        "follow": int(follow),
        "tail": "all" if tail is None else tail,
        "since": f"{since // 10**9}.{since % 10**9:09}",
    }
    response = _open(engine, lambda api, url: api.get(url, params=query, stream=True), container, "logs")
    read = response.raw.stream(_PIECE, decode_content=False)
    if has_terminal:
        return Stream(response, _stamped_lines(_unframed(read)))
    return Stream(response, _stamped_frames(_frames(read, whole=True)))


def _open(
    engine: Engine, request: Callable[[docker.APIClient, str], requests.Response], container: str, what: str
) -> requests.Response:
    import docker.errors

    def send(api: docker.APIClient) -> requests.Response:
        url = f"{api.base_url}/v{api.api_version}/containers/{quote(container, safe='')}/{what}"
        return request(api, url)

    response = engine.ask(send, seconds=ANSWER_SECONDS)
    if response.status_code >= 400:
        try:
            text = response.raw.read(_MAX_ERROR, decode_content=True)
        finally:
            response.close()
        words = clean_text(bytes(text).decode("utf-8", "replace"))
        kind = docker.errors.NotFound if response.status_code == 404 else docker.errors.APIError
        raise kind(words, response=response, explanation=words)
    return response


def _connection(response: requests.Response) -> Any:  # noqa: ANN401 - of urllib3 and http.client, without types
    return response.raw._fp.fp  # type: ignore[union-attr]  # it has one until it is read to its end


def _socket(response: requests.Response) -> socket.socket:
    found: socket.socket = _connection(response).raw._sock
    found.settimeout(None)  # a job may say nothing for hours
    return found


def nanoseconds(stamp: str) -> int:
    """Return a time as the engine writes it in nanoseconds since 1970; 0 for anything else."""
    moment = parse_time(stamp)
    if moment is None:
        return 0
    fraction = _FRACTION.search(stamp)
    return int(moment.replace(microsecond=0).timestamp()) * 10**9 + (int(fraction[1].ljust(9, "0")) if fraction else 0)


def _frames(read: Iterator[bytes], *, whole: bool) -> Generator[Piece, None, None]:
    """Split frames. A large one arrives in parts, which are put together only where whole ones are wanted."""
    buffer, left, is_stderr = b"", 0, False
    for data in read:
        buffer += data
        start = 0
        while start < len(buffer):
            if left == 0:
                if len(buffer) - start < _HEADER.size:
                    break
                kind, left = _HEADER.unpack_from(buffer, start)
                start += _HEADER.size
                is_stderr = _is_stderr(kind, buffer[start : start + _MAX_ERROR])
                continue
            if whole and len(buffer) - start < left <= _MAX_FRAME:
                break
            piece = buffer[start : start + left]
            start, left = start + len(piece), left - len(piece)
            yield Piece(piece, is_stderr)
        buffer = buffer[start:]


def _is_stderr(kind: int, data: bytes) -> bool:
    if kind == _ERROR:
        raise OddStateError(f"the Docker Engine ends the output: {clean_text(data.decode('utf-8', 'replace'))}")
    if kind not in (*_STDOUT, _STDERR):
        raise OddStateError("the output of the container has a malformed frame")
    return kind == _STDERR


def _unframed(read: Iterator[bytes]) -> Generator[Piece, None, None]:
    return (Piece(data) for data in read)


def _stamped_frames(pieces: Iterator[Piece]) -> Generator[Piece, None, None]:
    """Take the time off the beginning of each frame of a log: each is one message."""
    for piece in pieces:
        found = _TIME.match(piece.data)
        yield Piece(piece.data[found.end() :], piece.is_stderr, found[1].decode()) if found else piece


def _stamped_lines(pieces: Iterator[Piece]) -> Generator[Piece, None, None]:
    """Take the time off the beginning of each message of a log without frames: a line, or 16 KB of a longer one."""
    buffer, size, stamp = b"", 0, None
    for piece in pieces:
        buffer += piece.data
        while buffer:
            if stamp is None:
                found = _TIME.match(buffer)
                if found is None and len(buffer) < _MAX_STAMP and b"\n" not in buffer:
                    break  # the rest of the time is on its way
                stamp, size = found[1].decode() if found else "", 0
                buffer = buffer[found.end() :] if found else buffer
                continue
            end = buffer.find(b"\n", 0, _MESSAGE - size) + 1
            taken = buffer[: end or _MESSAGE - size]
            buffer, size = buffer[len(taken) :], size + len(taken)
            yield Piece(taken, stamp=stamp)
            if end or size == _MESSAGE:
                stamp = None
    if buffer:
        yield Piece(buffer, stamp=stamp or "")
