"""What an image was built from: the files of the project, and the settings that enter the image. Pure.

A manifest is identified by its contents: builds of the same files with the same settings have the same one, whoever
builds them, and wherever.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from caliban.records import JsonObject

MAX_TEXT = 256 * 1024
"""Bytes of a text that is kept, at most."""

MAX_TEXTS = 16 * 1024**2
"""Bytes of all texts of one build that are kept, at most."""

MAX_FILES = 50_000
"""Files of a build that is recorded, at most."""


@dataclass(frozen=True, order=True)
class CodeFile:
    """A file or link of a project, as it entered an image.

    Attributes:
        path: relative to the project.
        sha256: of its content; for a link, of its target.
        size: bytes of content; for a link, of its target.
        is_link: whether it is a link.
        is_executable: whether its mode has an execute bit.
    """

    path: str
    sha256: str
    size: int
    is_link: bool = False
    is_executable: bool = False


@dataclass(frozen=True)
class CodeManifest:
    """What an image was built from.

    Attributes:
        files: in the order of their paths.
        settings: those of the container spec that enter the image, as they are recorded in it.
    """

    files: tuple[CodeFile, ...]
    settings: JsonObject = field(hash=False)

    @cached_property
    def content(self) -> bytes:
        """The manifest as it is stored: equal manifests have equal contents."""
        files = [[each.path, each.sha256, each.size, each.is_link, each.is_executable] for each in self.files]
        value = {"files": files, "settings": self.settings}
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    @cached_property
    def sha256(self) -> str:
        """Its identity."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def compressed(self) -> bytes:
        """The content as it is stored (zlib)."""
        return zlib.compress(self.content)

    @cached_property
    def by_path(self) -> Mapping[str, CodeFile]:
        """Its files by their paths."""
        return {each.path: each for each in self.files}

    @classmethod
    def parse(cls, content: bytes) -> CodeManifest | None:
        """Read a stored manifest; None for one that is malformed."""
        try:
            value = json.loads(content)
            files = tuple(_file(each) for each in value["files"])
            settings = value["settings"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return cls(files, settings) if isinstance(settings, dict) else None


@dataclass(frozen=True)
class GitState:
    """The commit of a project's Git repository.

    Attributes:
        commit: its object name, in hexadecimal.
        is_dirty: whether tracked files differ from it; None where that cannot be determined.
    """

    commit: str
    is_dirty: bool | None = None


@dataclass(frozen=True)
class CodeRecord:
    """What is recorded of one build.

    Attributes:
        manifest: what entered the image.
        texts: contents by SHA-256, of those files whose text is kept.
        git: the commit; None for a project without one.
    """

    manifest: CodeManifest
    texts: Mapping[str, bytes] = field(default_factory=dict, hash=False, repr=False)
    git: GitState | None = None

    @cached_property
    def compressed(self) -> Mapping[str, bytes]:
        """The texts as they are stored (zlib)."""
        return {sha256: zlib.compress(text) for sha256, text in self.texts.items()}

    def prepared(self) -> CodeRecord:
        """Return the record, with all that takes time done: a transaction that stores it is short."""
        _ = self.manifest.compressed, self.compressed
        return self


def _file(value: object) -> CodeFile:
    if not isinstance(value, list) or len(value) != 5:
        raise ValueError("a file has five fields")
    path, sha256, size, is_link, is_executable = value
    if not (isinstance(path, str) and isinstance(sha256, str) and isinstance(size, int)):
        raise TypeError("a path, a digest and a size")
    return CodeFile(path, sha256, size, bool(is_link), bool(is_executable))
