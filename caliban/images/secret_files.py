"""Recognize credentials among a project's files: they never go into an image, whatever ``.dockerignore`` says."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_MAX_KEY_FILE_SIZE = 64 * 1024


@dataclass(frozen=True)
class SecretFiles:
    """Rules that say which files and directories are credentials.

    Attributes:
        names: of files and directories, anywhere.
        names_in: (name of a parent directory, name): what is a credential in such a directory only.
        marks: of JSON objects, as a key file may have any name: a file that contains all byte strings of one of these
            is a key.
        variables: environment variables that name a credentials file.
    """

    names: frozenset[str] = frozenset()
    names_in: frozenset[tuple[str, str]] = frozenset()
    marks: frozenset[tuple[bytes, ...]] = frozenset()
    variables: frozenset[str] = frozenset()

    def combined(self, other: SecretFiles) -> SecretFiles:
        """Return both sets of rules as one."""
        return SecretFiles(
            self.names | other.names,
            self.names_in | other.names_in,
            self.marks | other.marks,
            self.variables | other.variables,
        )


GENERIC = SecretFiles(
    names=frozenset(
        {
            ".aws",
            ".azure",
            ".creds",
            ".docker",
            ".dockercfg",
            ".git-credentials",
            ".gnupg",
            ".netrc",
            ".pgpass",
            ".pypirc",
            ".ssh",
        }
    )
)
"""The rules that belong to no platform."""


class SecretFinder:
    """Finds credentials by name, by content, and by the environment variables that name them.

    Args:
        rules: which files are credentials.
        environ: the environment variables.
    """

    def __init__(self, rules: SecretFiles, environ: Mapping[str, str]) -> None:
        self._rules = rules
        self._named = frozenset(_file_ids(environ.get(variable) for variable in rules.variables))

    def is_secret(self, entry: os.DirEntry[str]) -> bool:
        """Return whether a file or directory is a credential.

        Raises:
            OSError: the file cannot be read.
        """
        parent = Path(entry.path).parent.name
        if entry.name in self._rules.names or (parent, entry.name) in self._rules.names_in:
            return True
        if not entry.is_file(follow_symlinks=False):
            return False
        found = entry.stat(follow_symlinks=False)
        if (found.st_dev, found.st_ino) in self._named:
            return True
        return found.st_size <= _MAX_KEY_FILE_SIZE and self._is_key(Path(entry.path))

    def _is_key(self, path: Path) -> bool:
        with path.open("rb") as file:
            content = file.read(64)
            if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
                return False
            content += file.read()
        return any(all(mark in content for mark in marks) for marks in self._rules.marks)


def _file_ids(paths: Iterable[str | None]) -> Iterator[tuple[int, int]]:
    """Yield device and inode of each file."""
    for path in filter(None, paths):
        try:
            found = Path(path).stat()
        except OSError:  # a file that does not exist cannot get into an image
            continue
        yield found.st_dev, found.st_ino
