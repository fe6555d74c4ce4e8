"""Read the files that users write or name: regular files only, of a limited size, and without ever blocking.

A path that a user gives may be a named pipe that nobody writes to, a device without an end, a directory, a loop of
links or a file that grows while it is read. Each is an error of its own, with a hint.
"""

from __future__ import annotations

import codecs
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TextIO, TypeAlias

from caliban.errors import CalibanError, UsageError

AnyPath: TypeAlias = "str | os.PathLike[str]"

MIB = 1024**2

DEFAULT_LIMIT = MIB
"""Bytes of a configuration file, at most: such files have some kilobytes."""

_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)
_UTF_16_OR_32 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_HINT_MODE = "check the owner and the mode of the file and of the directories above it"
_ERRORS = {
    errno.ENOENT: ("file-not-found", "check the path"),
    errno.ENOTDIR: ("file-not-found", "check the path: a part of it is not a directory"),
    errno.ENAMETOOLONG: ("path-too-long", "use a shorter path"),
    errno.ELOOP: ("link-loop", "replace the link with the file itself: it leads back to itself"),
}


class InputFileError(UsageError):
    """A file that cannot be used.

    Its ids: ``file-not-found``; ``broken-link``, ``link-loop``; ``path-too-long``, ``invalid-path``; ``not-a-file``;
    ``file-too-large``; ``file-unreadable``; ``not-utf-8``.
    """

    @property
    def is_missing(self) -> bool:
        """Whether there is nothing at the path. A link to a missing file is something."""
        return self.id == "file-not-found"

    def translated(self, type: type[CalibanError], id: str, message: str) -> CalibanError:
        """Return the same failure as the error of a caller, which says what the file was for."""
        return type(id, message, cause=self.cause, hint=self.hint)


def read_bytes(path: AnyPath, *, limit: int = DEFAULT_LIMIT) -> bytes:
    """Return the content of a regular file, or of the regular file that a link names.

    Args:
        path: the file.
        limit: bytes of content, at most; a file that grows is read to the limit and one byte more.

    Raises:
        InputFileError: see there.
    """
    content = read_start(path, limit + 1)
    _check_size(content, path, limit)
    return content


def read_start(path: AnyPath, size: int, *, follow_links: bool = True) -> bytes:
    """Return the first ``size`` bytes of a regular file, or all of a shorter one.

    Raises:
        InputFileError: see there.
    """
    with open_regular(path, follow_links=follow_links) as file:
        return read(file, size, path)


def read_text(path: AnyPath, *, limit: int = DEFAULT_LIMIT, errors: str = "strict") -> str:
    r"""Return the text of a UTF-8 file, without byte order mark, and with ``\n`` at the end of each line.

    Args:
        path: the file.
        limit: bytes of content, at most.
        errors: what to do with bytes that are not UTF-8, as for :meth:`bytes.decode`.

    Raises:
        InputFileError: see there.
    """
    return decode(read_bytes(path, limit=limit), os.fspath(path), errors)


def decode(content: bytes, source: str, errors: str = "strict") -> str:
    r"""Return UTF-8 content as text, without byte order mark, and with ``\n`` at the end of each line.

    Args:
        content: what was read.
        source: the name of the file, for messages.
        errors: what to do with bytes that are not UTF-8.

    Raises:
        InputFileError: ``not-utf-8``.
    """
    hint = "save the file as UTF-8"
    if content.startswith(_UTF_16_OR_32):
        raise _error("not-utf-8", source, "UTF-16 or UTF-32 text", hint)
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _error("not-utf-8", source, f"invalid UTF-8 in line {line}", hint) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_stream(stream: TextIO | None, source: str, limit: int = DEFAULT_LIMIT) -> str:
    """Return the text of a stream of UTF-8, such as standard input. Waiting for it is what its user asked for.

    Args:
        stream: what to read; None where the process was started without it.
        source: its name, for messages.
        limit: bytes, at most.

    Raises:
        InputFileError: ``file-too-large``, ``file-unreadable``, ``not-utf-8``.
    """
    hint = "redirect it from a file or a pipe"
    if stream is None or stream.closed:
        raise _error("file-unreadable", source, "it is closed", hint)
    try:
        content: bytes | str = getattr(stream, "buffer", stream).read(limit + 1)
    except OSError as error:
        raise _error("file-unreadable", source, error.strerror or type(error).__name__, hint) from error
    _check_size(content, source, limit)
    return decode(content, source) if isinstance(content, bytes) else content


@contextmanager
def open_regular(path: AnyPath, *, follow_links: bool = True) -> Iterator[IO[bytes]]:
    """Open a regular file for reading, unbuffered. Nothing else is opened: that can block, or have side effects.

    Args:
        path: the file.
        follow_links: whether it may be a link.

    Raises:
        InputFileError: see there.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow_links else os.O_NOFOLLOW)
    with ExitStack() as stack:
        try:
            _check_kind(Path(path).stat(follow_symlinks=follow_links), path)
            file = stack.enter_context(os.fdopen(os.open(path, flags), "rb", buffering=0))
            _check_kind(os.fstat(file.fileno()), path)
        except OSError as error:
            raise _translated(error, path) from error
        except ValueError as error:  # NUL, or a character that no file name can have
            raise _error("invalid-path", path, "a character that no file name can have", "check the path") from error
        yield file


def is_inside(path: AnyPath, directory: AnyPath) -> bool:
    """Return whether a path is in a directory after all links are resolved. Nothing needs to exist.

    A path that no file can have is inside nothing. Where links form a loop, they count by their own place.
    """
    try:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory))
    except (OSError, ValueError):
        return False


def is_file(path: AnyPath) -> bool:
    """Return whether there is a regular file; False where that cannot be determined, whatever the path."""
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except (OSError, ValueError):
        return False


def is_dir(path: AnyPath) -> bool:
    """Return whether there is a directory; False where that cannot be determined, whatever the path."""
    try:
        return stat.S_ISDIR(Path(path).stat().st_mode)
    except (OSError, ValueError):
        return False


def entry_is_dir(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a directory and no link; False where that cannot be determined.

    Some file systems do not say it with the name, and then it may be forbidden to look.
    """
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def read(file: IO[bytes], size: int, path: AnyPath) -> bytes:
    """Return the next ``size`` bytes of a file that :func:`open_regular` opened, or what is left.

    Raises:
        InputFileError: ``file-unreadable``.
    """
    content = bytearray()
    while len(content) < size:
        try:
            chunk = file.read(size - len(content))
        except OSError as error:
            raise _translated(error, path) from error
        if chunk is None:
            raise _error("file-unreadable", path, "reading it would block", "replace it with a regular file")
        if not chunk:
            break
        content += chunk
    return bytes(content)
    return bytes(content)


def _check_size(content: bytes | str, source: AnyPath, limit: int) -> None:
    if len(content) > limit:
        raise _error("file-too-large", source, f"larger than {_size(limit)}", "check that it is the right file")


def _check_kind(found: os.stat_result, path: AnyPath) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "not a regular file")
        raise _error("not-a-file", path, f"it is {kind}", "give a regular file, or replace it with one")


def _translated(error: OSError, path: AnyPath) -> InputFileError:
    if error.errno == errno.ENOENT and os.path.lexists(path):
        return _error("broken-link", path, "it is a link to a file that does not exist", "replace or remove it")
    name, hint = _ERRORS.get(error.errno or 0, ("file-unreadable", _HINT_MODE))
    return _error(name, path, error.strerror or type(error).__name__, hint)


def _error(id: str, path: AnyPath, cause: str, hint: str) -> InputFileError:
    name = shortened(os.fspath(path))
    message = f"file not found: {name}" if id == "file-not-found" else f"cannot read {name}"
    return InputFileError(id, message, cause=cause, hint=hint)


def shortened(text: str, width: int = 200) -> str:
    """Return a text for a message, without its middle where it is longer than ``width`` characters."""
    return text if len(text) <= width else f"{text[: width // 2]}...{text[-width // 2 :]}"


def _size(limit: int) -> str:
    return f"{limit // MIB} MiB" if limit >= MIB else f"{limit // 1024} KiB"
