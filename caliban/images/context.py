"""The build context: the files of a project, as a tar stream in the layout that ``caliban.images.dockerfile`` expects.

Nothing is copied to disk: the stream is written while it is sent. Docker's layer cache compares names, modes and
contents, so the order is fixed and the owner is always root; ``COPY --chown`` changes the owner.
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast

from caliban.errors import ImageError
from caliban.images import dockerfile as layout
from caliban.images.secret_files import GENERIC, SecretFiles, SecretFinder
from caliban.images.spec import BuildSpec

if TYPE_CHECKING:
    from docker.utils.build import PatternMatcher

LARGE_CONTEXT = 500 * 1000**2
"""Bytes above which a warning is shown."""

# Before the project's own patterns, so that a pattern with `!` can include any of these.
_DEFAULT_IGNORED = (".git", "**/.git", ".caliban*", "**/__pycache__")
_CHUNK = 256 * 1024
_PACKAGING_FILE = re.compile(
    r"setup\.py|setup\.cfg|pyproject\.toml|MANIFEST\.in|requirements.*\.txt|(README|LICEN[CS]E|COPYING|NOTICE|VERSION).*",
    re.IGNORECASE,
)
_MODULES_FOR_PACKAGING = ("__init__.py", "_version.py", "version.py", "__version__.py", "__about__.py")
_OTHER_REQUIREMENTS = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)(?:\s+|\s*=\s*|(?=\S))(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class ContextFile:
    """A file, directory or link of the context.

    Attributes:
        name: its path in the context.
        path: its path on this machine; None for a directory that has no original.
        size: bytes of content; 0 for directories and links.
        source: its path relative to the project.
    """

    name: str
    path: Path | None
    size: int
    source: str


@dataclass(frozen=True)
class BuildContext:
    """What one build sends to Docker.

    Attributes:
        dockerfile: the text of the Dockerfile.
        files: in the order in which they are sent.
        credentials: the credentials that were left out, relative to the project.
    """

    dockerfile: str
    files: tuple[ContextFile, ...]
    credentials: tuple[str, ...]

    @property
    def size(self) -> int:
        """Total bytes of all files."""
        return sum(file.size for file in self.files)

    def warnings(self) -> list[str]:
        """Return warnings about credentials that were left out, and about a large context."""
        result = [
            f"{name} contains credentials and is not copied into the image; jobs get credentials when they start"
            for name in self.credentials
        ]
        if self.size > LARGE_CONTEXT:
            result.append(
                f"the build context is {_human(self.size)}, the largest parts are {self._largest()}; "
                "add what the image does not need to .dockerignore"
            )
        return result

    def stream(self, sent: Callable[[int], object]) -> Iterator[bytes]:
        """Write the context as a tar archive.

        Args:
            sent: called with the number of bytes of files that were sent; they add up to ``size``.

        Raises:
            ImageError: ``context-unreadable``, ``context-changed``, while the stream is read.
        """
        buffer = bytearray()
        for piece in self._pieces(sent):
            buffer += piece
            if len(buffer) >= _CHUNK:
                yield bytes(buffer)
                buffer.clear()
        yield bytes(buffer)

    def _pieces(self, sent: Callable[[int], object]) -> Iterator[bytes]:
        text = self.dockerfile.encode()
        yield from _member(tarfile.TarInfo(layout.DOCKERFILE), len(text))
        yield text + _padding(len(text))
        for file in self.files:
            yield from _member_of(file, sent)
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _largest(self) -> str:
        sizes: Counter[str] = Counter()
        for file in filter(lambda file: file.size, self.files):
            sizes[PurePosixPath(file.source).parts[0]] += file.size
        return ", ".join(f"{name} ({_human(size)})" for name, size in sizes.most_common(3))


def collect(
    spec: BuildSpec, text: str, environ: Mapping[str, str], secret_files: SecretFiles = GENERIC
) -> BuildContext:
    """Collect the files of the build context.

    It contains the package and the extra directories without what ``.dockerignore`` excludes. ``.git``, ``.caliban*``
    and ``__pycache__`` are excluded unless ``.dockerignore`` includes them. Links are sent as links, never followed.

    Args:
        spec: what is built; its directory must exist.
        text: the Dockerfile.
        environ: the environment variables, some of which may name credentials files.
        secret_files: which files are credentials.

    Raises:
        ImageError: ``context-unreadable``; ``folder-leads-out`` for a link that points outside the project;
            ``script-ignored`` where the script itself would be excluded.
    """
    walk = _Walk(spec.build_path, _Ignored.read(spec.build_path), SecretFinder(secret_files, environ))
    try:
        files = [*_dependency_files(spec, walk)]
        for number, extra in enumerate(spec.extra_dirs):
            files += walk.part(extra, f"{layout.EXTRA}/{number}", exclude=())
        files += walk.part(spec.package.package_path, layout.CODE, exclude=spec.extra_dirs)
    except OSError as error:
        raise _unreadable(error) from error
    packed = (file.source for file in files if file.name.startswith((f"{layout.CODE}/", f"{layout.EXTRA}/")))
    if spec.package.script_path not in packed:
        raise ImageError(
            "script-ignored",
            f"cannot build the image: .dockerignore excludes {spec.package.script_path}",
            hint=f"add the line !{spec.package.script_path} to .dockerignore",
        )
    return BuildContext(text, tuple(files), tuple(sorted(set(walk.credentials))))


class _Ignored:
    """The patterns of ``.dockerignore``, matched by docker-py, which follows the rules of moby."""

    def __init__(self, matcher: PatternMatcher) -> None:
        self._matcher = matcher

    @classmethod
    def read(cls, directory: Path) -> _Ignored:
        from docker.utils.build import PatternMatcher

        try:
            lines = (directory / ".dockerignore").read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise _unreadable(error) from error
        patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        return cls(PatternMatcher([*_DEFAULT_IGNORED, *patterns]))

    def excludes(self, relative: str) -> bool:
        # The type stubs require a path object, the matcher a string.
        return self._matcher.matches(cast("os.PathLike[str]", relative))

    def may_include_below(self, relative: str) -> bool:
        return any(each.exclusion and each.cleaned_pattern.startswith(relative) for each in self._matcher.patterns)


class _Walk:
    """Walks a directory in a fixed order, and records the credentials that it skips."""

    def __init__(self, root: Path, ignored: _Ignored, finder: SecretFinder) -> None:
        self._root = root
        self._ignored = ignored
        self._finder = finder
        self.credentials: list[str] = []

    def part(self, relative: str, name: str, *, exclude: tuple[str, ...]) -> Iterator[ContextFile]:
        """Yield everything below ``relative``, as ``name``/``path in the project``."""
        if not (self._root / relative).resolve().is_relative_to(self._root.resolve()):
            raise _leads_out(relative, self._root, "replace it with the directory itself")
        yield ContextFile(name, None, 0, relative)
        parents = PurePosixPath(relative).parts
        for depth in range(1, len(parents) + 1):
            here = "/".join(parents[:depth])
            yield ContextFile(f"{name}/{here}", (self._root / here).resolve(), 0, here)
        if relative not in exclude and "." not in exclude:
            for entry, source in self.below("" if relative == "." else relative, exclude):
                yield _context_file(entry, f"{name}/{source}", source)

    def below(self, relative: str, exclude: tuple[str, ...] = ()) -> Iterator[tuple[os.DirEntry[str], str]]:
        with os.scandir(self._root / relative) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        for entry in ordered:
            source = f"{relative}/{entry.name}" if relative else entry.name
            is_dir = entry.is_dir(follow_symlinks=False)
            excluded = self._ignored.excludes(source)
            if source in exclude or (excluded and not (is_dir and self._ignored.may_include_below(source))):
                continue
            if self._finder.is_secret(entry):
                self.credentials.append(source)
                continue
            if not excluded:
                yield entry, source
            if is_dir:
                yield from self.below(source, exclude)


def _dependency_files(spec: BuildSpec, walk: _Walk) -> Iterator[ContextFile]:
    """Yield the files that the steps before the code need, whatever ``.dockerignore`` says."""
    root = spec.build_path
    if spec.conda_env_path is not None:
        yield _plain_file(root, spec.conda_env_path, layout.CONDA)
    if spec.requirements_path is not None:
        for name in _requirement_files(root, spec.requirements_path):
            yield _plain_file(root, name, layout.REQUIREMENTS)
    if spec.setup_extras is not None:
        for name in sorted(path.name for path in root.iterdir()):
            if _PACKAGING_FILE.fullmatch(name) and (root / name).is_file():
                yield _plain_file(root, name, layout.PACKAGING)
        for entry, source in walk.below(""):
            if entry.name in _MODULES_FOR_PACKAGING and entry.is_file(follow_symlinks=False):
                yield _context_file(entry, f"{layout.PACKAGING}/{source}", source)


def _requirement_files(root: Path, first: str) -> list[str]:
    """Return a requirements file and those that it names with ``-r`` and ``-c``, within the project."""
    found = [first]
    for name in found:
        content = (root / name).read_text(encoding="utf-8", errors="replace")
        for reference in _OTHER_REQUIREMENTS.findall(content):
            other = os.path.normpath(PurePosixPath(name).parent / reference)
            inside = not other.startswith(("..", "/")) and (root / other).is_file()
            if inside and other not in found:
                found.append(other)
    return found


def _plain_file(root: Path, name: str, part: str) -> ContextFile:
    path = (root / name).resolve(strict=True)
    if not path.is_relative_to(root.resolve()):
        raise _leads_out(name, root, "replace it with a copy of the file")
    return ContextFile(f"{part}/{name}", path, path.stat().st_size, name)


def _context_file(entry: os.DirEntry[str], name: str, source: str) -> ContextFile:
    size = entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
    return ContextFile(name, Path(entry.path), size, source)


def _member_of(file: ContextFile, sent: Callable[[int], object]) -> Iterator[bytes]:
    info = tarfile.TarInfo(file.name)
    if file.path is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        yield from _member(info, 0)
        return
    try:
        found = file.path.lstat()
        info.mode, info.mtime = stat.S_IMODE(found.st_mode), int(found.st_mtime)
        if stat.S_ISREG(found.st_mode):
            yield from _member(info, file.size)
            yield from _content(file, sent)
        elif stat.S_ISDIR(found.st_mode):
            info.type = tarfile.DIRTYPE
            yield from _member(info, 0)
        elif stat.S_ISLNK(found.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, str(file.path.readlink())
            yield from _member(info, 0)
        # Sockets, pipes and devices are left out.
    except OSError as error:
        raise _unreadable(error) from error


def _member(info: tarfile.TarInfo, size: int) -> Iterator[bytes]:
    info.size = size
    yield info.tobuf(format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape")


def _content(file: ContextFile, sent: Callable[[int], object]) -> Iterator[bytes]:
    left = file.size
    with cast("Path", file.path).open("rb") as content:
        while left:
            chunk = content.read(min(left, _CHUNK))
            if not chunk:
                raise ImageError(
                    "context-changed",
                    f"cannot send the build context: {file.source} was truncated while it was read",
                    hint="run the command again when nothing writes to the directory",
                )
            left -= len(chunk)
            yield chunk
            sent(len(chunk))
    yield _padding(file.size)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _leads_out(relative: str, root: Path, remedy: str) -> ImageError:
    return ImageError(
        "folder-leads-out",
        f"cannot build the image: {relative} is a link to a path outside {root}",
        hint=f"{remedy}: images contain files of the project's directory only",
    )


def _unreadable(error: OSError) -> ImageError:
    return ImageError(
        "context-unreadable",
        f"cannot read a file of the build context: {error.filename}",
        cause=error.strerror,
        hint="make it readable, or exclude it in .dockerignore",
    )


def _human(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
