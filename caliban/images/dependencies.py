"""The files of a project that say what to install: requirements.txt, environment.yml, setup.py, pyproject.toml."""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path, PurePosixPath

from caliban import input_files
from caliban.errors import UsageError
from caliban.input_files import InputFileError

MAX_BYTES = 4 * input_files.MIB
"""Bytes of such a file, at most."""

PACKAGING_FILE = re.compile(
    r"setup\.py|setup\.cfg|pyproject\.toml|MANIFEST\.in|requirements.*\.txt|(README|LICEN[CS]E|COPYING|NOTICE|VERSION).*",
    re.IGNORECASE,
)
"""The files at the top of a project that pip may read while it installs the project."""

# Applied to single lines: over a whole file, blank lines would make the time grow with their square.
_OTHER_REQUIREMENTS = re.compile(r"(?:-r|-c|--requirement|--constraint)(?:\s*=\s*|\s*)(\S+)")
# pip cannot install a project whose pyproject.toml has nothing but settings of tools.
_DESCRIBES_A_PROJECT = re.compile(r"\[\s*(?:project|build-system)\s*\]")
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
    """Return whether pip can install the project: it has a setup.py, or a pyproject.toml that describes it.

    Raises:
        UsageError: ``project-unreadable``.
    """
    if find(directory, "setup.py"):
        return True
    try:
        content = input_files.read_bytes(directory / "pyproject.toml", limit=MAX_BYTES)
    except InputFileError as error:
        if error.is_missing:
            return False
        raise error.translated(UsageError, "project-unreadable", "cannot read pyproject.toml") from error
    lines = content.decode("utf-8-sig", "replace").splitlines()
    return any(_DESCRIBES_A_PROJECT.match(line.lstrip()) for line in lines)


def requirement_files(root: Path, first: str) -> list[str]:
    """Return a requirements file and those that it names with ``-r`` and ``-c``, within the project.

    Raises:
        InputFileError: one of them cannot be read.
    """
    found = {first: None}
    pending = [first]
    while pending:
        name = pending.pop(0)
        for line in _text(input_files.read_bytes(root / name, limit=MAX_BYTES)).splitlines():
            match = _OTHER_REQUIREMENTS.match(line.strip())
            if match is None:
                continue
            other = os.path.normpath(PurePosixPath(name).parent / match[1])
            if other not in found and not other.startswith(("../", "/")) and input_files.is_file(root / other):
                found[other] = None
                pending.append(other)
    return list(found)


def has_login(path: Path) -> bool:
    """Return whether a file has a URL with a password or token, other than a variable (``${TOKEN}``).

    Raises:
        InputFileError: it cannot be read.
    """
    content = input_files.read_bytes(path, limit=MAX_BYTES)
    return any(b"${" not in match.group() for match in _LOGIN_IN_URL.finditer(content))


def _text(content: bytes) -> str:
    """Decode a requirements file as pip does: by its byte order mark, else as UTF-8."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    return content.decode("utf-8-sig", "replace")
