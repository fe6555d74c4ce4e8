"""What a container runs: a script or a module of the project's folder."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from caliban.errors import UsageError

_SCANNED_FILES = 2000
"""Enough to find what somebody misspelt; a folder of a million files of data is not read through for a hint."""


@dataclass(frozen=True)
class Package:
    """A script or module, as caliban 0.4.2 records it: the four elements of ``container_specs.spec["package"]``.

    Attributes:
        executable: what runs it: ``("python",)``, ``("python", "-m")`` or ``("/bin/bash",)``.
        package_path: the part of the folder that goes into the image: ``.`` for all of it, or one top folder:
            ``trainer``.
        script_path: the file, relative to the folder: ``cpu.py``, ``trainer/train.py``.
        main_module: the dotted name for ``python -m``; None for a script.
    """

    executable: tuple[str, ...]
    package_path: str
    script_path: str
    main_module: str | None = None

    @property
    def script(self) -> str:
        """The file, as listings name the experiment: ``cpu.py``; ``trainer/train.py`` for ``trainer.train`` as well."""
        return self.script_path

    @property
    def command(self) -> tuple[str, ...]:
        """What the container starts: ``("python", "cpu.py")``, ``("python", "-m", "trainer.train")``."""
        return (*self.executable, self.script_path if self.main_module is None else self.main_module)

    @classmethod
    def parse(cls, module: str, folder: Path) -> Package:
        """Find what MODULE of a command line names.

        A file is run as it is: ``.py`` by ``python``, anything else by ``/bin/bash``, as caliban 0.4.2 does. What
        names no file is taken for a module (``trainer.train``), or for a package with a ``__main__.py``.

        Args:
            module: ``cpu.py``, ``./cpu.py``, ``trainer/train.py``, ``trainer.train``.
            folder: the project's folder.

        Raises:
            UsageError: ``module-not-found`` naming the nearest file or module that is there; ``module-outside-folder``.
        """
        relative = _inside(module, folder)
        if (folder / relative).is_file():
            _refuse_link_out(module, folder, relative)
            executable = ("python",) if relative.suffix == ".py" else ("/bin/bash",)
            return cls(executable, _top(relative), str(relative))
        dotted = ".".join(relative.parts) if (folder / relative).is_dir() else module
        script = _script_of(dotted, folder)
        if script is None:
            raise _not_found(module, folder)
        _refuse_link_out(module, folder, script)
        return cls(("python", "-m"), _top(script), str(script), dotted)


def _inside(module: str, folder: Path) -> PurePosixPath:
    """Turn what was typed into a path relative to the folder, ``..`` and ``./`` taken out."""
    typed = os.path.normpath(folder / module) if module else str(folder)
    try:
        return PurePosixPath(Path(typed).relative_to(os.path.normpath(folder)).as_posix())
    except ValueError as error:
        raise _outside(module) from error


def _refuse_link_out(module: str, folder: Path, script: PurePosixPath) -> None:
    if not (folder / script).resolve().is_relative_to(folder.resolve()):
        raise _outside(module)


def _script_of(dotted: str, folder: Path) -> PurePosixPath | None:
    parts = dotted.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    for candidate in (PurePosixPath(*parts).with_suffix(".py"), PurePosixPath(*parts, "__main__.py")):
        if (folder / candidate).is_file():
            return candidate
    return None


def _top(script: PurePosixPath) -> str:
    return script.parts[0] if len(script.parts) > 1 else "."


def _outside(module: str) -> UsageError:
    return UsageError(
        "module-outside-folder",
        f"{module!r} is not in the project's folder",
        hint="run the command in the folder that holds the code: an image gets files of that folder only",
    )


def _not_found(module: str, folder: Path) -> UsageError:
    if module and (folder / module).is_dir():
        return UsageError(
            "module-not-found",
            f"{module!r} is a folder without a __main__.py",
            hint=_suggestion(
                module, [name for name in _candidates(folder) if name.startswith(Path(module).as_posix())]
            ),
        )
    return UsageError(
        "module-not-found",
        f"there is no script or module {module!r} in {folder}",
        hint=_suggestion(module, list(_candidates(folder))),
    )


def _suggestion(module: str, candidate_names: list[str]) -> str:
    near = difflib.get_close_matches(module, candidate_names, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]}?"
    if candidate_names:
        return f"there are: {', '.join(candidate_names[:5])}"
    return "name a script, such as cpu.py, or a module, such as trainer.train"


def _candidates(folder: Path) -> Iterator[str]:
    """Give the scripts of the folder, each as a path and, below a folder, as a module; the nearest to the top first."""
    waiting = [folder]
    seen = 0
    while waiting and seen < _SCANNED_FILES:
        current = waiting.pop(0)
        try:
            entries = sorted(current.iterdir())
        except OSError:  # a folder that may not be read has nothing to suggest
            continue
        for entry in entries:
            seen += 1
            if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith((".", "__pycache__")):
                waiting.append(entry)
            elif entry.suffix in (".py", ".sh") and entry.name != "__init__.py":
                relative = entry.relative_to(folder)
                yield relative.as_posix()
                if entry.suffix == ".py":
                    yield ".".join(relative.with_suffix("").parts)
