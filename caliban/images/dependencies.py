"""The files of a project that say what to install: requirements.txt, environment.yml, setup.py, pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from caliban import input_files
from caliban.errors import UsageError
from caliban.images.pyproject import ProjectFiles
from caliban.input_files import InputFileError

MAX_BYTES = 4 * input_files.MIB
"""Bytes of such a file, at most."""

PACKAGING_FILE = re.compile(
    r"setup\.py|setup\.cfg|pyproject\.toml|MANIFEST\.in|requirements.*\.txt|(README|LICEN[CS]E|COPYING|NOTICE|VERSION).*",
    re.IGNORECASE,
)
"""The files at the top of a project that pip may read while it installs the project."""

_LOGIN_IN_URL = re.compile(rb"://(?:[^\s/@:]{0,200}:[^\s/@]{1,400}|[^\s/@:]{20,400})@")


def find(directory: Path, name: str) -> str | None:
    """Return the name of a file if the directory has it.

    Raises:
        UsageError: ``project-unreadable``: there is something that is not a file, or that cannot be read.
    """
    try:
        with input_files.open_regular(directory / name):
            return name
    except InputFileError as error:
        if error.is_missing:
            return None
        raise error.translated(UsageError, "project-unreadable", f"cannot read {name}") from error


def is_installable(directory: Path) -> bool:
    """Return whether a project describes itself or its dependencies: in a setup.py, or in pyproject.toml.

    A pyproject.toml that has nothing but settings of tools does not.

    Raises:
        UsageError: ``project-unreadable``.
    """
    return ProjectFiles(directory).is_installable


def has_login(path: Path) -> bool:
    """Return whether a file has a URL with a password or token, other than a variable (``${TOKEN}``).

    Raises:
        InputFileError: it cannot be read.
    """
    content = input_files.read_bytes(path, limit=MAX_BYTES)
    return any(b"${" not in match.group() for match in _LOGIN_IN_URL.finditer(content))
