"""What runs a script: by its suffix, or by its first line (``#!``), as the kernel would; or why nothing can run it."""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path, PurePosixPath

from caliban import input_files
from caliban.errors import UsageError
from caliban.input_files import InputFileError, shortened

PYTHON = ("python",)
BASH = ("/bin/bash",)

_HEAD = 4096
_MAX_SOURCE = 4 * input_files.MIB
_PYTHON_SUFFIXES = (".py", ".pyw", ".pyz", ".pyc")
_BASH_SUFFIXES = (".sh", ".bash")
_PROGRAMS = {
    ".r": "Rscript",
    ".jl": "julia",
    ".pl": "perl",
    ".rb": "ruby",
    ".js": "node",
    ".mjs": "node",
    ".lua": "lua",
    ".zsh": "zsh",
    ".ksh": "ksh",
    ".fish": "fish",
    ".tcl": "tclsh",
    ".php": "php",
}
_NOTEBOOK = "convert it to a script: jupyter nbconvert --to script"
_NOT_SCRIPTS = frozenset({"makefile", "gnumakefile", "dockerfile", "containerfile", "snakefile", "license", "readme"})
_SHEBANG = re.compile(r"#!\s*(\S+)\s*(.*)")
_ENV_OPTION = re.compile(r"-S|--split-string=?|-[iv]+|[A-Za-z_]\w*=\S*")
_PYTHON_NAME = re.compile(r"i?python(3(\.\d+)?)?")
_HINT = (
    "give a script such as cpu.py or run.sh, a module such as trainer.train, or a file whose first line names its "
    'program: "#!/usr/bin/env python3"'
)


def interpreter(path: Path, name: PurePosixPath) -> tuple[str, ...]:
    """Return the command that runs a script, without the script's name.

    Python files are run by the image's ``python``, whatever their first line says. A file with any other suffix, or
    none, is run by what its first line names; a shell script without one by bash, as in caliban 0.4.2.

    Args:
        path: the file.
        name: its path relative to the project.

    Raises:
        UsageError: ``script-not-runnable``; ``script-unreadable``.
    """
    suffix = name.suffix.lower()
    if suffix in _PYTHON_SUFFIXES:
        return PYTHON
    if suffix == ".ipynb":
        raise not_runnable(name, "it is a notebook", f"{_NOTEBOOK} {name}")
    head = _head(path, name)
    if found := _shebang(head):
        return found
    if b"\0" in head:
        raise not_runnable(name, "it is a binary file", f'call it from a shell script: ./{name} "$@"')
    if suffix in _BASH_SUFFIXES:
        return BASH
    if suffix in _PROGRAMS:
        return (_PROGRAMS[suffix],)
    if suffix or name.name.lower() in _NOT_SCRIPTS:
        raise not_runnable(name, "neither its suffix nor its first line names a program that runs it", _HINT)
    if _is_python(head.decode("utf-8", "replace")):
        raise not_runnable(
            name, "it is Python without a suffix", 'add the first line "#!/usr/bin/env python3", or the suffix .py'
        )
    return BASH


def not_runnable(name: PurePosixPath, cause: str, hint: str) -> UsageError:
    """Return the error for a file that is no script."""
    return UsageError("script-not-runnable", f'cannot run "{shortened(str(name))}"', cause=cause, hint=hint)


def is_general(executable: tuple[str, ...]) -> bool:
    """Return whether nearly every image has the program: Python or a shell."""
    return PurePosixPath(executable[0]).name in ("python", "bash", "sh")


def relative_import(path: Path) -> str | None:
    """Return a relative import that fails when the file is run as a script: the text of the first, or None.

    Only what is certain counts: an import at the top level of a file that does not handle ``__package__`` itself.
    """
    try:
        source = input_files.read_bytes(path, limit=_MAX_SOURCE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (InputFileError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None  # Python reports it when it runs the file
    if b"__package__" in source:
        return None
    imports = (node for node in tree.body if isinstance(node, ast.ImportFrom) and node.level)
    return next((ast.unparse(node) for node in imports), None)


def _head(path: Path, name: PurePosixPath) -> bytes:
    try:
        return input_files.read_start(path, _HEAD)
    except InputFileError as error:
        raise error.translated(UsageError, "script-unreadable", f"cannot read {name}") from error


def _shebang(head: bytes) -> tuple[str, ...] | None:
    """Return the program of a first line ``#!...`` with its arguments; Python and shells without their directory."""
    first = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    match = _SHEBANG.fullmatch(first)
    if match is None:
        return None
    words = [match[1], *match[2].split()]
    if PurePosixPath(words[0]).name == "env":
        words = words[1:]
        while words and _ENV_OPTION.fullmatch(words[0]):
            words = words[1:]
    if not words or "\0" in "".join(words):
        return None
    program = PurePosixPath(words[0]).name
    if _PYTHON_NAME.fullmatch(program):
        return (*PYTHON, *words[1:])
    if program == "bash":
        return (*BASH, *words[1:])
    if program in ("sh", "dash", "ash"):
        return ("/bin/sh", *words[1:])
    # An absolute path of this machine says little about the image; its PATH has the program, or none does.
    return (program, *words[1:])


def _is_python(text: str) -> bool:
    """Return whether a text without suffix and first line is Python rather than a shell script."""
    whole = text if len(text) < _HEAD else text.rpartition("\n")[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(whole)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return re.search(r"^(import \w+|from [\w.]+ import )", text, re.MULTILINE) is not None
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in tree.body)
