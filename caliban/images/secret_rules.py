"""What a rule about credentials files is: names, and what the content must have."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

Check = Callable[[bytes], bool]
"""Says whether the content of a file is a credential."""


@dataclass(frozen=True)
class Mark:
    """What the text of credentials has.

    Attributes:
        words: in lower case; the text has one of them. Looking for words is much faster than for a pattern.
        pattern: has a match in the text.
    """

    words: tuple[bytes, ...]
    pattern: re.Pattern[bytes]

    def is_in(self, text: bytes, lower: bytes) -> bool:
        """Return whether a text has the mark; ``lower`` is the text in lower case."""
        return any(word in lower for word in self.words) and self.pattern.search(text) is not None


def mark(pattern: str, *words: str) -> Mark:
    """Return a mark, which does not distinguish upper and lower case.

    Args:
        pattern: a regular expression. Its time must not grow faster than the text.
        words: each match contains one of them.
    """
    assert words
    return Mark(
        tuple(word.lower().encode() for word in words), re.compile(pattern.encode(), re.IGNORECASE | re.MULTILINE)
    )


def value_of(*keys: str, value: str = r"[^\s\"'{}\[\],]") -> Mark:
    """Return the mark of a key with a value, as JSON, YAML, TOML, INI and environment files have it.

    Args:
        keys: one of these.
        value: a regular expression for its value, or for the beginning of it.
    """
    key = "|".join(map(re.escape, keys))
    return mark(rf"(?<![\w-])(?:{key})[\"']?\s{{0,20}}[:=]\s{{0,20}}[\"']?{value}", *keys)


@dataclass(frozen=True)
class Rule:
    """One kind of credentials.

    Attributes:
        what: what such a file is: ``a private key``.
        directories: files and directories that are left out whole, by the end of their path: ``.ssh``,
            ``.config/lab``.
        names: files, by the end of their path, as patterns: ``.netrc``, ``*.p12``, ``gh/hosts.yml``. All is compared
            in lower case.
        not_names: exceptions from ``names``.
        text: a file is such a credential if its text has each of the marks. With ``names``: only such a file.
        check: as ``text``, for what is not text: a function of the content.
        variables: environment variables that name such a file, or several with colons between.
    """

    what: str
    directories: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    not_names: tuple[str, ...] = ()
    text: tuple[Mark, ...] = ()
    check: Check | None = None
    variables: tuple[str, ...] = ()

    @property
    def has_content(self) -> bool:
        """Whether the content decides."""
        return bool(self.text) or self.check is not None

    def has_directory(self, path: PurePath) -> bool:
        """Return whether a path is one of the directories."""
        return self._directories.matches(path)

    def has_name(self, path: PurePath) -> bool:
        """Return whether a path is one of the names."""
        return self._names.matches(path) and not self._not_names.matches(path)

    def has_text(self, text: bytes, lower: bytes) -> bool:
        """Return whether a text is such a credential; ``lower`` is the text in lower case."""
        return bool(self.text) and all(mark.is_in(text, lower) for mark in self.text)

    @cached_property
    def _directories(self) -> _Ends:
        return _Ends(self.directories)

    @cached_property
    def _names(self) -> _Ends:
        return _Ends(self.names)

    @cached_property
    def _not_names(self) -> _Ends:
        return _Ends(self.not_names)


class _Ends:
    """Patterns of the ends of paths."""

    def __init__(self, patterns: Sequence[str]) -> None:
        translated = "|".join(fnmatch.translate(pattern) for pattern in patterns)
        self._match = re.compile(translated).match if patterns else None
        self._depths = sorted({pattern.count("/") + 1 for pattern in patterns})

    def matches(self, path: PurePath) -> bool:
        match = self._match
        if match is None:
            return False
        return any(match("/".join(path.parts[-depth:]).lower()) is not None for depth in self._depths)


@dataclass(frozen=True)
class SecretFiles:
    """The rules that say which files are credentials.

    Attributes:
        rules: each is enough.
        files: paths of files that are credentials whatever they contain; also under another name (a hard link).
    """

    rules: tuple[Rule, ...] = ()
    files: tuple[str, ...] = ()

    def combined(self, other: SecretFiles) -> SecretFiles:
        """Return both sets of rules as one."""
        return SecretFiles(self.rules + other.rules, self.files + other.files)
