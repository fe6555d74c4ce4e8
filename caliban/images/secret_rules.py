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


class Text:
    """A text that is searched for marks.

    Attributes:
        original: in ASCII where that is possible.
        lower: in lower case.
    """

    def __init__(self, original: bytes) -> None:
        self.original = original
        self.lower = original.lower()
        self._words: dict[bytes, bool] = {}

    def has(self, word: bytes) -> bool:
        """Return whether a word in lower case occurs. Words are looked for once."""
        found = self._words.get(word)
        if found is None:
            found = self._words[word] = word in self.lower
        return found


@dataclass(frozen=True)
class Mark:
    """What the text of credentials has.

    Attributes:
        words: in lower case; the text has one of them. Looking for words is much faster than for a pattern.
        pattern: has a match in the text.
        is_exact: whether upper and lower case matter; otherwise the pattern is for text in lower case.
        is_start: whether the match is at the start of the text.
    """

    words: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    is_exact: bool = False
    is_start: bool = False

    def is_in(self, text: Text) -> bool:
        """Return whether a text has the mark."""
        if not any(map(text.has, self.words)):
            return False
        search = self.pattern.match if self.is_start else self.pattern.search
        return search(text.original if self.is_exact else text.lower) is not None


def mark(pattern: str, *words: str, is_exact: bool = False, is_start: bool = False) -> Mark:
    """Return a mark.

    Args:
        pattern: a regular expression, in lower case unless ``is_exact``. Its time must not grow faster than the text.
        words: each match contains one of them.
        is_exact: whether upper and lower case matter.
        is_start: whether the match is at the start of the text.
    """
    assert words
    compiled = re.compile(pattern.encode(), re.MULTILINE)
    return Mark(tuple(word.lower().encode() for word in words), compiled, is_exact, is_start)


def value_of(*keys: str, value: str = r"[^\s\"'{}\[\],]") -> Mark:
    """Return the mark of a key with a value, as JSON, YAML, TOML, INI and environment files have it.

    Args:
        keys: one of these.
        value: a regular expression for its value, or for the beginning of it, in lower case.
    """
    # A pattern that begins with letters is found fastest, so what precedes the key is checked afterwards.
    names = [re.escape(key.lower()) for key in keys]
    key = "|".join(rf"{name}(?<![a-z0-9]{name})" for name in names)
    key = key if len(names) == 1 else f"(?:{key})"
    return mark(rf"{key}[\"']?\s{{0,20}}[:=]\s{{0,20}}[\"']{{0,3}}{value}", *keys)


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

    def has_text(self, text: Text) -> bool:
        """Return whether a text is such a credential."""
        return bool(self.text) and all(mark.is_in(text) for mark in self.text)

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
