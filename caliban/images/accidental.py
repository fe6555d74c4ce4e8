"""Find what is probably in an image by accident: virtual environments, data, checkpoints, links that lead nowhere."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from caliban.images.context_stream import ContextFile

LARGE = 100 * 1000**2
"""Bytes of a directory or file that may be meant to be in the image, from which on it is mentioned."""

NOTICEABLE = 10 * 1000**2
"""Bytes of a directory that no image needs, from which on it is mentioned."""

MANY_FILES = 5000
"""Files of such a directory, from which on it is mentioned."""

_NEARLY_ALL = 0.9
_SHOWN = 8
_SHOWN_LINKS = 5
_UNNEEDED = {
    **dict.fromkeys((".venv", "venv", ".virtualenv", ".conda"), "a virtual environment"),
    **dict.fromkeys((".git", ".hg", ".svn", ".bzr", ".jj"), "the history of versions"),
    "node_modules": "packages of Node.js",
    **dict.fromkeys(("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"), "a cache"),
    **dict.fromkeys((".tox", ".nox", ".eggs", ".cache", ".hypothesis", ".gradle", ".terraform"), "a cache"),
    **dict.fromkeys(("wandb", "mlruns", "lightning_logs", ".neptune", ".aim", ".dvc"), "records of earlier runs"),
}
"""Names of directories that no image needs -> what they are."""

_ENVIRONMENT_MARKERS = ("pyvenv.cfg", "conda-meta/history")
_CHECKPOINT = re.compile(r".*\.(?:pt|pth|ckpt|safetensors|h5|hdf5|onnx|gguf|pkl|joblib|keras)")
_SYSTEM = ("/usr/", "/bin/", "/sbin/", "/lib", "/etc/", "/dev/", "/proc/", "/sys/", "/opt/", "/run/")
_SPECIAL = re.compile(r"([*?\[\]\\^|{}]|^[!#])")


@dataclass(frozen=True)
class Accident:
    """A directory or file.

    Attributes:
        path: relative to the project.
        size: its bytes.
        what: what it is, in a few words; "" where only its size is known.
    """

    path: str
    size: int
    what: str = ""

    @property
    def ignore_line(self) -> str:
        """The line of ``.dockerignore`` that leaves it out."""
        return _SPECIAL.sub(r"\\\1", self.path)


def accidents(files: Sequence[ContextFile], script: str) -> list[Accident]:
    """Return the directories and files that are probably not needed, the largest first.

    Args:
        files: the files of the context.
        script: what the image runs, which is needed.
    """
    tree = _Tree(files)
    found = [*tree.unneeded(), *tree.large(script)]
    return sorted(found, key=lambda each: (-each.size, each.path))


def size_warning(files: Sequence[ContextFile], script: str) -> str | None:
    """Return a warning that names what is probably not needed, with sizes and the lines that leave it out; or None."""
    found = accidents(files, script)
    total = sum(file.size for file in files)
    if not found:
        return None
    shown = ", ".join(_described(each) for each in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    lines = ", ".join(f'"{each.ignore_line}"' for each in found[:_SHOWN])
    return (
        f"the build context is {human(total)}, with {shown}{more}; if the job does not need "
        f"{'it' if len(found) == 1 else 'them'}, add {'this line' if len(found) == 1 else 'these lines'} to "
        f".dockerignore: {lines}"
    )


def link_warning(files: Sequence[ContextFile], root: Path) -> str | None:
    """Return a warning that names the links whose targets are not in the image; or None."""
    known = {file.source for file in files}
    found = [f"{file.source} -> {target}" for file in files if (target := _lost_target(file, root, known)) is not None]
    if not found:
        return None
    shown = ", ".join(found[:_SHOWN_LINKS])
    more = f" and {len(found) - _SHOWN_LINKS} more" if len(found) > _SHOWN_LINKS else ""
    one = len(found) == 1
    return (
        f"{'this link leads' if one else 'these links lead'} to nothing in the image, which has files of the project "
        f"only: {shown}{more}; mount what the job reads, or copy it into the project"
    )


def _lost_target(file: ContextFile, root: Path, known: set[str]) -> str | None:
    """Return the target of a link that works on this machine and not in the image; None for all other files."""
    if not file.is_link or set(PurePosixPath(file.source).parent.parts) & _UNNEEDED.keys():
        return None
    try:
        target = str(file.original.readlink())
        real = os.path.realpath(file.original)
        if not os.path.lexists(real) or (target.startswith("/") and real.startswith(_SYSTEM)):
            return None
        inside = os.path.relpath(real, os.path.realpath(root))
    except (OSError, ValueError):  # it has changed meanwhile, or leads to where nobody may look
        return None
    # the project's directory has another name in the image
    stays = not target.startswith("/") and not os.path.normpath(f"{file.source}/../{target}").startswith("..")
    return None if stays and (inside == "." or inside in known) else target


class _Tree:
    """The sizes of all directories and files; those of a directory that no image needs count for it alone."""

    def __init__(self, files: Sequence[ContextFile]) -> None:
        copied = [file for file in files if file.name.startswith(("code/", "extra/")) and file.source != "."]
        self._unneeded = dict(_unneeded(copied))
        self._sizes: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._children: dict[str, dict[str, None]] = {}
        for file in copied:
            self._add(file)

    def _add(self, file: ContextFile) -> None:
        path = next((each for each in _with_parents(file.source) if each in self._unneeded), None)
        if path is not None:
            self._sizes[path] += file.size
            self._counts[path] += not file.is_directory
            return
        path = file.source
        while path:
            self._sizes[path] += file.size
            parent = path.rpartition("/")[0]
            self._children.setdefault(parent, {})[path] = None
            path = parent

    def unneeded(self) -> Iterator[Accident]:
        """Yield the directories that no image needs."""
        for path, what in self._unneeded.items():
            if self._sizes[path] >= NOTICEABLE or self._counts[path] >= MANY_FILES:
                yield Accident(path, self._sizes[path], what)

    def large(self, script: str) -> Iterator[Accident]:
        """Yield what is large: directories without the script, or what makes up nearly all of them."""
        pending = [""]
        while pending:
            for each in self._children.get(pending.pop(), ()):
                size = self._sizes[each]
                if size < LARGE or each == script:
                    continue
                main_part = max((self._sizes[child] for child in self._children.get(each, ())), default=0)
                if script.startswith(f"{each}/") or main_part >= max(LARGE, _NEARLY_ALL * size):
                    pending.append(each)
                else:
                    yield Accident(each, size, "a checkpoint" if _CHECKPOINT.fullmatch(each.lower()) else "")


def _unneeded(files: Sequence[ContextFile]) -> Iterator[tuple[str, str]]:
    """Yield the directories that no image needs, and what they are."""
    for file in files:
        if file.is_directory:
            what = _UNNEEDED.get(PurePosixPath(file.source).name)
            if what is not None:
                yield file.source, what
            continue
        for marker in _ENVIRONMENT_MARKERS:
            if file.source.endswith(f"/{marker}"):
                yield file.source.removesuffix(f"/{marker}"), "a virtual environment"


def _with_parents(path: str) -> Iterator[str]:
    """Yield the directories above a path from the top, then the path."""
    parts = path.split("/")
    return ("/".join(parts[: depth + 1]) for depth in range(len(parts)))


def _described(each: Accident) -> str:
    return f"{each.path} ({human(each.size)}{', ' if each.what else ''}{each.what})"


def human(size: float) -> str:
    """Return a number of bytes as people write it: ``12.3 GB``."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
