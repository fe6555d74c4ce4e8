"""Read requirements files as pip does: which files, archives and projects of this machine they name.

Paths of ``-r`` and ``-c`` are relative to the file that names them, those of projects and archives to the directory in
which pip runs; ``--find-links`` tries both. Sources: https://pip.pypa.io/en/stable/reference/requirements-file-format/.
"""

from __future__ import annotations

import codecs
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from caliban import input_files
from caliban.input_files import is_dir, is_file, shortened

MAX_BYTES = 4 * input_files.MIB
"""Bytes of such a file, at most."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CODING = re.compile(rb"coding[:=]\s*([-\w.]+)")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_URL = re.compile(r"[A-Za-z][A-Za-z+]{0,20}://[^\s'\"]+")
# pip reads these with optparse, which accepts unambiguous abbreviations: the shortest that is one.
_LONG_OPTIONS = (
    ("requirement", "requirem", "r"),
    ("constraint", "cons", "c"),
    ("editable", "e", "e"),
    ("find-links", "f", "f"),
)
_ARCHIVES = (
    ".whl",
    ".zip",
    ".tar.gz",
    ".tgz",
    ".tar",
    ".tar.bz2",
    ".tbz",
    ".tar.xz",
    ".txz",
    ".tlz",
    ".tar.lz",
    ".tar.lzma",
)


@dataclass(frozen=True)
class LocalName:
    """A path of this machine in a requirements file.

    Attributes:
        source: the file, relative to the project.
        line: the number of its line.
        text: what the line has: ``-e ./libs/common``.
        path: relative to the project; "" for the project itself; may lead out of it.
    """

    source: str
    line: int
    text: str
    path: str

    @property
    def where(self) -> str:
        """The line as messages name it."""
        return f"{self.source}, line {self.line}: {shortened(self.text)}"


@dataclass
class Requirements:
    """What a requirements file, and those that it names, need of this machine.

    Attributes:
        files: the requirements and constraints files, in the order in which pip reads them.
        archives: files that are installed or searched: wheels and source archives, in the project.
        projects: directories that pip builds.
        outside: relative paths that lead out of the project.
        elsewhere: absolute paths, which the base image may have.
        filtered: the content of each file that names projects, without those lines.
        variables: environment variables that pip replaces.
        urls: of indexes and requirements.
    """

    files: list[str] = field(default_factory=list)
    archives: list[str] = field(default_factory=list)
    projects: list[LocalName] = field(default_factory=list)
    outside: list[LocalName] = field(default_factory=list)
    elsewhere: list[LocalName] = field(default_factory=list)
    filtered: dict[str, bytes] = field(default_factory=dict)
    variables: set[str] = field(default_factory=set)
    urls: list[str] = field(default_factory=list)


def read_requirements(root: Path, first: str, text: str | None = None) -> Requirements:
    """Read a requirements file of a project and those that it names.

    Args:
        root: the project; pip is to run here.
        first: the file, relative to the project.
        text: its content, if it is not to be read.

    Raises:
        InputFileError: a file cannot be read.
    """
    found = Requirements(files=[first])
    reader = _Reader(root, found)
    for name in found.files:  # grows
        content = input_files.read_bytes(root / name, limit=MAX_BYTES) if text is None else text.encode()
        text = None
        reader.read(name, content)
    return found


class _Reader:
    def __init__(self, root: Path, found: Requirements) -> None:
        self._root = root
        self._found = found

    def read(self, name: str, content: bytes) -> None:
        text, codec = _decoded(content)
        self._found.variables.update(_VARIABLE.findall(text))
        self._found.urls.extend(_URL.findall(text))
        kept: list[str] = []
        for number, raw, line in _logical_lines(text):
            is_project = self._line(name, number, line)
            kept.append("\n" * raw.count("\n") if is_project else raw)
        if "".join(kept) != text:
            self._found.filtered[name] = "".join(kept).encode(codec, "replace")

    def _line(self, name: str, number: int, line: str) -> bool:
        """Note what a line names, and return whether that is a project."""
        if not line.startswith("-"):
            return self._requirement(LocalName(name, number, line, line), is_editable=False)
        has_project = False
        for letter, value in _options(line):
            named = LocalName(name, number, line, value)
            if letter == "e":
                has_project = self._requirement(named, is_editable=True) or has_project
            elif letter == "f":
                self._links(named)
            else:
                self._file(named)
        return has_project

    def _file(self, named: LocalName) -> None:
        if "://" in named.path and not named.path.startswith("file:"):
            return
        path = self._in_project(named, _file_url_path(named.path), PurePosixPath(named.source).parent)
        if path is not None and path not in self._found.files and is_file(self._root / path):
            self._found.files.append(path)

    def _links(self, named: LocalName) -> None:
        if "://" in named.path and not named.path.startswith("file:"):
            return
        written = _file_url_path(named.path)
        beside = os.path.normpath(PurePosixPath(named.source).parent / written)
        base = PurePosixPath(named.source).parent if os.path.lexists(self._root / beside) else PurePosixPath()
        path = self._in_project(named, written, base)
        if path is None:
            return
        if is_dir(self._root / path):
            with os.scandir(self._root / path) as entries:
                names = sorted(entry.name for entry in entries if entry.is_file())
            self._add_archives(f"{path}/{each}" if path else each for each in names if _is_archive(each, ".html"))
        elif is_file(self._root / path):
            self._add_archives([path])

    def _requirement(self, named: LocalName, *, is_editable: bool) -> bool:
        written = _local_path(named.path, self._root, is_editable=is_editable)
        if written is None:
            return False
        path = self._in_project(named, written, PurePosixPath())
        if path is None:
            return False
        if _is_archive(path) and not is_dir(self._root / path):
            if is_file(self._root / path):
                self._add_archives([path])
            return False
        if not is_dir(self._root / path):
            return False  # pip says so
        self._found.projects.append(LocalName(named.source, named.line, named.text, path))
        return True

    def _add_archives(self, paths: Iterator[str] | Sequence[str]) -> None:
        self._found.archives.extend(path for path in paths if path not in self._found.archives)

    def _in_project(self, named: LocalName, written: str, base: PurePosixPath) -> str | None:
        """Return a path relative to the project; None for one that is not in it."""
        if written.startswith(("/", "~")):
            self._found.elsewhere.append(named)
            return None
        path = os.path.normpath(base / written)
        if path == ".." or path.startswith("../") or not input_files.is_inside(self._root / path, self._root):
            self._found.outside.append(named)
            return None
        return "" if path == "." else path


def _decoded(content: bytes) -> tuple[str, str]:
    """Return a text and its codec: by the byte order mark, a coding comment in the first two lines, or UTF-8."""
    for mark, codec in _BOMS:
        if content.startswith(mark):
            return content.decode(codec, "replace"), codec
    for line in content.split(b"\n", 2)[:2]:
        if line.startswith(b"#") and (match := _CODING.search(line)):
            try:
                return content.decode(match[1].decode(), "replace"), match[1].decode()
            except LookupError:
                break
    return content.decode("utf-8", "replace"), "utf-8"


def _logical_lines(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the number, the text and the content of each line; one that ends with a backslash has the next ones too."""
    raw, joined, first = "", "", 1
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not raw:
            first = number
        raw += line
        bare = line.rstrip("\r\n")
        is_comment = bare.lstrip().startswith("#")
        if bare.endswith("\\") and not is_comment:
            joined += bare[:-1]
            continue
        joined += f" {bare}" if is_comment else bare
        yield first, raw, _without_comment(joined)
        raw = joined = ""
    if raw:
        yield first, raw, _without_comment(joined)


def _without_comment(line: str) -> str:
    """Return a line without the comment, which begins with a # at the beginning or after white space."""
    # Not one pattern: its time would grow with the square of a long run of spaces.
    start = line.find("#")
    while start > 0 and not line[start - 1].isspace():
        start = line.find("#", start + 1)
    return (line if start < 0 else line[:start]).strip()


def _options(line: str) -> Iterator[tuple[str, str]]:
    """Yield the letters of -r, -c, -e and -f in a line, with their values."""
    words = iter(_words(line))
    for word in words:
        if word.startswith("--"):
            name, has_value, value = word[2:].partition("=")
            letter = next(
                (short for long, least, short in _LONG_OPTIONS if long.startswith(name) and name.startswith(least)), ""
            )
        else:
            letter, value = word[1:2], word[2:]
            has_value = value
        if letter and letter in "rcef" and word.startswith("-"):
            yield letter, value if has_value else next(words, "")


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _local_path(requirement: str, root: Path, *, is_editable: bool) -> str | None:
    """Return the path of a requirement that is a file or directory; None for one by name or from the network."""
    text = requirement.strip()
    if text.startswith(("'", '"')):
        text = (_words(text) or [""])[0]
    text = re.split(r"\s--?\w", text, maxsplit=1)[0].strip()
    _, at, url = text.partition("@")
    if at and url.strip().startswith("file:"):
        text = url.strip()
    if text.startswith("file:"):
        return _strip_extras(_file_url_path(re.split(r";\s|\s;", text, maxsplit=1)[0].partition("#")[0]))
    if re.match(r"[\w+.-]+://|(git|hg|svn|bzr)\+", text) or "@ " in text:
        return None
    path = _strip_extras(text.split(";", 1)[0].strip())
    looks_like_path = "/" in path or path.startswith(".")
    if _is_archive(path) or looks_like_path or (is_editable and is_dir(root / path)):
        return path or None
    return None


def _strip_extras(path: str) -> str:
    return path[: path.index("[")].strip() if path.endswith("]") and "[" in path[1:] else path


def _file_url_path(url: str) -> str:
    """Return the path of a ``file:`` URL, which is relative where it has no slash; anything else as it is."""
    if not url.startswith("file:"):
        return url
    try:
        return unquote(urlsplit(url).path) or "."
    except ValueError:
        return url.removeprefix("file:")


def _is_archive(path: str, *more: str) -> bool:
    return path.lower().endswith((*_ARCHIVES, *more))
