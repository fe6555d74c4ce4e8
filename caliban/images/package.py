"""What a container runs: a script or a module of the project."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from caliban.errors import UsageError
from caliban.images.interpreter import interpreter, relative_import
from caliban.input_files import entry_is_dir, is_dir, is_file, is_inside, shortened

_SCANNED_FILES = 2000
"""Files to search for a suggestion, at most: a directory with a million data files is not read to the end."""


@dataclass(frozen=True)
class Package:
    """A script or module, as caliban 0.4.2 records it: the four elements of ``container_specs.spec["package"]``.

    Attributes:
        executable: what runs it: ``("python",)``, ``("python", "-m")``, ``("/bin/bash",)`` or another program.
        package_path: what is copied into the image: ``.`` for the whole project, or a top-level directory:
            ``trainer``.
        script_path: the file, relative to the project: ``cpu.py``, ``trainer/train.py``.
        main_module: the dotted name for ``python -m``; None for a script.
    """

    executable: tuple[str, ...]
    package_path: str
    script_path: str
    main_module: str | None = None

    @property
    def script(self) -> str:
        """The file, as listings show it: ``cpu.py``; ``trainer/train.py`` for ``trainer.train`` too."""
        return self.script_path

    @property
    def command(self) -> tuple[str, ...]:
        """The entrypoint of the container: ``("python", "cpu.py")``, ``("python", "-m", "trainer.train")``."""
        return (*self.executable, self.script_path if self.main_module is None else self.main_module)

    @classmethod
    def parse(cls, module: str, directory: Path) -> Package:
        """Find the script or module that MODULE on a command line names.

        A file is run by what :func:`caliban.images.interpreter.interpreter` finds. Any other name is a module
        (``trainer.train``), or a package with a ``__main__.py``.

        Args:
            module: ``cpu.py``, ``./cpu.py``, ``trainer/train.py``, ``trainer.train``.
            directory: the project's.

        Raises:
            UsageError: ``module-not-found``, with a similar name as a hint; ``module-outside-folder``;
                ``script-not-runnable``, ``script-unreadable``; ``script-relative-import``.
        """
        relative = _inside(module, directory)
        if is_file(directory / relative):
            _refuse_link_out(module, directory, relative)
            executable = interpreter(directory / relative, relative)
            if executable[0] == "python":
                _refuse_relative_import(directory, relative)
            return cls(executable, _top(relative), str(relative))
        dotted = ".".join(relative.parts) if is_dir(directory / relative) else module
        script = _script_of(dotted, directory)
        if script is None:
            raise _not_found(module, directory)
        _refuse_link_out(module, directory, script)
        return cls(("python", "-m"), _top(script), str(script), dotted)


def _inside(module: str, directory: Path) -> PurePosixPath:
    """Return a path relative to the directory, without ``..`` and ``./``."""
    typed = os.path.normpath(directory / module) if module else str(directory)
    try:
        return PurePosixPath(Path(typed).relative_to(os.path.normpath(directory)).as_posix())
    except ValueError as error:
        raise _outside(module) from error


def _refuse_link_out(module: str, directory: Path, script: PurePosixPath) -> None:
    if not is_inside(directory / script, directory):
        raise _outside(module)


def _refuse_relative_import(directory: Path, script: PurePosixPath) -> None:
    statement = relative_import(directory / script)
    if statement is None:
        return
    parts = script.with_suffix("").parts
    is_module = len(parts) > 1 and script.suffix == ".py" and all(part.isidentifier() for part in parts)
    raise UsageError(
        "script-relative-import",
        f"cannot run {shortened(str(script))} as a script: it has relative imports",
        cause=f'"{statement}" works in modules of a package only',
        hint=f"run it as a module: {'.'.join(parts)}" if is_module else f"remove the dots: {_absolute(statement)}",
    )


def _absolute(statement: str) -> str:
    source, _, names = statement.removeprefix("from ").partition(" import ")
    module = source.lstrip(".")
    return f"from {module} import {names}" if module else f"import {names}"


def _script_of(dotted: str, directory: Path) -> PurePosixPath | None:
    parts = dotted.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    for candidate in (PurePosixPath(*parts).with_suffix(".py"), PurePosixPath(*parts, "__main__.py")):
        if is_file(directory / candidate):
            return candidate
    return None


def _top(script: PurePosixPath) -> str:
    return script.parts[0] if len(script.parts) > 1 else "."


def _outside(module: str) -> UsageError:
    return UsageError(
        "module-outside-folder",
        f'"{shortened(module)}" is outside the project directory',
        hint="run the command in the directory with the code: images contain files of that directory only",
    )


def _not_found(module: str, directory: Path) -> UsageError:
    if module and is_dir(directory / module):
        return UsageError(
            "module-not-found",
            f'"{shortened(module)}" is a directory without a __main__.py',
            hint=_suggestion(
                module, [name for name in _candidates(directory) if name.startswith(Path(module).as_posix())]
            ),
        )
    return UsageError(
        "module-not-found",
        f'script or module not found: "{shortened(module)}" in {directory}',
        hint=_suggestion(module, list(_candidates(directory))),
    )


def _suggestion(module: str, candidate_names: list[str]) -> str:
    near = difflib.get_close_matches(module, candidate_names, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]}?"
    if candidate_names:
        return f"available: {', '.join(candidate_names[:5])}"
    return "give a script such as cpu.py, or a module such as trainer.train"


def _candidates(directory: Path) -> Iterator[str]:
    """Yield each script as a path and, for Python, as a module; top-level directories first."""
    waiting = [directory]
    seen = 0
    while waiting and seen < _SCANNED_FILES:
        current = waiting.pop(0)
        try:
            with os.scandir(current) as found:
                entries = sorted(islice(found, _SCANNED_FILES - seen), key=lambda entry: entry.name)
        except OSError:  # an unreadable directory has nothing to suggest
            continue
        seen += len(entries)
        for entry in entries:
            path = Path(entry.path)
            if entry_is_dir(entry) and not entry.name.startswith((".", "__pycache__")):
                waiting.append(path)
            elif path.suffix in (".py", ".sh") and entry.name != "__init__.py":
                relative = path.relative_to(directory)
                yield relative.as_posix()
                if path.suffix == ".py":
                    yield ".".join(relative.with_suffix("").parts)
