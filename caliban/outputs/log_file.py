"""The log file of a job on this machine: what the job writes, as it comes, in one file of bounded size.

It has the first :attr:`LogLimits.head` and the last :attr:`LogLimits.tail` bytes, in whole lines, and a line in between
that says how much was left out. While the job runs, it may grow by another ``tail`` bytes before it is made smaller; it
stays the same file, which ``tail -f`` follows. Nothing here raises an error of the file system: a job must not end
because its log cannot be written.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from caliban.outputs.paths import log_name, logs_dir
from caliban.outputs.progress_bars import LastStates

HEAD_VARIABLE = "CALIBAN_LOG_HEAD"
TAIL_VARIABLE = "CALIBAN_LOG_TAIL"
_SIZE = re.compile(r"(\d{1,12}) ?([KMG]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class LogLimits:
    """How much of a job's output its log file has, in bytes; no file is written where both are 0."""

    head: int = 1 << 20
    tail: int = 16 << 20

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], warn: Callable[[str], None]) -> LogLimits:
        """Read ``CALIBAN_LOG_HEAD`` and ``CALIBAN_LOG_TAIL``: ``500000``, ``64K``, ``16M``, ``1G``.

        Args:
            environ: the environment variables.
            warn: called for a value that is no size; the default counts instead.
        """
        default = cls()
        return cls(
            _size(environ, HEAD_VARIABLE, default.head, warn),
            _size(environ, TAIL_VARIABLE, default.tail, warn),
        )


def _size(environ: Mapping[str, str], name: str, default: int, warn: Callable[[str], None]) -> int:
    value = environ.get(name)
    if not value:
        return default
    found = _SIZE.fullmatch(value.strip())
    if found is None:
        warn(f'${name}: expected a size such as 16M, got "{value}"; {default >> 20}M is used')
        return default
    return int(found[1]) * _UNITS[found[2].upper()]


class LogFile:
    """Writes the log file of one job. Use :func:`open_log`.

    Args:
        descriptor: of the file, empty, and locked by this process.
        limits: of its size.
        on_failure: called once, with an error of the file system; nothing is written any more then.
    """

    def __init__(self, descriptor: int, limits: LogLimits, on_failure: Callable[[OSError], None]) -> None:
        self._descriptor: int | None = descriptor
        self._limits = limits
        self._on_failure = on_failure
        self._states = {False: LastStates(), True: LastStates()}
        self._head = 0  # bytes of the file that stay
        self._is_head_complete = False
        self._marker = 0  # bytes of the line that says what is left out
        self._left_out = 0
        self._body = 0  # bytes after that

    def write(self, data: bytes, *, is_stderr: bool) -> None:
        """Add what a job wrote, as far as it is in whole lines."""
        self._append(self._states[is_stderr].feed(data))

    def close(self) -> None:
        """Add unfinished lines, and make the file as small as it has to be."""
        rests = [rest for rest in (self._states[is_stderr].flush() for is_stderr in (False, True)) if rest]
        self._append(b"\n".join(rests))
        self._try(self._shrink)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, data: bytes) -> None:
        size = max(1, self._limits.tail)
        for start in range(0, len(data), size):
            self._try(partial(self._add, data[start : start + size]))

    def _add(self, piece: bytes) -> None:
        if not self._is_head_complete:
            room = self._limits.head - self._head
            if len(piece) > room:
                self._is_head_complete = True
                end = piece.rfind(b"\n", 0, room) + 1 if room else 0
                taken, piece = piece[:end], piece[end:]
            else:
                taken, piece = piece, b""
            self._put(taken, self._head)
            self._head += len(taken)
        if piece:
            self._put(piece, self._head + self._marker + self._body)
            self._body += len(piece)
            if self._body > 2 * self._limits.tail:
                self._shrink()

    def _shrink(self) -> None:
        """Leave out what is too much, from the beginning of a line to that of another one."""
        assert self._descriptor is not None
        if self._body <= self._limits.tail:
            return
        tail = os.pread(self._descriptor, self._limits.tail, self._head + self._marker + self._body - self._limits.tail)
        if not self._starts_line(self._head + self._marker + self._body - len(tail)):
            tail = tail[tail.find(b"\n") + 1 :]  # all of it where it is within one long line
        self._left_out += self._body - len(tail)
        marker = f"[caliban: {self._left_out} bytes of output were left out here]\n".encode()
        self._put(marker + tail, self._head)
        self._marker, self._body = len(marker), len(tail)
        os.ftruncate(self._descriptor, self._head + self._marker + self._body)

    def _starts_line(self, offset: int) -> bool:
        assert self._descriptor is not None
        return offset == 0 or os.pread(self._descriptor, 1, offset - 1) == b"\n"

    def _put(self, data: bytes, offset: int) -> None:
        assert self._descriptor is not None
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
            rest, offset = rest[written:], offset + written

    def _try(self, step: Callable[[], None]) -> None:
        if self._descriptor is None:
            return
        try:
            step()
        except OSError as error:  # a full disk, a quota, a server of files that is gone
            descriptor, self._descriptor = self._descriptor, None
            with suppress(OSError):
                os.close(descriptor)
            self._on_failure(error)


class LogFileError(OSError):
    """A log file cannot be written; the message says why."""


def open_log(home: Path, name: str | None, limits: LogLimits, on_failure: Callable[[OSError], None]) -> LogFile | None:
    """Return the log file of a job, to be written from its first byte on.

    Args:
        home: the user's home directory.
        name: the job's name.
        limits: of the size of the file.
        on_failure: called once if the file cannot be opened or written.

    Returns:
        None if it cannot be opened, if none is wanted, or while another process writes it.
    """
    file_name = log_name(name)
    if file_name is None or limits.head + limits.tail == 0:
        return None
    try:
        descriptor = _opened(logs_dir(home), file_name)
        return None if descriptor is None else LogFile(_emptied(descriptor), limits, on_failure)
    except OSError as error:
        on_failure(error)
        return None


def write_log(
    home: Path,
    name: str | None,
    limits: LogLimits,
    output: Iterable[tuple[bytes, bool]],
    on_failure: Callable[[OSError], None],
) -> None:
    """Write the log file of a job that has ended; nothing while another process writes it.

    The result is the same as that of the process that followed the job, so it may be done again.

    Args:
        home: the user's home directory.
        name: the job's name.
        limits: of the size of the file.
        output: of the job, from its first byte on; whether it is standard error.
        on_failure: called once if the file cannot be opened or written.
    """
    file_name = log_name(name)
    if file_name is None or limits.head + limits.tail == 0:
        return
    try:
        held = _opened(logs_dir(home), file_name)
        if held is None:
            return
        try:
            _replace(logs_dir(home), file_name, limits, output)
        finally:
            os.close(held)
    except OSError as error:
        on_failure(error)


def _replace(directory: Path, name: str, limits: LogLimits, output: Iterable[tuple[bytes, bool]]) -> None:
    """Write another file in full, then give it the name: what cannot be read to its end replaces nothing."""
    part = f"{name}.part"
    descriptor = _opened(directory, part)
    if descriptor is None:
        return
    failures: list[OSError] = []
    log = LogFile(_emptied(descriptor), limits, failures.append)
    try:
        for data, is_stderr in output:
            log.write(data, is_stderr=is_stderr)
        log.close()
        if failures:
            raise failures[0]
        (directory / part).replace(directory / name)
    except BaseException:
        log.close()
        (directory / part).unlink(missing_ok=True)
        raise


def _opened(directory: Path, name: str) -> int | None:
    """Return a descriptor of a file of mode 0600, locked; None if another process has locked it.

    Raises:
        OSError: it cannot be opened, or is not a file that only the user can have put there.
    """
    parent = _directory(directory)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(name, flags, 0o600, dir_fd=parent)
    finally:
        os.close(parent)
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1 or state.st_uid != os.geteuid():
            raise LogFileError(f"{name} is a link, or no file of yours")
        if not _lock(descriptor):
            os.close(descriptor)
            return None
        os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _emptied(descriptor: int) -> int:
    os.ftruncate(descriptor, 0)
    return descriptor


def _directory(path: Path) -> int:
    """Return a descriptor of the directory of log files, which is created with mode 0700."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        state = os.fstat(descriptor)
        if state.st_uid != os.geteuid():
            raise LogFileError("the directory belongs to another user")
        if stat.S_IMODE(state.st_mode) & 0o077:
            os.fchmod(descriptor, 0o700)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock(descriptor: int) -> bool:
    """Return whether this process has the file for itself; where there are no locks, it has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network file system without locks
        return True
    return True
