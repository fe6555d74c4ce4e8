"""The standard streams of the process, made so that no stream decides what a command does.

Writing never raises, and does not wait for a reader: what a pipe or a stopped terminal does not take at once is kept,
and written by a thread. :meth:`StandardStreams.finish` waits for that, once the work is done.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import threading
from collections import deque
from dataclasses import dataclass
from typing import TextIO

_CHUNK = 4096
"""Bytes that a pipe that is ready takes without waiting: PIPE_BUF of Linux (pipe(7)); macOS has 512, and may wait."""

MAX_UNREAD = 16 * 1024 * 1024
"""Bytes that are kept for a reader that does not read, before listings and the output of jobs wait for it."""

_READER_LEFT = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ESHUTDOWN, errno.EIO, errno.ENXIO})
"""Errors that mean that nobody can read any more: a closed pipe or socket, or a terminal that is gone."""


class Output(io.RawIOBase):
    """A file descriptor to write to. After an error, everything is discarded.

    Attributes:
        failure: the error, unless only its reader left.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.failure: OSError | None = None
        self._descriptor = descriptor
        self._is_dead = False
        self._unwritten: deque[memoryview] = deque()
        self._size = 0
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._changed = threading.Condition()  # reentrant: a signal handler may write while its thread does
        self._is_writing = False
        self._thread: threading.Thread | None = None

    def writable(self) -> bool:
        """See :class:`io.IOBase`."""
        return True

    def fileno(self) -> int:
        """See :class:`io.IOBase`."""
        return self._descriptor

    def isatty(self) -> bool:
        """See :class:`io.IOBase`."""
        return os.isatty(self._descriptor)

    def move(self, replacement: int) -> None:
        """Write to a copy of the descriptor from now on.

        Args:
            replacement: a descriptor. What others write to the one of this object, such as libraries and programs that
                are started, goes there.
        """
        with self._changed:
            copy = os.dup(self._descriptor)
            os.dup2(replacement, self._descriptor)
            self._poll.unregister(self._descriptor)
            self._poll.register(copy, select.POLLOUT)
            self._descriptor = copy

    def has_reader(self) -> bool:
        """Return whether what is written may still be read: not after a pipe, socket or terminal was closed there."""
        closed = select.POLLERR | select.POLLHUP | select.POLLNVAL
        return not self._is_dead and not any(event & closed for _, event in self._poll.poll(0))

    def write(self, data: object) -> int:
        """Write ``data``, or keep it until it can be written."""
        taken = memoryview(bytes(data))  # type: ignore[call-overload]  # any object with bytes
        with self._changed:
            if taken and not self._is_dead:
                self._unwritten.append(taken)
                self._size += len(taken)
                self._write_what_is_taken()
        return len(taken)

    def wait_for_room(self) -> None:
        """Wait while more than :data:`MAX_UNREAD` is kept: for those who write without end, or hold no lock."""
        with self._changed:
            self._changed.wait_for(lambda: self._size <= MAX_UNREAD)

    def wait(self, seconds: float | None) -> None:
        """Wait until everything is written or discarded, ``seconds`` at most."""
        with self._changed:
            self._write_what_is_taken()  # Ctrl-C may have ended an earlier call
            self._changed.wait_for(lambda: not self._unwritten, seconds)

    def _write_what_is_taken(self) -> None:
        """Write as long as that needs no waiting; leave the rest to a thread. Nothing is done while it writes."""
        if self._thread is not None or self._is_writing:
            return
        self._is_writing = True
        try:
            while self._unwritten:
                if not self._poll.poll(0):  # an error counts as ready: the write reports it
                    self._thread = threading.Thread(target=self._write_the_rest, name="output", daemon=True)
                    self._thread.start()
                    return
                self._write_some()
        except RuntimeError:  # no more threads can be started: wait for the reader after all
            self._write_the_rest()
        finally:
            self._is_writing = False

    def _write_the_rest(self) -> None:
        while True:
            with self._changed:
                if not self._unwritten:
                    self._thread = None
                    return
            self._write_some()

    def _write_some(self) -> None:
        """Write up to a chunk. At most one thread is here at a time."""
        try:
            written = os.write(self._descriptor, self._unwritten[0][:_CHUNK])
        except BlockingIOError:  # another process made it non-blocking: https://www.gnu.org/s/libc/manual (O_NONBLOCK)
            select.select([], [self._descriptor], [], 1)
            return
        except OSError as error:
            self._discard(error)
            return
        with self._changed:
            first = self._unwritten.popleft()
            if written < len(first):
                self._unwritten.appendleft(first[written:])
            self._size -= written
            self._changed.notify_all()

    def _discard(self, error: OSError) -> None:
        """Discard everything from now on; what libraries write to the descriptor itself, too."""
        with self._changed:
            self._is_dead = True
            self._unwritten.clear()
            self._size = 0
            if error.errno not in _READER_LEFT:
                self.failure = error
            self._changed.notify_all()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._descriptor)
        os.close(nowhere)


@dataclass(frozen=True)
class StandardStreams:
    """What standard output and standard error are written to."""

    stdout: Output
    stderr: Output

    def reserve_stdout(self) -> None:
        """Leave standard output to those who have its stream by now; what others write there goes to standard error."""
        self.stdout.move(self.stderr.fileno())
        sys.stdout = sys.stderr

    def finish(self, seconds: float | None = None) -> OSError | None:
        """Wait until everything is written, ``seconds`` at most for each stream.

        Returns:
            The error if standard output could not be written; None if it was, or if its reader left.
        """
        for output in (self.stdout, self.stderr):
            output.wait(seconds)
        return self.stdout.failure


def secure_standard_streams() -> StandardStreams:
    """Replace ``sys.stdin``, ``sys.stdout`` and ``sys.stderr`` by streams that always work.

    A closed descriptor is opened on the null device: otherwise the next file that is opened, such as the store, gets
    its number, and whatever is printed ends up there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if descriptor == 0 else os.O_WRONLY)  # gets the lowest free number
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open as long as the process
    stdout, stderr = Output(1), Output(2)
    sys.stdout = _text_stream(sys.stdout, stdout)
    sys.stderr = _text_stream(sys.stderr, stderr)
    return StandardStreams(stdout, stderr)


def _text_stream(replaced: object, output: Output) -> io.TextIOWrapper:
    encoding = getattr(replaced, "encoding", None) or "utf-8"
    return io.TextIOWrapper(output, encoding, "backslashreplace", write_through=True)  # type: ignore[arg-type]


def wait_for_room(stream: TextIO) -> None:
    """Wait while a reader is too far behind. No lock is held: others may have to stop a job, and say so."""
    binary = getattr(stream, "buffer", None)
    if isinstance(binary, Output):
        binary.wait_for_room()
