"""The build context as a tar stream: what was collected, even if a file is replaced or grows before it is sent."""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from caliban.errors import ImageError
from caliban.input_files import InputFileError, open_regular, read, shortened

_CHUNK = 256 * 1024
_HINT_CHANGED = "run the command again when nothing writes to the directory, or exclude such files in .dockerignore"


@dataclass(frozen=True)
class ContextFile:
    """A file, directory or link of the context.

    Attributes:
        name: its path in the context.
        path: its path on this machine; None for a directory that has no original.
        size: bytes of content; 0 for directories and links.
        source: its path relative to the project.
        is_directory, is_link: what it was when it was found.
    """

    name: str
    path: Path | None
    size: int
    source: str
    is_directory: bool = False
    is_link: bool = False

    @property
    def original(self) -> Path:
        """Its path on this machine, where it has an original."""
        assert self.path is not None
        return self.path


class ContentObserver(Protocol):
    """Sees the content of one file as it is sent."""

    def add(self, piece: bytes) -> None:
        """See the next piece."""

    def finish(self) -> None:
        """See its end."""


class Observer(Protocol):
    """Sees what is sent, so that nothing has to be read twice."""

    def start(self) -> None:
        """See the beginning of the context."""

    def content(self, file: ContextFile, *, is_executable: bool, is_generated: bool = False) -> ContentObserver:
        """Return what sees the content of a regular file."""

    def link(self, file: ContextFile, target: str) -> None:
        """See a link."""

    def finish(self) -> None:
        """See the end of the context."""


def member_of(file: ContextFile, sent: Callable[[int], object], observer: Observer | None = None) -> Iterator[bytes]:
    """Yield a file as a member of the archive.

    Args:
        file: what to send.
        sent: called with the number of bytes of content that were sent.
        observer: sees what is sent.

    Raises:
        ImageError: ``context-unreadable``, ``context-changed``.
    """
    info = tarfile.TarInfo(file.name)
    if file.path is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        yield from member(info, 0)
        return
    try:
        found = file.path.lstat()
        info.mode, info.mtime = stat.S_IMODE(found.st_mode), int(found.st_mtime)
        if stat.S_ISREG(found.st_mode):
            seen = observer.content(file, is_executable=bool(info.mode & 0o111)) if observer else None
            yield from _content(file, info, sent, seen)
        elif stat.S_ISDIR(found.st_mode):
            info.type = tarfile.DIRTYPE
            yield from member(info, 0)
        elif stat.S_ISLNK(found.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, str(file.path.readlink())
            if observer:
                observer.link(file, info.linkname)
            yield from member(info, 0)
        # Sockets, pipes and devices are left out.
    except OSError as error:
        raise unreadable(error) from error


def member(info: tarfile.TarInfo, size: int) -> Iterator[bytes]:
    """Yield the header of a member of the archive, with ``size`` bytes of content."""
    info.size = size
    yield info.tobuf(format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape")


def _content(
    file: ContextFile, info: tarfile.TarInfo, sent: Callable[[int], object], seen: ContentObserver | None
) -> Iterator[bytes]:
    """Yield a regular file: what was collected, not what a link or a pipe that replaced it has, nor what was added."""
    try:
        with open_regular(file.original, follow_links=False) as content:
            yield from member(info, file.size)
            left = file.size
            while left:
                chunk = read(content, min(left, _CHUNK), file.original)
                if not chunk:
                    raise _changed(f"{file.source} was truncated")
                left -= len(chunk)
                if seen:
                    seen.add(chunk)
                yield chunk
                sent(len(chunk))
            if seen:
                seen.finish()
    except InputFileError as error:
        if error.id == "not-a-file":
            raise _changed(f"{file.source} was replaced") from error
        raise not_readable(error) from error
    yield padding(file.size)


def _changed(what: str) -> ImageError:
    return ImageError(
        "context-changed",
        f"cannot send the build context: {what} while it was read",
        hint=_HINT_CHANGED,
    )


def padding(size: int) -> bytes:
    """Return what follows a content of ``size`` bytes."""
    return bytes(-size % tarfile.BLOCKSIZE)


def unreadable(error: OSError) -> ImageError:
    """Return the error for a file or directory that the operating system does not let us read."""
    gone = isinstance(error, FileNotFoundError)
    return ImageError(
        "context-unreadable",
        f"cannot read a file of the build context: {shortened(str(error.filename))}",
        cause=f"{error.strerror}: it was removed while the context was read" if gone else error.strerror,
        hint=_HINT_CHANGED if gone else "make it readable, or exclude it in .dockerignore",
    )


def not_readable(error: InputFileError) -> ImageError:
    """Return the error for a file that cannot be read, from that of the operating system where there was one."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.filename is not None:
        return unreadable(cause)
    return ImageError("context-unreadable", error.message, cause=error.cause, hint=error.hint)
