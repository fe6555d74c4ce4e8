"""A file of the build context that the project does not have in this form."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from caliban.images.context_stream import ContextFile, Observer, member, padding


@dataclass(frozen=True)
class GeneratedFile(ContextFile):
    """A file with a content of its own.

    Attributes:
        content: its bytes.
    """

    content: bytes = b""

    @classmethod
    def of(cls, name: str, source: str, content: bytes) -> GeneratedFile:
        """Return a file ``name`` of the context, made from the file ``source`` of the project."""
        return cls(name, None, len(content), source, content=content)

    def pieces(self, sent: Callable[[int], object], observer: Observer | None = None) -> Iterator[bytes]:
        """Yield it as a member of the archive; see :func:`caliban.images.context_stream.member_of`."""
        info = tarfile.TarInfo(self.name)
        info.mode = 0o644
        yield from member(info, self.size)
        if observer:
            seen = observer.content(self, is_executable=False, is_generated=True)
            seen.add(self.content)
            seen.finish()
        yield self.content + padding(self.size)
        sent(self.size)
