"""The build context: the files of a project, as a tar stream in the layout that ``caliban.images.dockerfile`` expects.

Nothing is copied to disk: the stream is written while it is sent. Docker's layer cache compares names, modes and
contents, so the order is fixed and the owner is always root; ``COPY --chown`` changes the owner.
"""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from caliban.config import CONFIG_FILE
from caliban.errors import ImageError
from caliban.images import parts as layout
from caliban.images.accidental import human, link_warning, size_warning
from caliban.images.context_stream import ContextFile, Observer, member, member_of, not_readable, padding, unreadable
from caliban.images.dependency_plan import DependencyPlan, PlannedFile, Project, plan_dependencies
from caliban.images.dockerignore import Ignored, Verdict
from caliban.images.generated_file import GeneratedFile
from caliban.images.links import leads_out
from caliban.images.secret_files import GENERIC, SecretFiles
from caliban.images.secret_finder import SecretFinder
from caliban.images.spec import BuildSpec
from caliban.input_files import InputFileError, is_file, is_inside

LARGE_CONTEXT = 500 * 1000**2
"""Bytes above which a warning is shown."""

MAX_ENTRIES = 500_000
"""Files and directories that are looked at, at most."""

_SHOWN_CREDENTIALS = 20

_CHUNK = 256 * 1024
_MODULES_FOR_PACKAGING = ("__init__.py", "_version.py", "version.py", "__version__.py", "__about__.py")


@dataclass(frozen=True)
class BuildContext:
    """What one build sends to Docker.

    Attributes:
        dockerfile: the text of the Dockerfile.
        files: in the order in which they are sent.
        credentials: what was left out, and what each is: ``{".env": "environment variables with secrets"}``; by paths
            relative to the project.
        partly_searched: how many files were only partly searched for credentials, since there are so many.
        logins: the files of dependencies that have a password in a URL.
        accidents: warnings about what is probably in it by accident.
    """

    dockerfile: str
    files: tuple[ContextFile, ...]
    credentials: Mapping[str, str]
    partly_searched: int = 0
    logins: tuple[str, ...] = ()
    accidents: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Total bytes of all files."""
        return sum(file.size for file in self.files)

    def warnings(self) -> list[str]:
        """Return warnings about credentials that were left out, and about a large context."""
        result = [
            f"{name} is not copied into the image: it is {self.credentials[name]}; if it has to be in the image, add "
            f'"{name}" to "include_credentials" in {CONFIG_FILE}'
            for name in sorted(self.credentials)[:_SHOWN_CREDENTIALS]
        ]
        if len(self.credentials) > _SHOWN_CREDENTIALS:
            result.append(f"{len(self.credentials) - _SHOWN_CREDENTIALS} more files with credentials are not copied")
        result += [
            f"{name} has a URL with a password or token, which becomes part of the image" for name in self.logins
        ]
        if self.partly_searched:
            result.append(
                f"only the beginnings of {self.partly_searched} files were searched for credentials; "
                "add directories with data to .dockerignore"
            )
        return result + self.size_warnings()

    def size_warnings(self) -> list[str]:
        """Return warnings about what is probably in the context by accident, or about its size."""
        if self.size <= LARGE_CONTEXT or any(each.startswith("the build context") for each in self.accidents):
            return list(self.accidents)
        return [
            *self.accidents,
            f"the build context is {human(self.size)}, the largest parts are {self._largest()}; "
            "add what the image does not need to .dockerignore",
        ]

    def stream(self, sent: Callable[[int], object], observer: Observer | None = None) -> Iterator[bytes]:
        """Write the context as a tar archive.

        Args:
            sent: called with the number of bytes of files that were sent; they add up to ``size``.
            observer: sees what is sent.

        Raises:
            ImageError: ``context-unreadable``, ``context-changed``, while the stream is read.
        """
        buffer = bytearray()
        for piece in self._pieces(sent, observer):
            buffer += piece
            if len(buffer) >= _CHUNK:
                yield bytes(buffer)
                buffer.clear()
        yield bytes(buffer)

    def _pieces(self, sent: Callable[[int], object], observer: Observer | None) -> Iterator[bytes]:
        if observer:
            observer.start()
        text = self.dockerfile.encode()
        yield from member(tarfile.TarInfo(layout.DOCKERFILE), len(text))
        yield text + padding(len(text))
        for file in self.files:
            if isinstance(file, GeneratedFile):
                yield from file.pieces(sent, observer)
            else:
                yield from member_of(file, sent, observer)
        if observer:
            observer.finish()
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _largest(self) -> str:
        sizes: Counter[str] = Counter()
        for file in filter(lambda file: file.size, self.files):
            sizes[PurePosixPath(file.source).parts[0]] += file.size
        return ", ".join(f"{name} ({human(size)})" for name, size in sizes.most_common(3))


def collect(
    spec: BuildSpec,
    text: str,
    environ: Mapping[str, str],
    secret_files: SecretFiles = GENERIC,
    on_file: Callable[[], object] = lambda: None,
    plan: DependencyPlan | None = None,
) -> BuildContext:
    """Collect the files of the build context.

    It contains the package and the extra directories without what ``.dockerignore`` excludes. ``.git``, ``.caliban*``
    and ``__pycache__`` are excluded unless ``.dockerignore`` includes them. Links are sent as links, never followed.

    Args:
        spec: what is built; its directory must exist.
        text: the Dockerfile.
        environ: the environment variables, some of which may name credentials files.
        secret_files: which files are credentials.
        on_file: called for each file and directory that is looked at.
        plan: which dependencies are installed when; None to read it from the project's files.

    Raises:
        ImageError: ``context-unreadable``, ``too-many-files``; ``folder-leads-out`` for a link that points outside the
            project; ``script-ignored``, ``dependency-file-is-credential`` where what the image needs would be left out.
    """
    finder = SecretFinder(secret_files, environ, spec.config.include_credentials)
    walk = _Walk(spec.build_path, Ignored.read(spec.build_path), finder, on_file)
    try:
        plan = plan or plan_dependencies(spec)
        files = [*_dependency_files(spec, plan, walk)]
        logins = [file.name for file in plan.files if file.has_login(spec.build_path)]
        for number, extra in enumerate(spec.extra_dirs):
            files += walk.part(extra, f"{layout.EXTRA}/{number}", exclude=())
        package = "." if plan.is_late else spec.package.package_path
        files += walk.part(package, layout.CODE, exclude=spec.extra_dirs)
        files += _beside_the_code(spec.build_path, plan, files, walk)
    except OSError as error:
        raise unreadable(error) from error
    except InputFileError as error:
        raise not_readable(error) from error
    _check_script(spec.package.script_path, files, walk.credentials)
    script = spec.package.script_path
    accidents = filter(None, (size_warning(files, script), link_warning(files, spec.build_path)))
    return BuildContext(
        text, tuple(files), walk.credentials, finder.partly_searched, tuple(logins), accidents=tuple(accidents)
    )


def paths_sent(root: Path, ignored: Ignored) -> Iterator[str]:
    """Yield the paths of a directory that ``.dockerignore`` does not exclude, credentials included.

    Args:
        root: the directory.
        ignored: the patterns.

    Raises:
        ImageError: ``dockerignore-malformed``, ``too-many-files``.
    """
    walk = _Walk(root, ignored, SecretFinder(SecretFiles(), {}), lambda: None)
    return (source for _, source in walk.below(""))


def _check_script(script: str, files: Sequence[ContextFile], credentials: Mapping[str, str]) -> None:
    """Check that the image will have the script.

    Raises:
        ImageError: ``script-ignored``.
    """
    if any(file.source == script and file.name.startswith((f"{layout.CODE}/", f"{layout.EXTRA}/")) for file in files):
        return
    secret = next((name for name in credentials if f"{script}/".startswith(f"{name}/")), None)
    if secret is None:
        reason, hint = f".dockerignore excludes {script}", f"add the line !{script} to .dockerignore"
    else:
        reason = f"{secret} is not copied: it is {credentials[secret]}"
        hint = f'if it has to be in the image, add "{secret}" to "include_credentials" in {CONFIG_FILE}'
    raise ImageError("script-ignored", f"cannot build the image: {reason}", hint=hint)


@dataclass
class _Level:
    """A directory on the way.

    Attributes:
        entries: what it has, as far as it was not yielded.
        verdict: whether it is excluded.
        unyielded: itself, where it is excluded and nothing in it was included so far.
    """

    entries: Iterator[tuple[os.DirEntry[str], str]]
    verdict: Verdict
    unyielded: tuple[os.DirEntry[str], str] | None = None


def _not_yet_yielded(levels: Sequence[_Level]) -> Iterator[tuple[os.DirEntry[str], str]]:
    for level in levels:
        if level.unyielded is not None:
            yield level.unyielded
            level.unyielded = None


class _Walk:
    """Walks directories in a fixed order, and records the credentials that it skips."""

    def __init__(self, root: Path, ignored: Ignored, finder: SecretFinder, on_file: Callable[[], object]) -> None:
        self._root = root
        self._on_file = on_file
        self._ignored = ignored
        self._finder = finder
        self._seen = 0
        self.credentials: dict[str, str] = {}

    def part(self, relative: str, name: str, *, exclude: tuple[str, ...]) -> Iterator[ContextFile]:
        """Yield everything below ``relative``, as ``name``/``path in the project``."""
        if not is_inside(self._root / relative, self._root):
            raise leads_out(relative, self._root, "replace it with the directory itself")
        yield ContextFile(name, None, 0, relative)
        parents = PurePosixPath(relative).parts
        for depth in range(1, len(parents) + 1):
            here = "/".join(parents[:depth])
            if self.is_credentials_directory(self._root / here, here):
                return
            yield ContextFile(f"{name}/{here}", Path(os.path.realpath(self._root / here)), 0, here, True)
        if relative not in exclude and "." not in exclude:
            for entry, source in self.below("" if relative == "." else relative, exclude):
                yield _context_file(entry, f"{name}/{source}", source)

    def below(self, relative: str, exclude: tuple[str, ...] = ()) -> Iterator[tuple[os.DirEntry[str], str]]:
        """Yield everything below a directory, depth first. Links are not followed.

        A directory that is excluded is yielded before the first file in it that is included, as BuildKit does.
        """
        pending = [_Level(self._entries(relative), self._ignored.verdict_of(relative))]
        while pending:
            entry, source = next(pending[-1].entries, (None, ""))
            if entry is None:
                pending.pop()
                continue
            self._on_file()
            level = None if source in exclude else self._level(entry, source, pending[-1].verdict)
            if level is None:
                continue
            if not level.verdict.excluded:
                yield from _not_yet_yielded(pending)
                yield entry, source
            pending.append(level)

    def _level(self, entry: os.DirEntry[str], source: str, above: Verdict) -> _Level | None:
        """Return an entry that is included, or in which something may be; None for any other."""
        verdict = self._ignored.verdict(source, above)
        try:
            is_dir = entry.is_dir(follow_symlinks=False)
            if verdict.excluded and not (is_dir and self._ignored.may_include_below(source)):
                return None
            if self._is_secret(entry, source):
                return None
            return _Level(
                self._entries(source) if is_dir else iter(()),
                verdict,
                (entry, source) if verdict.excluded else None,
            )
        except PermissionError:
            if verdict.excluded:  # BuildKit does not mind an excluded directory that nobody may read
                return None
            raise

    def is_credentials_directory(self, path: Path, source: str) -> bool:
        """Return whether a directory is left out whole."""
        return self._record(source, self._finder.find_directory(path, source))

    def is_credential(self, path: Path, source: str) -> bool:
        """Return whether a file is left out."""
        return self._record(source, self._finder.find_file(path, source))

    def _is_secret(self, entry: os.DirEntry[str], source: str) -> bool:
        path = Path(entry.path)
        if self.is_credentials_directory(path, source):
            return True
        return not entry.is_dir(follow_symlinks=False) and self.is_credential(path, source)

    def _record(self, source: str, found: str | None) -> bool:
        if found is not None:
            self.credentials[source] = found
        return found is not None

    def _entries(self, relative: str) -> Iterator[tuple[os.DirEntry[str], str]]:
        with os.scandir(self._root / relative) as entries:
            ordered = sorted(islice(entries, MAX_ENTRIES + 1 - self._seen), key=lambda entry: entry.name)
        self._seen += len(ordered)
        if self._seen > MAX_ENTRIES:
            raise ImageError(
                "too-many-files",
                f"cannot build the image: {self._root} has more than {MAX_ENTRIES:,} files and directories",
                hint="exclude directories with data in .dockerignore; mount them, or read them from a bucket",
            )
        return ((entry, f"{relative}/{entry.name}" if relative else entry.name) for entry in ordered)


def _dependency_files(spec: BuildSpec, plan: DependencyPlan, walk: _Walk) -> Iterator[ContextFile]:
    """Yield the files that the steps before the code need, whatever ``.dockerignore`` says."""
    root = spec.build_path
    seen = set()
    for planned in plan.files:
        name = f"{planned.part}/{planned.name}"
        seen.add(name)
        is_needed = planned.part != layout.PACKAGING or not is_file(root / planned.name)
        if is_needed or not walk.is_credential(_plain_file(root, planned.name, planned.part).original, planned.name):
            yield _planned_file(root, planned, walk)
    if plan.project is Project.SKELETON:
        for entry, source in walk.below(""):
            name = f"{layout.PACKAGING}/{source}"
            is_module = entry.name in _MODULES_FOR_PACKAGING and entry.is_file(follow_symlinks=False)
            if is_module and name not in seen:
                yield _context_file(entry, name, source)


def _planned_file(root: Path, planned: PlannedFile, walk: _Walk) -> ContextFile:
    """Return a file as it is, or with the content of the plan; it must not be a credential in either case."""
    if is_file(root / planned.name):
        file = _needed_file(root, planned.name, planned.part, walk)
        if planned.content is None:
            return file
    return GeneratedFile.of(f"{planned.part}/{planned.name}", planned.name, planned.content or b"")


def _beside_the_code(
    root: Path, plan: DependencyPlan, files: Sequence[ContextFile], walk: _Walk
) -> Iterator[ContextFile]:
    """Yield the files that pip needs beside the code, and that ``.dockerignore`` excludes."""
    present = {file.source for file in files if file.name.startswith((f"{layout.CODE}/", f"{layout.EXTRA}/"))}
    for name in dict.fromkeys(plan.needed_in_code):
        if name not in present:
            yield _needed_file(root, name, layout.CODE, walk)


def _needed_file(root: Path, name: str, part: str, walk: _Walk) -> ContextFile:
    file = _plain_file(root, name, part)
    if walk.is_credential(file.original, name):
        raise ImageError(
            "dependency-file-is-credential",
            f"cannot build the image: {name} has {walk.credentials[name]}",
            cause="credentials are not copied into images, and this file is needed to install dependencies",
            hint=f'remove the secret from it, or add "{name}" to "include_credentials" in {CONFIG_FILE}',
        )
    return file


def _plain_file(root: Path, name: str, part: str) -> ContextFile:
    path = Path(os.path.realpath(root / name))
    if not is_inside(path, root):
        raise leads_out(name, root, "replace it with a copy of the file")
    return ContextFile(f"{part}/{name}", path, path.stat().st_size, name)


def _context_file(entry: os.DirEntry[str], name: str, source: str) -> ContextFile:
    size = entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
    is_directory = entry.is_dir(follow_symlinks=False)
    return ContextFile(name, Path(entry.path), size, source, is_directory, entry.is_symlink())
