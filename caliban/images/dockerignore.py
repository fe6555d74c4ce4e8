"""Which files ``.dockerignore`` excludes, by the rules of BuildKit, which builds by default since Docker 23.

Lines are read as github.com/moby/patternmatcher/ignorefile does, and applied while directories are walked, as
github.com/tonistiigi/fsutil does: of the patterns that match a path or a directory above it, the last decides, and a
pattern with ``!`` includes files of directories that others exclude.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from caliban import input_files
from caliban.errors import ImageError
from caliban.images.go_patterns import SPACE, clean
from caliban.images.ignore_pattern import PathText, Pattern, PatternError
from caliban.input_files import InputFileError

FILE = ".dockerignore"

MAX_BYTES = 64 * 1024
"""Bytes of the file, at most: each file of the project is compared with all of it."""

# Before the project's own patterns, so that a pattern with `!` can include any of these.
_DEFAULT = (".git", "**/.git", ".caliban*", "**/__pycache__")


@dataclass(frozen=True)
class Verdict:
    """What the patterns say of one path.

    Attributes:
        excluded: whether it is excluded.
        matched: the set of the patterns, as bits, that matched it or a directory above it.
    """

    excluded: bool = False
    matched: int = 0


TOP = Verdict()
"""The verdict of the project's directory itself."""


class Ignored:
    """The patterns of ``.dockerignore``.

    Args:
        lines: the lines of the file.

    Raises:
        ImageError: ``dockerignore-malformed``.
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self._patterns = [Pattern(line) for line in _DEFAULT]
        for pattern in _patterns(lines):
            try:
                self._patterns.append(Pattern(pattern))
            except PatternError as error:
                raise _malformed(pattern, error) from error
        included = [pattern.below for pattern in self._patterns if pattern.includes]
        self._included_below = None if None in included else tuple(filter(None, included))

    @classmethod
    def read(cls, directory: Path) -> Ignored:
        """Read the file of a directory; without a file, only ``.git``, ``.caliban*`` and caches are excluded.

        Raises:
            ImageError: ``context-unreadable``, ``dockerignore-malformed``.
        """
        try:
            content = input_files.read_bytes(directory / FILE, limit=MAX_BYTES)
            if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                input_files.decode(content, FILE)  # raises
        except InputFileError as error:
            if not error.is_missing:
                raise error.translated(ImageError, "context-unreadable", f"cannot read {FILE}") from error
            content = b""
        return cls.parse(content)

    @classmethod
    def parse(cls, content: bytes) -> Ignored:
        """Read the content of a file. Names that are not UTF-8 are matched byte by byte.

        Raises:
            ImageError: ``dockerignore-malformed``.
        """
        return cls(content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape").split("\n"))

    def verdict(self, path: str, above: Verdict) -> Verdict:
        """Return what the patterns say of a path.

        Args:
            path: relative to the project.
            above: the verdict of the directory that it is in.

        Raises:
            ImageError: ``dockerignore-malformed``: BuildKit rejects a pattern when it first applies it.
        """
        text = PathText(path)
        excluded, matched = False, 0
        for number, pattern in enumerate(self._patterns):
            bit = 1 << number
            if not above.matched & bit and (pattern.includes is not excluded or not _matches(pattern, text)):
                continue
            excluded, matched = not pattern.includes, matched | bit
        return Verdict(excluded, matched)

    def verdict_of(self, relative: str) -> Verdict:
        """Return what the patterns say of a path, from the directories above it on."""
        found = TOP
        parts = () if relative in ("", ".") else Path(relative).parts
        for depth in range(1, len(parts) + 1):
            found = self.verdict("/".join(parts[:depth]), found)
        return found

    def excludes(self, relative: str) -> bool:
        """Return whether a path is excluded, itself or by a directory above it."""
        return self.verdict_of(relative).excluded

    def may_include_below(self, directory: str) -> bool:
        """Return whether a pattern with ``!`` may include something below an excluded directory.

        BuildKit does not look into a directory where no pattern with ``!`` begins with its name, provided that none of
        them has wildcards.
        """
        if self._included_below is None:
            return True
        return any(each.startswith(f"{directory}/") for each in self._included_below)


def _patterns(lines: Iterable[str]) -> Iterator[str]:
    """Yield the patterns of the lines of a file, cleaned."""
    for line in lines:
        pattern = line.strip(SPACE)
        if line.startswith("#") or not pattern:
            continue
        includes = pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip(SPACE) if includes else pattern
        if pattern:
            pattern = clean(pattern)
            pattern = pattern[1:] if len(pattern) > 1 and pattern.startswith("/") else pattern
        yield f"!{pattern}" if includes else pattern


def _matches(pattern: Pattern, text: PathText) -> bool:
    try:
        return pattern.matches(text)
    except PatternError as error:
        raise _malformed(pattern.line, error) from error


def _malformed(pattern: str, error: PatternError) -> ImageError:
    return ImageError(
        "dockerignore-malformed",
        f'invalid pattern in {FILE}: "{input_files.shortened(pattern)}"',
        cause=str(error),
        hint="fix or remove the line: docker build rejects it, too; special characters of names need a backslash",
    )
