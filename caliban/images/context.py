"""The build context: what of a folder goes to Docker, as a tar stream that ``caliban.images.dockerfile`` fits.

Nothing is copied to disk: the stream is written while it is sent. Docker's layer cache looks at names, modes and
contents, so the order is fixed and the owner is always root; ``COPY --chown`` gives the files to the user.
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
from caliban.images.secret_files import SecretFinder
from caliban.images.spec import BuildSpec

if TYPE_CHECKING:
    from docker.utils.build import PatternMatcher

LARGE_CONTEXT = 500 * 1000**2
"""Bytes from which a context is warned about."""

# Before the project's own patterns, so that its `!` can bring any of these back.
_LEFT_OUT = (".git", "**/.git", ".caliban*", "**/__pycache__")
_CHUNK = 256 * 1024
_PACKAGING_FILE = re.compile(
    r"setup\.py|setup\.cfg|pyproject\.toml|MANIFEST\.in|requirements.*\.txt|(README|LICEN[CS]E|COPYING|NOTICE|VERSION).*",
    re.IGNORECASE,
)
_MODULES_FOR_PACKAGING = ("__init__.py", "_version.py", "version.py", "__version__.py", "__about__.py")
_OTHER_REQUIREMENTS = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)(?:\s+|\s*=\s*|(?=\S))(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class ContextFile:
    """A file, folder or link of the context.

    Attributes:
        name: where it lies in the context.
        path: where it lies here; None for a folder that is only there to be there.
        size: bytes of content; 0 for folders and links.
        source: where it lies in the project, relative to it.
    """

    name: str
    path: Path | None
    size: int
    source: str


@dataclass(frozen=True)
class BuildContext:
    """Everything that one build sends to Docker.

    Attributes:
        dockerfile: the text of the Dockerfile.
        files: in the order in which they are sent.
        credentials: what was kept out as a credential, relative to the folder.
    """

    dockerfile: str
    files: tuple[ContextFile, ...]
    credentials: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def warnings(self) -> list[str]:
        """Say what a person has to know: credentials that stay out, and a context that is too large."""
        result = [
            f"{name} is a credential and stays out of the image; what a job needs is handed to it when it runs"
            for name in self.credentials
        ]
        if self.size > LARGE_CONTEXT:
            result.append(
                f"the build context is {_human(self.size)}; the largest: {self._largest()}. "
                "Name what the image does not need in .dockerignore"
            )
        return result

    def stream(self, sent: Callable[[int], object]) -> Iterator[bytes]:
        """Write the context as a tar archive.

        Args:
            sent: told of the bytes of files as they go; they add up to ``size``.

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


def collect(spec: BuildSpec, text: str, environ: Mapping[str, str]) -> BuildContext:
    """Find what goes into the context of a spec's image.

    The package and the extra folders go in but for what ``.dockerignore`` names; ``.git``, ``.caliban*`` and
    ``__pycache__`` stay out unless it brings them back. Links are sent as links, and never followed.

    Args:
        spec: what is built; its folder has to be there.
        text: the Dockerfile.
        environ: for GOOGLE_APPLICATION_CREDENTIALS.

    Raises:
        ImageError: ``context-unreadable``; ``folder-leads-out`` where a link does; ``script-ignored`` where the script
            itself would stay out.
    """
    walk = _Walk(spec.build_path, _Ignored.of(spec.build_path), SecretFinder(secret_files, environ))
    try:
        files = [*_dependency_files(spec, walk)]
        for number, extra in enumerate(spec.extra_dirs):
            files += walk.part(extra, f"{layout.EXTRA}/{number}", but=())
        files += walk.part(spec.package.package_path, layout.CODE, but=spec.extra_dirs)
    except OSError as error:
        raise _unreadable(error) from error
    packed = (file.source for file in files if file.name.startswith((f"{layout.CODE}/", f"{layout.EXTRA}/")))
    if spec.package.script_path not in packed:
        raise ImageError(
            "script-ignored",
            f"the image would not hold {spec.package.script_path}: .dockerignore leaves it out",
            hint=f"add the line !{spec.package.script_path} to .dockerignore",
        )
    return BuildContext(text, tuple(files), tuple(sorted(set(walk.credentials))))


class _Ignored:
    """The patterns of ``.dockerignore``, by docker-py's matcher, which follows moby's rules."""

    def __init__(self, matcher: PatternMatcher) -> None:
        self._matcher = matcher

    @classmethod
    def of(cls, folder: Path) -> _Ignored:
        from docker.utils.build import PatternMatcher

        try:
            lines = (folder / ".dockerignore").read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise _unreadable(error) from error
        patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        return cls(PatternMatcher([*_LEFT_OUT, *patterns]))

    def hides(self, relative: str) -> bool:
        # The stubs ask for a path object, the matcher itself for text.
        return self._matcher.matches(cast("os.PathLike[str]", relative))

    def may_show_below(self, relative: str) -> bool:
        return any(each.exclusion and each.cleaned_pattern.startswith(relative) for each in self._matcher.patterns)


class _Walk:
    """Walks through a folder in a fixed order, and remembers the credentials that it passed by."""

    def __init__(self, folder: Path, ignored: _Ignored, finder: SecretFinder) -> None:
        self._folder = folder
        self._ignored = ignored
        self._finder = finder
        self.credentials: list[str] = []

    def part(self, relative: str, name: str, *, but: tuple[str, ...]) -> Iterator[ContextFile]:
        """Give everything below ``relative``, laid out under ``name`` at its place in the folder."""
        if not (self._folder / relative).resolve().is_relative_to(self._folder.resolve()):
            raise _leads_out(relative, self._folder, "put the folder itself there")
        yield ContextFile(name, None, 0, relative)
        parents = PurePosixPath(relative).parts
        for depth in range(1, len(parents) + 1):
            here = "/".join(parents[:depth])
            yield ContextFile(f"{name}/{here}", (self._folder / here).resolve(), 0, here)
        if relative not in but and "." not in but:
            for entry, source in self.below("" if relative == "." else relative, but):
                yield _context_file(entry, f"{name}/{source}", source)

    def below(self, relative: str, but: tuple[str, ...] = ()) -> Iterator[tuple[os.DirEntry[str], str]]:
        with os.scandir(self._folder / relative) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        for entry in ordered:
            source = f"{relative}/{entry.name}" if relative else entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            hidden = self._ignored.hides(source)
            if source in but or (hidden and not (is_folder and self._ignored.may_show_below(source))):
                continue
            if self._finder.finds(entry):
                self.credentials.append(source)
                continue
            if not hidden:
                yield entry, source
            if is_folder:
                yield from self.below(source, but)


def _dependency_files(spec: BuildSpec, walk: _Walk) -> Iterator[ContextFile]:
    """Give the files that the steps before the code need; they go in whatever ``.dockerignore`` says."""
    folder = spec.build_path
    if spec.conda_env_path is not None:
        yield _plain_file(folder, spec.conda_env_path, layout.CONDA)
    if spec.requirements_path is not None:
        for name in _requirement_files(folder, spec.requirements_path):
            yield _plain_file(folder, name, layout.REQUIREMENTS)
    if spec.setup_extras is not None:
        for name in sorted(path.name for path in folder.iterdir()):
            if _PACKAGING_FILE.fullmatch(name) and (folder / name).is_file():
                yield _plain_file(folder, name, layout.PACKAGING)
        for entry, source in walk.below(""):
            if entry.name in _MODULES_FOR_PACKAGING and entry.is_file(follow_symlinks=False):
                yield _context_file(entry, f"{layout.PACKAGING}/{source}", source)


def _requirement_files(folder: Path, first: str) -> list[str]:
    """Follow ``-r`` and ``-c`` from one requirements file to the next, within the folder."""
    found = [first]
    for name in found:
        content = (folder / name).read_text(encoding="utf-8", errors="replace")
        for reference in _OTHER_REQUIREMENTS.findall(content):
            other = os.path.normpath(PurePosixPath(name).parent / reference)
            inside = not other.startswith(("..", "/")) and (folder / other).is_file()
            if inside and other not in found:
                found.append(other)
    return found


def _plain_file(folder: Path, name: str, part: str) -> ContextFile:
    path = (folder / name).resolve(strict=True)
    if not path.is_relative_to(folder.resolve()):
        raise _leads_out(name, folder, "put a copy of the file itself there")
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
        # Sockets, pipes and devices are no part of a project.
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
                    f"the build context could not be sent: {file.source} became shorter meanwhile",
                    hint="run the command again when nothing writes to the folder",
                )
            left -= len(chunk)
            yield chunk
            sent(len(chunk))
    yield _padding(file.size)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _leads_out(relative: str, folder: Path, remedy: str) -> ImageError:
    return ImageError(
        "folder-leads-out",
        f"the image cannot be built: {relative} is a link that leads out of {folder}",
        hint=f"{remedy}: an image gets files of the project's folder only",
    )


def _unreadable(error: OSError) -> ImageError:
    return ImageError(
        "context-unreadable",
        f"the build context cannot be read: {error.filename}",
        cause=error.strerror,
        hint="make it readable; what the image does not need can be named in .dockerignore",
    )


def _human(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
