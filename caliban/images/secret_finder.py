"""Find credentials among the files of a project, by name, content and identity, at a bounded cost."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePath

from caliban import input_files
from caliban.images.secret_content import decoded, is_text, texts
from caliban.images.secret_rules import Rule, SecretFiles, Text

START = 64 * 1024
"""Bytes that are read of every file."""

MAX_TEXT = input_files.MIB
"""Bytes that are read of a text, at most: keys in a text that is longer are found in its beginning only."""

MAX_TOTAL = 256 * input_files.MIB
"""Bytes that are read so of all files together, at most."""

START_AFTER_TOTAL = 4 * 1024
"""Bytes that are read of each further file."""

_SOURCE_CODE = frozenset(
    (
        *(".py", ".pyi", ".pyx", ".pxd", ".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".cu", ".cuh", ".go"),
        *(".rs", ".js", ".mjs", ".ts", ".java", ".jl", ".r", ".pyc", ".so", ".dylib", ".dll", ".pyd", ".o", ".a"),
    )
)
"""Suffixes of source code and of compiled code, which a program needs."""

_BACKUP = re.compile(
    r"(?:~|\s|#|\(\d{1,3}\)|[ _-]copy|\.(?:bak|backup|old|orig|save|saved|copy|tmp|swp|disabled|\d{1,8}))+$",
    re.IGNORECASE,
)
_IDENTITY = "a credentials file of this machine"
_MAX_FILES_OF_A_DIRECTORY = 200
_CONFIG_DIRECTORIES = ("", ".config", ".cache")


class SecretFinder:
    """Says which files are credentials.

    Args:
        rules: which files are credentials.
        environ: the environment variables, some of which name credentials files, or the home directory.
        included: paths of the project that count as no credentials.

    Attributes:
        bytes_read: the bytes that were read so far.
        partly_searched: how many files were searched in their first ``START_AFTER_TOTAL`` bytes only, since
            ``MAX_TOTAL`` was reached.
    """

    def __init__(self, rules: SecretFiles, environ: Mapping[str, str], included: Sequence[str] = ()) -> None:
        self._by_directory = [rule for rule in rules.rules if rule.directories]
        self._by_name = [rule for rule in rules.rules if rule.names and not rule.has_content]
        self._with_content = [rule for rule in rules.rules if rule.has_content]
        self._included = frozenset(included)
        self._ids = frozenset(_identities(rules, environ))
        self.bytes_read = 0
        self.partly_searched = 0

    def find_directory(self, path: Path, source: str) -> str | None:
        """Return what the directory (or file) is, or None where it is no credentials directory.

        Args:
            path: its path on this machine.
            source: its path relative to the project.
        """
        if self._is_included(source):
            return None
        return next((rule.what for rule in self._by_directory if rule.has_directory(path)), None)

    def find_file(self, path: Path, source: str) -> str | None:
        """Return what credentials a regular file has, or None.

        Args:
            path: its path on this machine; a link is not followed.
            source: its path relative to the project.

        Raises:
            InputFileError: the file cannot be read.
        """
        if self._is_included(source):
            return None
        found = path.lstat()
        if (found.st_dev, found.st_ino) in self._ids:
            return _IDENTITY
        if PurePath(source).suffix.lower() in _SOURCE_CODE:
            return None
        by_name = self.find_name(path, source)
        if by_name is not None or not self._with_content or not stat.S_ISREG(found.st_mode):
            return by_name
        return self._by_content(_plain_name(path), self._content(path))

    def find_name(self, path: Path, source: str) -> str | None:
        """Return what a file is by its name alone, or None."""
        if self._is_included(source) or PurePath(source).suffix.lower() in _SOURCE_CODE:
            return None
        name = _plain_name(path)
        return next((rule.what for rule in self._by_name if rule.has_name(name)), None)

    def _is_included(self, source: str) -> bool:
        return bool(self._included) and any(str(each) in self._included for each in (source, *PurePath(source).parents))

    def _content(self, path: Path) -> bytes:
        with input_files.open_regular(path, follow_links=False) as file:
            size = os.fstat(file.fileno()).st_size
            is_within_total = self.bytes_read < MAX_TOTAL
            content = input_files.read(file, START if is_within_total else START_AFTER_TOTAL, path)
            if is_within_total and len(content) == START and is_text(content):
                content += input_files.read(file, MAX_TEXT - START, path)
        self.bytes_read += len(content)
        self.partly_searched += not is_within_total and size > len(content)
        return content

    def _by_content(self, name: PurePath, content: bytes) -> str | None:
        rules = [rule for rule in self._with_content if not rule.names or rule.has_name(name)]
        parts = list(decoded(content))
        for text in map(Text, (*texts(content), *texts(b"\n".join(parts)))):
            for rule in rules:
                if rule.has_text(text):
                    return rule.what
        for rule in rules:
            if rule.check is not None and (rule.check(content) or (not rule.names and any(map(rule.check, parts)))):
                return rule.what
        return None


def _plain_name(path: PurePath) -> PurePath:
    """Return a path without the endings of backup copies."""
    return path.with_name(_BACKUP.sub("", path.name) or path.name)


def _identities(rules: SecretFiles, environ: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """Yield device and inode of the credentials files of this machine: a hard link may give them any name."""
    paths: list[str | Path] = [*rules.files, *_named(rules.rules, environ)]
    for path in (*paths, *_of_home(rules.rules, environ.get("HOME"))):
        try:
            found = Path(path).stat()
        except (OSError, ValueError):  # a file that does not exist cannot get into an image
            continue
        if stat.S_ISREG(found.st_mode):
            yield found.st_dev, found.st_ino


def _named(rules: Sequence[Rule], environ: Mapping[str, str]) -> Iterator[str]:
    for rule in rules:
        for variable in rule.variables:
            yield from filter(None, environ.get(variable, "").split(os.pathsep))


def _of_home(rules: Sequence[Rule], home: str | None) -> Iterator[Path]:
    if not home:
        return
    for directory in _CONFIG_DIRECTORIES:
        for rule in rules:
            if not rule.has_content:
                yield from (Path(home, directory, name) for name in rule.names if "*" not in name)
            for name in rule.directories:
                yield from _files_of(Path(home, directory, name))


def _files_of(directory: Path) -> Iterator[Path]:
    try:
        with os.scandir(directory) as entries:
            yield from [Path(entry.path) for entry in islice(entries, _MAX_FILES_OF_A_DIRECTORY)]
    except (OSError, ValueError):
        return
